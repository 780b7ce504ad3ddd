"""How far a judge can be trusted with an eval: its agreement with the labelled set, and what is declined below it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from inspect_ai.model import Model

from charactery.errors import CharacteryError
from charactery.evals.asks import Reading
from charactery.evals.controls import quiet
from charactery.evals.definition import Case, Eval, Figure, Metric
from charactery.evals.tasks import failures, scored_cases, task_of
from charactery.stats import DECLINED, Estimate, kappa, nothing

LEAST = 0.4  # a judge's figures are given where the lower bound of kappa reaches this


def agreement(eval: Eval, judge: Model, log_dir: Path, seed: int = 0) -> Estimate:
    """Cohen's kappa of a judge with the eval's labelled set, through Inspect.

    No verdict counts as the wrong one, and is among `missing` too: else a judge that leaves out what is hard passes.

    Raises CharacteryError where its provider fails, with the reason: that says nothing of how well it judges.
    """
    from inspect_ai import eval as inspect_eval

    checking = labelled_eval(eval)
    cases = checking.made()
    [log] = inspect_eval(task_of(checking, cases, seed=seed), model=judge, **quiet(log_dir))
    values = [scored.values["yes"] for scored in scored_cases(checking, log, cases)]
    if why := failures(log):
        raise CharacteryError(f"the judge {judge} of {eval.name} gives no verdict: {why[0]}")
    gold = [bool(case.about["gold"]) for case in cases]
    said = [not right if value is None else value > 0 for value, right in zip(values, gold, strict=True)]
    return replace(kappa(said, gold, seed), missing=values.count(None))


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


def declined(figures: Sequence[Figure], agreed: Estimate | None) -> list[Figure]:
    """Judged figures without their value where the judge agrees too little with the labelled set."""
    if agreed is None or (agreed.low is not None and agreed.low >= LEAST):
        return list(figures)
    return [replace(f, estimate=_declined(f.estimate, agreed)) if f.metric.judged else f for f in figures]


def _declined(estimate: Estimate, agreed: Estimate) -> Estimate:
    low = "unknown" if agreed.low is None else f"{agreed.low:.2f}"
    method = f"{DECLINED}: the judge's kappa has the lower bound {low}, under {LEAST}"
    return replace(nothing(estimate.missing, method, estimate.unit), scoring=estimate.scoring)
