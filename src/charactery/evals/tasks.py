"""From an eval to Inspect's task, and from Inspect's log back to scored cases."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace

from inspect_ai import Task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import EvalLog
from inspect_ai.model import GenerateConfig, Model, get_model, model_roles
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, Value, metric, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver

from charactery.errors import CharacteryError
from charactery.evals.asking import METHODS, Reader, get_readings, put_asks, put_readings, readings_in
from charactery.evals.asks import FAILED, Reading
from charactery.evals.definition import BUNDLED, Case, Eval, Scored, case_from_row
from charactery.evals.trust import KAPPA, agreed_with, declined
from charactery.stats import Estimate

GRADER = "grader"  # the role of the judge, as in Inspect's own evals: --model-role grader=MODEL
_KEPT = ("values", "outcome", "scoring", "lost")  # what a log has of a scored case
UNJUDGED = "unjudged"  # where a sample's store says why its judge gave no verdict


def eval_task(eval: Eval, source: str = BUNDLED, data: str = "", method: str = "auto", seed: int = 0) -> Task:
    """The Inspect task of an eval. A sample that fails is counted as missing and stops nothing.

    A judge is put to the labelled set with the first sample, and its figures are shown as far as it agrees.

    Raises CharacteryError for a source or a method that there is not.
    """
    if method not in ("auto", *METHODS):
        raise CharacteryError(f"there is no method {method!r}; there are auto, {', '.join(METHODS)}")
    return task_of(eval, eval.made(source, data), source, method, seed, check=True)


def task_of(
    eval: Eval,
    cases: Sequence[Case],
    source: str = BUNDLED,
    method: str = "auto",
    seed: int = 0,
    agreed: Estimate | None = None,
    check: bool = False,
) -> Task:
    """The same over cases that were made before, with a judge whose kappa is known, or is to be checked.

    Else Inspect shows none of its figures; the samples have its verdicts all the same.
    """
    samples = [
        Sample(id=case.id, input=case.asks[0].messages[-1]["content"], metadata=case.row()) for case in cases
    ]  # fmt: skip
    return Task(
        name=eval.name,
        dataset=MemoryDataset(samples, name=source),
        solver=[_judged_or_less(eval), put_asks(method, seed), _put_to_judge(eval, seed, check)]
        if eval.judging
        else put_asks(method, seed),
        scorer=_scorer(eval, agreed),
        config=GenerateConfig(max_tokens=eval.max_tokens, temperature=eval.temperature, seed=seed),
        version=eval.version,
        fail_on_error=False,
    )


def _judged_or_less(eval: Eval) -> Solver:
    """Without a model in the role of `grader`, takes out of a sample what it alone would read."""

    @solver(name="judged_or_less")
    def judged_or_less() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            if GRADER not in model_roles():
                state.metadata |= eval.without_judge(case_from_row(state.metadata)).row()
            return state

        return solve

    return judged_or_less()


def _put_to_judge(eval: Eval, seed: int, check: bool) -> Solver:
    """Puts what is asked of a judge to the model in the role of `grader`, where there is one.

    What its provider raises takes the verdicts alone: the subject's own readings stand, and are scored. To check it,
    it is asked the labelled set too, once; where its provider fails at that, nothing is known of how it agrees.
    """
    reader, checking, found = Reader(seed=seed), asyncio.Lock(), list[Estimate | None]()

    async def agreed(judge: Model) -> Estimate | None:
        assert eval.judging is not None
        async with checking:  # the first sample asks, the others wait for it
            if not found:
                rows = eval.judging.labelled()
                asks = [replace(row.ask, name=f"labelled {n}") for n, row in enumerate(rows)]
                try:
                    told = await reader(judge, asks)
                except Exception:  # it says so again when it is asked about the sample
                    found.append(None)
                else:
                    verdicts = [None if (choice := told[ask.name].choice) is None else choice == 0 for ask in asks]
                    found.append(agreed_with([row.gold for row in rows], verdicts, seed))
        return found[0]

    @solver(name="put_to_judge")
    def put_to_judge() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            assert eval.judging is not None
            if GRADER in model_roles():
                judge = get_model(role=GRADER)
                if check and (known := await agreed(judge)):
                    state.store.set(KAPPA.name, known.as_dict())
                asks = eval.judging.asks(case_from_row(state.metadata), get_readings(state))
                try:
                    verdicts = await reader(judge, asks)
                except Exception as error:  # whatever a provider raises
                    state.store.set(UNJUDGED, repr(error))
                    verdicts = {ask.name: Reading(FAILED) for ask in asks}
                put_readings(state, asks, verdicts)
            return state

        return solve

    return put_to_judge()


def _scorer(eval: Eval, agreed: Estimate | None) -> Scorer:
    """The eval's `score` as Inspect's scorer, whose metrics are the figures themselves.

    Those of a judge are there where its kappa is known, or was checked on the way.
    """

    @metric(name="figures")
    def figures() -> Metric:
        def reckoned(scores: list[SampleScore]) -> Value:
            cases = [_from_score(case_from_row(one.sample_metadata or {}), one.score) for one in scores]
            checked = next((kept for one in scores if (kept := (one.score.metadata or {}).get(KAPPA.name))), None)
            known = Estimate(**checked) if checked else agreed
            told = [f for f in eval.figures(cases) if not f.metric.detail]
            if known is None:
                return {f.name: f.estimate.value for f in told if not f.metric.judged}
            return {f.name: f.estimate.value for f in declined(told, known)} | {KAPPA.name: known.value}

        return reckoned

    @scorer(metrics=[figures()], name=eval.name)
    def by_score() -> Scorer:
        async def score(state: TaskState, target: Target) -> Score:
            case = case_from_row(state.metadata)
            scored = eval.scored(case, get_readings(state))
            return Score(
                value={
                    name: value for name, value in scored.values.items()
                    if value is not None and not eval.metric(name).detail
                },
                answer=state.output.completion,
                metadata={name: getattr(scored, name) for name in _KEPT} | {KAPPA.name: state.store.get(KAPPA.name)},
            )  # fmt: skip

        return score

    return by_score()


def _from_score(case: Case, score: Score) -> Scored:
    kept = score.metadata or {}
    return Scored(case, **{name: kept[name] for name in _KEPT})


def scored_cases(eval: Eval, log: EvalLog, cases: Sequence[Case]) -> list[Scored]:
    """The cases with what a log says of each; one whose sample failed, or was never reached, has failed as a whole.

    Raises CharacteryError where the task itself stopped, with the reason.
    """
    if log.status != "success" or log.samples is None:
        reason = log.error.message if log.error else log.status
        raise CharacteryError(f"the {eval.name} eval stopped: {reason}", log.location)
    scores = {str(sample.id): next(iter((sample.scores or {}).values()), None) for sample in log.samples}
    return [
        eval.scored(case, None) if (score := scores.get(case.id)) is None else _from_score(case, score)
        for case in cases
    ]


def answered_cases(log: EvalLog) -> list[tuple[Case, dict[str, Reading]]]:
    """The cases of a log that did not fail, with what was read of each."""
    return [(case_from_row(s.metadata), readings_in(s.store)) for s in log.samples or [] if not s.error]


def failures(log: EvalLog) -> list[str]:
    """Why samples of a log failed, the commonest first, each reason once."""
    return _reasons([s.error.message for s in log.samples or [] if s.error])


def unjudged(log: EvalLog) -> list[str]:
    """Why the judge of a log's samples gave no verdict on them, the commonest first, each reason once."""
    return _reasons([str(s.store[UNJUDGED]) for s in log.samples or [] if UNJUDGED in s.store])


def _reasons(errors: Sequence[str]) -> list[str]:
    said = [text.strip().splitlines()[-1] for text in errors if text.strip()]
    plain = [re.sub(r"""^\w+\((['"])(.*)\1\)$""", r"\2", text) for text in said]  # an error's repr, less its class
    return sorted(set(plain), key=plain.count, reverse=True)
