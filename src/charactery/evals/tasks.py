"""From an eval to Inspect's task, and from Inspect's log back to scored cases."""

from collections.abc import Sequence

from inspect_ai import Task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import EvalLog
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, Value, metric, scorer
from inspect_ai.solver import TaskState

from charactery.errors import CharacteryError
from charactery.evals.asking import METHODS, put_asks, reading_from_row
from charactery.evals.definition import BUNDLED, Case, Eval, Scored, case_from_row


def eval_task(eval: Eval, source: str = BUNDLED, data: str = "", method: str = "auto", seed: int = 0) -> Task:
    """The Inspect task of an eval. A sample that fails is counted as missing and stops nothing.

    Raises CharacteryError for a source or a method that there is not.
    """
    if method not in ("auto", *METHODS):
        raise CharacteryError(f"there is no method {method!r}; there are auto, {', '.join(METHODS)}")
    return task_of(eval, eval.made(source, data), source, method, seed)


def task_of(eval: Eval, cases: Sequence[Case], source: str = BUNDLED, method: str = "auto", seed: int = 0) -> Task:
    """The same over cases that were made before."""
    samples = [
        Sample(id=case.id, input=case.asks[0].messages[-1]["content"], metadata=case.row()) for case in cases
    ]  # fmt: skip
    return Task(
        name=eval.name,
        dataset=MemoryDataset(samples, name=source),
        solver=put_asks(method, seed),
        scorer=_scorer(eval),
        config=GenerateConfig(max_tokens=eval.max_tokens, temperature=eval.temperature, seed=seed),
        version=eval.version,
        fail_on_error=False,
    )


def _scorer(eval: Eval) -> Scorer:
    """The eval's `score` as Inspect's scorer, whose metrics are the figures themselves."""

    @metric(name="figures")
    def figures() -> Metric:
        def reckoned(scores: list[SampleScore]) -> Value:
            told = eval.figures([s for one in scores if (s := _from_score(one.score))])
            return {f.name: f.estimate.value for f in told}

        return reckoned

    @scorer(metrics=[figures()], name=eval.name)
    def by_score() -> Scorer:
        async def score(state: TaskState, target: Target) -> Score:
            case = case_from_row(state.metadata)
            told = {name: reading_from_row(row) for name, row in state.store.get("readings").items()}
            scored = eval.scored(case, told)
            return Score(
                value={name: value for name, value in scored.values.items() if value is not None},
                answer=state.output.completion,
                metadata={"case": case.row(), "values": scored.values, "outcome": scored.outcome,
                          "scoring": scored.scoring, "readings": state.store.get("readings")},
            )  # fmt: skip

        return score

    return by_score()


def _from_score(score: Score) -> Scored | None:
    kept = score.metadata
    return Scored(case_from_row(kept["case"]), kept["values"], kept["outcome"], kept["scoring"]) if kept else None


def scored_cases(eval: Eval, log: EvalLog) -> list[Scored]:
    """Every sample of a log as a scored case, in the order of the cases; what failed or was never reached as failed.

    Raises CharacteryError where the task itself stopped, with the reason.
    """
    if log.status != "success" or log.samples is None:
        reason = log.error.message if log.error else log.status
        raise CharacteryError(f"the {eval.name} eval stopped: {reason}", log.location)
    out = []
    for sample in sorted(log.samples, key=lambda s: str(s.id)):
        score = next(iter((sample.scores or {}).values()), None)
        told = _from_score(score) if score is not None else None
        out.append(told or eval.scored(case_from_row(sample.metadata), None))
    return out


def failures(log: EvalLog) -> list[str]:
    """Why samples of a log failed, the commonest first, each reason once."""
    said = [s.error.message.strip().splitlines()[-1] for s in log.samples or [] if s.error and s.error.message.strip()]
    return sorted(set(said), key=said.count, reverse=True)
