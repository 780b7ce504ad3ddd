"""A judge put to an eval's labelled set, as an eval of its own."""

from dataclasses import replace
from pathlib import Path

from inspect_ai.model import Model

from charactery.errors import CharacteryError
from charactery.evals.asks import Reading
from charactery.evals.controls import quiet
from charactery.evals.definition import Case, Eval, Metric
from charactery.evals.inspecting import inspect_eval
from charactery.evals.tasks import failures, scored_cases, task_of
from charactery.evals.trust import agreed_with
from charactery.stats import Estimate


def agreement(eval: Eval, judge: Model, log_dir: Path, seed: int = 0) -> Estimate:
    """Cohen's kappa of a judge with the eval's labelled set, through Inspect.

    Raises CharacteryError where its provider fails, with the reason: that says nothing of how well it judges.
    """

    checking = labelled_eval(eval)
    cases = checking.made()
    [log] = inspect_eval(task_of(checking, cases, seed=seed), model=judge, **quiet(log_dir))
    values = [scored.values["yes"] for scored in scored_cases(checking, log, cases)]
    if why := failures(log):
        raise CharacteryError(f"the judge {judge} of {eval.name} gives no verdict: {why[0]}")
    verdicts = [None if value is None else value > 0 for value in values]
    return agreed_with([bool(case.about["gold"]) for case in cases], verdicts, seed)


def labelled_eval(eval: Eval) -> Eval:
    """The labelled set as an eval of its own, whose subject is the judge."""
    assert eval.judging is not None, f"{eval.name} has no judge"
    asks = eval.judging.labelled()
    cases = [
        Case(f"labelled-{n}", f"labelled-{n}", (replace(row.ask, name="verdict"),), {"gold": row.gold})
        for n, row in enumerate(asks, 1)
    ]

    def score(case: Case, readings: dict[str, Reading]) -> dict[str, float | None]:
        choice = readings["verdict"].choice
        return {"yes": None if choice is None else float(choice == 0)}

    metrics = (Metric("yes", "share of yes"),)
    return Eval(f"{eval.name}-judge", eval.version, eval.folder, lambda *_: cases, score, metrics, ())  # type: ignore[arg-type]
