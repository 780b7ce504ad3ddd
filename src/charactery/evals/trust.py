"""How far a judge can be trusted with an eval: its agreement with the labelled set, and what is declined below it."""

from collections.abc import Sequence
from dataclasses import replace

from charactery.evals.definition import Figure, Metric
from charactery.stats import DECLINED, Estimate, kappa, nothing

LEAST = 0.4  # a judge's figures are given where the lower bound of kappa reaches this
KAPPA = Metric("judge's kappa", "the judge's agreement with the eval's labelled set", "mean")


def agreed_with(gold: Sequence[bool], verdicts: Sequence[bool | None], seed: int = 0) -> Estimate:
    """Cohen's kappa of a judge's verdicts with the labels.

    No verdict counts as the wrong one, and is among `missing` too: else a judge that leaves out what is hard passes.
    """
    said = [not right if verdict is None else verdict for verdict, right in zip(verdicts, gold, strict=True)]
    return replace(kappa(said, gold, seed), missing=list(verdicts).count(None))


def declined(figures: Sequence[Figure], agreed: Estimate | None) -> list[Figure]:
    """Judged figures without their value where the judge agrees too little with the labelled set."""
    if agreed is None or (agreed.low is not None and agreed.low >= LEAST):
        return list(figures)
    return [replace(f, estimate=_declined(f.estimate, agreed)) if f.metric.judged else f for f in figures]


def _declined(estimate: Estimate, agreed: Estimate) -> Estimate:
    low = "unknown" if agreed.low is None else f"{agreed.low:.2f}"
    method = f"{DECLINED}: the judge's kappa has the lower bound {low}, under {LEAST}"
    return replace(nothing(estimate.missing, method, estimate.unit), scoring=estimate.scoring)
