"""Estimates: the only way a figure leaves the program. A value, its 95% interval, n, and what is missing."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats as _scipy

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """A figure. `value`, `low` and `high` are None where nothing was measured; `missing` counts what had no answer."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    missing: int = 0
    method: str = ""
    unit: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON carries it."""
        return asdict(self)

    def __str__(self) -> str:
        if self.value is None or self.low is None or self.high is None:
            return f"not measured (n {self.n}, missing {self.missing})"
        unit = f" {self.unit}" if self.unit else ""
        missing = f", {self.missing} missing" if self.missing else ""
        return f"{self.value:.3g}{unit} [{self.low:.3g}, {self.high:.3g}] (n {self.n}{missing})"


def nothing(missing: int = 0, method: str = "", unit: str = "") -> Estimate:
    """The estimate of something that was not measured."""
    return Estimate(None, None, None, 0, missing, method, unit)


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Wilson's 95% score interval for a rate (Wilson 1927, JASA 22). `n` may be an effective sample size above 0."""
    rate = successes / n
    centre = (rate + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(rate * (1 - rate) / n + Z95**2 / (4 * n * n))
    # none and all are bounds themselves, which rounding would miss
    return 0.0 if successes == 0 else max(0.0, centre - half), 1.0 if successes == n else min(1.0, centre + half)


def rate(values: Sequence[bool | None], unit: str = "") -> Estimate:
    """Share of true among independent yes-or-no values; None is missing."""
    known = [v for v in values if v is not None]
    missing = len(values) - len(known)
    if not known:
        return nothing(missing, "Wilson", unit)
    low, high = wilson(sum(known), len(known))
    return Estimate(sum(known) / len(known), low, high, len(known), missing, "Wilson", unit)


def bootstrap(
    columns: Sequence[Sequence[float]],
    statistic: Callable[..., float | np.ndarray],
    seed: int = 0,
    rounds: int = 4000,
    unit: str = "",
    missing: int = 0,
    method: str = "percentile bootstrap",
) -> Estimate:
    """A statistic of paired columns (each of length n) with a percentile bootstrap over rows.

    `statistic` takes arrays of shape (..., n), one per column, and reduces the last axis; it is called once with (n,)
    and in blocks with (rounds, n). Rounds where it is not finite are left out. One row is no measurement: resampling it
    says nothing of how it varies. Efron & Tibshirani 1993, ch. 13.
    """
    arrays = [np.asarray(column, dtype=float) for column in columns]
    n = len(arrays[0])
    if n < 2:
        return nothing(missing + n, method, unit)
    value = float(statistic(*arrays))
    drawn: list[np.ndarray] = []
    generator = np.random.default_rng(seed)
    for _ in range(0, rounds, 500):
        index = generator.integers(0, n, size=(500, n))
        drawn.append(np.asarray(statistic(*(array[index] for array in arrays))))
    every = np.concatenate(drawn)
    every = every[np.isfinite(every)]
    if not math.isfinite(value) or len(every) < rounds / 2:
        return nothing(missing + n, method, unit)
    low, high = np.percentile(every, [2.5, 97.5])
    return Estimate(value, float(low), float(high), n, missing, method, unit)


def mean(values: Sequence[float | None], seed: int = 0, unit: str = "") -> Estimate:
    """Mean with Student's t interval below 30 values (the bootstrap is too narrow there), bootstrap from 30 up."""
    known = [float(v) for v in values if v is not None]
    missing = len(values) - len(known)
    if len(known) < 2:
        return nothing(len(values), "mean", unit)
    if len(known) >= 30:
        return bootstrap([known], lambda x: x.mean(-1), seed, unit=unit, missing=missing, method="mean, bootstrap")
    centre, spread = float(np.mean(known)), float(np.std(known, ddof=1)) / math.sqrt(len(known))
    half = float(_scipy.t.ppf(0.975, len(known) - 1)) * spread
    return Estimate(centre, centre - half, centre + half, len(known), missing, "mean, Student's t", unit)


def paired_difference(a: Sequence[float | None], b: Sequence[float | None], seed: int = 0, unit: str = "") -> Estimate:
    """Mean of a minus b over rows where both are known; of yes-or-no values by Newcombe, which holds at 0 and 1 too."""
    rows = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    if len(rows) > 1 and _yes_or_no(rows):
        low, high = newcombe([(bool(x), bool(y)) for x, y in rows])
        value = float(np.mean([x - y for x, y in rows]))
        return Estimate(value, low, high, len(rows), len(a) - len(rows), "paired rates, Newcombe", unit)
    return mean([None if x is None or y is None else x - y for x, y in zip(a, b, strict=True)], seed, unit)


def _yes_or_no(rows: Sequence[tuple[float, float]]) -> bool:
    return {value for row in rows for value in row} <= {0.0, 1.0}


def newcombe(rows: Sequence[tuple[bool, bool]]) -> tuple[float, float]:
    """95% interval of the difference of two rates on the same rows (Newcombe 1998, Stat Med 17:2635, method 10)."""
    n = len(rows)
    both, first, second, neither = (
        rows.count(cell) for cell in ((True, True), (True, False), (False, True), (False,) * 2)
    )
    p, q = (both + first) / n, (both + second) / n
    (p_low, p_high), (q_low, q_high) = wilson(both + first, n), wilson(both + second, n)
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    together = float(both * neither - first * second)
    together = max(together - n / 2, 0.0) if together > 0 else together
    phi = together / math.sqrt(margins) if margins else 0.0
    down, up = (p - p_low, q_high - q), (p_high - p, q - q_low)
    half_down, half_up = (math.sqrt(max(0.0, x * x - 2 * phi * x * y + y * y)) for x, y in (down, up))
    return max(-1.0, p - q - half_down), min(1.0, p - q + half_up)


def paired_ratio(a: Sequence[float | None], b: Sequence[float | None], seed: int = 0, unit: str = "") -> Estimate:
    """Mean of a over mean of b on the same rows; the interval resamples rows, so that both move together.

    Of yes-or-no values that are all alike on one side, resampling would say that nothing varies: the bounds are then
    the worst that Wilson's intervals of the two rates allow.
    """
    rows = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]

    def ratio(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(x.mean(-1) / y.mean(-1))

    columns = ([float(x) for x, _ in rows], [float(y) for _, y in rows])
    if len(rows) > 1 and _yes_or_no(rows) and any(columns[1]) and any(len({*column}) == 1 for column in columns):
        (low, high), (below, above) = (wilson(float(np.sum(column)), len(rows)) for column in columns)
        value, missing = float(np.sum(columns[0]) / np.sum(columns[1])), len(a) - len(rows)
        return Estimate(value, low / above, high / below, len(rows), missing, "ratio of rates, Wilson's bounds", unit)
    return bootstrap(
        columns, ratio, seed, unit=unit, missing=len(a) - len(rows), method="ratio of means, paired bootstrap"
    )


def auc(negative: Sequence[float], positive: Sequence[float], seed: int = 0) -> Estimate:
    """Probability that a positive scores above a negative, ties half; bootstrap over both groups (2000 rounds).

    Groups of one are no measurement. Where all positives score above all negatives, or below, every round says the
    same; the bound away from 1 (or 0) is then Wilson's for a rate of as many as the smaller group has.
    """
    if min(len(negative), len(positive)) < 2:
        return nothing(len(negative) + len(positive), "AUC")
    low_side, high_side = np.asarray(negative, float), np.asarray(positive, float)
    above = (high_side[:, None] > low_side[None, :]) + 0.5 * (high_side[:, None] == low_side[None, :])
    value, n = float(above.mean()), len(low_side) + len(high_side)
    if value in (0.0, 1.0):
        smaller = min(len(low_side), len(high_side))
        low, high = wilson(value * smaller, smaller)
        return Estimate(value, min(low, value), max(high, value), n, 0, "AUC, Wilson with n of the smaller group")
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(2000):
        rows = generator.integers(0, len(high_side), len(high_side))
        columns = generator.integers(0, len(low_side), len(low_side))
        drawn.append(above[np.ix_(rows, columns)].mean())
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high), n, 0, "AUC, bootstrap over both groups")


def grouped_auc(
    negative: Sequence[Sequence[float]], positive: Sequence[Sequence[float]], seed: int = 0, rounds: int = 2000
) -> Estimate:
    """The AUC of scores that come in groups (passages of a document): the bootstrap draws whole groups on both sides.

    Of one group a side it is no measurement. `n` counts scores. Where all positives score above all negatives, or
    below, the bound is Wilson's for a rate of as many as the side with fewer groups has.
    """
    low_side, high_side = ([np.asarray(g, float) for g in side if len(g)] for side in (negative, positive))
    n = sum(map(len, (*low_side, *high_side)))
    if min(len(low_side), len(high_side)) < 2:
        return nothing(n, "AUC")
    sums_P_N = np.array([[_wins(high, low) for low in low_side] for high in high_side])
    high_P, low_N = (np.array([len(g) for g in side], float) for side in (high_side, low_side))
    value = float(sums_P_N.sum() / (high_P.sum() * low_N.sum()))
    if value in (0.0, 1.0):
        smaller = min(len(low_side), len(high_side))
        low, high = wilson(value * smaller, smaller)
        return Estimate(value, min(low, value), max(high, value), n, 0, "AUC, Wilson with n of the fewer groups")
    generator = np.random.default_rng(seed)
    drawn_R_P = generator.multinomial(len(high_P), np.full(len(high_P), 1 / len(high_P)), rounds)
    drawn_R_N = generator.multinomial(len(low_N), np.full(len(low_N), 1 / len(low_N)), rounds)
    won_R = np.einsum("rp,pn,rn->r", drawn_R_P, sums_P_N, drawn_R_N)
    low, high = np.percentile(won_R / ((drawn_R_P @ high_P) * (drawn_R_N @ low_N)), [2.5, 97.5])
    return Estimate(value, float(low), float(high), n, 0, "AUC, bootstrap over both sides' groups")


def _wins(high: np.ndarray, low: np.ndarray) -> float:
    """How many pairs the first wins, ties half."""
    return float((high[:, None] > low[None, :]).sum() + 0.5 * (high[:, None] == low[None, :]).sum())
