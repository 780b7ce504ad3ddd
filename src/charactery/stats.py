"""Estimates: the only way a figure leaves the program. A value, its 95% interval, n, and what is missing."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import stdtrit

Z95 = 1.959963984540054
_NIL = 1e-15  # what is nought but for rounding
NO_WIDTH = "(all alike, no interval)"
DECLINED = "declined"  # how the method of a figure begins that is not given, with the reason


def t95(degrees: float) -> float:
    """The quantile that a two-sided 95% interval takes of Student's t with these degrees of freedom."""
    return float(stdtrit(degrees, 0.975))


@dataclass(frozen=True)
class Estimate:
    """A figure. `value`, `low` and `high` are None where nothing was measured; `missing` counts what had no answer.

    `low` and `high` alone are None where every case came out alike and nothing bounds how far others could lie from it.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    missing: int = 0
    method: str = ""
    unit: str = ""
    scoring: str = (
        ""  # how answers were read, where there is more than one way; figures read differently do not compare
    )

    @property
    def declined(self) -> bool:
        """Whether a figure that was measured is not given, `method` saying why."""
        return self.method.startswith(DECLINED)

    def as_dict(self) -> dict[str, Any]:
        """As JSON carries it."""
        return asdict(self)

    def __str__(self) -> str:
        if self.value is None:
            return f"not measured (n {self.n}, missing {self.missing})"
        unit = f" {self.unit}" if self.unit else ""
        missing = f", {self.missing} missing" if self.missing else ""
        width = NO_WIDTH if self.low is None or self.high is None else f"[{self.low:.3g}, {self.high:.3g}]"
        return f"{self.value:.3g}{unit} {width} (n {self.n}{missing})"


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


def _by_cluster(values: Sequence[float], clusters: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sums of values and counts of them by cluster, each of shape (clusters,)."""
    place = {name: n for n, name in enumerate(dict.fromkeys(clusters))}
    index = np.array([place[name] for name in clusters])
    return np.bincount(index, weights=values, minlength=len(place)), np.bincount(index, minlength=len(place))


def _known(values: Sequence[float | None], clusters: Sequence[str]) -> tuple[list[float], list[str]]:
    rows = [(float(v), c) for v, c in zip(values, clusters, strict=True) if v is not None]
    return [v for v, _ in rows], [c for _, c in rows]


def _spread(sums_C: np.ndarray, counts_C: np.ndarray) -> float:
    """Standard error of a mean over clusters, by its linearisation (Cochran 1977, Sampling Techniques, 6.5)."""
    k, n = len(sums_C), counts_C.sum()
    residual_C = sums_C - sums_C.sum() / n * counts_C
    return float(math.sqrt(k / (k - 1) * (residual_C**2).sum()) / n)


def clustered_rate(
    values: Sequence[float | None], clusters: Sequence[str], unit: str = "", draws: Sequence[int] | None = None
) -> Estimate:
    """Share of true among yes-or-no values that come in clusters: Wilson at the effective sample size.

    With `draws`, each value is the share of true among so many; n counts those, and missing the values. Shares weigh
    alike, so that where they differ in how many they are of, they count for a little less than n.

    That is p(1 - p) over the variance between clusters, never above n, times (z / t)^2 for how few clusters there are
    (Korn & Graubard 1998, Survey Methodology 24). Where every value is alike, nothing says how much clusters differ:
    each then counts once. A plain bootstrap over 15 clusters covers a rate of 0.05 in 0.79 of samples.
    """
    known, mine = _known(values, clusters)
    missing = len(values) - len(known)
    if draws is None and len(set(mine)) == len(known):
        return rate([None if v is None else v > 0 for v in values], unit)
    method = "Wilson, effective n of clusters"
    if len(set(mine)) < 2:
        return nothing(len(values), method, unit)
    each = [1] * len(known) if draws is None else [d for d, v in zip(draws, values, strict=True) if v is not None]
    most = len(known) ** 2 / sum(1 / count for count in each)
    share, effective = _effective(*_by_cluster(known, mine), most)
    low, high = wilson(share * effective, effective)
    return Estimate(share, min(low, share), max(high, share), sum(each), missing, method, unit)


def _effective(sums_C: np.ndarray, counts_C: np.ndarray, most: float = math.inf) -> tuple[float, float]:
    """A share over clusters, and as how many independent yes-or-no values it counts, at most so many."""
    k = len(sums_C)
    share = min(1.0, max(0.0, float(sums_C.sum() / counts_C.sum())))
    varied, error = share * (1 - share), _spread(sums_C, counts_C) ** 2
    if varied < _NIL or (error < _NIL and most == math.inf):
        effective = float(k)
    else:
        effective = min(most, varied / error if error > _NIL else most)
    return share, effective * min(1.0, (Z95 / t95(k - 1)) ** 2)


def clustered_share(values: Sequence[float | None], clusters: Sequence[str], unit: str = "") -> Estimate:
    """Mean of values from 0 to 1 that come in clusters, as `clustered_rate` has it.

    Such values vary less than yes and no do, so they may count for more than they are. Where none varies, each cluster
    counts once; a bootstrap would say that the mean is known exactly.
    """
    known, mine = _known(values, clusters)
    method = "share, Wilson, effective n of clusters"
    if len(set(mine)) < 2:
        return nothing(len(values), method, unit)
    share, effective = _effective(*_by_cluster(known, mine))
    low, high = wilson(share * effective, effective)
    return Estimate(share, min(low, share), max(high, share), len(known), len(values) - len(known), method, unit)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of two columns whose means are nought; 0 where one does not vary."""
    spread = math.sqrt(float((a**2).sum() * (b**2).sum()))
    return float(a @ b) / spread if spread > _NIL else 0.0


def clustered_difference(
    a: Sequence[float | None], b: Sequence[float | None], clusters: Sequence[str], unit: str = ""
) -> Estimate:
    """Mean of a minus b, both from 0 to 1, over rows where both are known and that come in clusters.

    The two Wilson intervals at the effective sample size, put together by how their estimates hang together over
    clusters (Zou & Donner 2008, Statistics in Medicine 27), with Newcombe's continuity correction of that correlation:
    so two subjects that answer alike in every row may still differ a little. A bootstrap of the differences covers as
    few as 5 in 100 where they are rare.
    """
    rows = [(x, y, c) for x, y, c in zip(a, b, clusters, strict=True) if x is not None and y is not None]
    method, missing = "paired shares, Wilson and clusters' correlation", len(a) - len(rows)
    if len({c for *_, c in rows}) < 2:
        return nothing(len(a), method, unit)
    mine = [c for *_, c in rows]
    shares, effective, below, above, residuals, apart = [], [], [], [], [], []
    for values in ([x for x, *_ in rows], [y for _, y, _ in rows]):
        sums_C, counts_C = _by_cluster(values, mine)
        share, n = _effective(sums_C, counts_C, len(rows) if {*values} <= {0, 1} else math.inf)
        low, high = wilson(share * n, n)
        shares.append(share)
        effective.append(n)
        below.append(max(0.0, share - low))
        above.append(max(0.0, high - share))
        residuals.append(sums_C - share * counts_C)
        apart.append(np.array(values) - share)
    varied = math.sqrt(math.prod(share * (1 - share) for share in shares))
    together = _correlation(*residuals) or _correlation(*apart)  # of the rows where clusters do not differ
    if together > 0:
        together = max(0.0, together - 1 / (2 * min(effective) * varied))

    def half(x: float, y: float) -> float:
        return math.sqrt(max(0.0, x * x - 2 * together * x * y + y * y))

    value = shares[0] - shares[1]
    low, high = value - half(below[0], above[1]), value + half(above[0], below[1])
    return Estimate(value, max(-1.0, low), min(1.0, high), len(rows), missing, method, unit)


@lru_cache(maxsize=2)
def _resampled(count: int, seed: int, rounds: int = 2000) -> np.ndarray:
    """How often each of so many clusters is drawn in each round of a bootstrap, of shape (rounds, count).

    The figures of an eval mostly have as many clusters and the same seed, hence the cache.
    """
    index_R_C = np.random.default_rng(seed).integers(0, count, size=(rounds, count))
    index_R_C += count * np.arange(rounds)[:, None]
    return np.bincount(index_R_C.ravel(), minlength=rounds * count).reshape(rounds, count).astype(float)


Scale = tuple[float, float]  # the least and the most that a value can be


def _none_differs(error: float, centre: float) -> bool:
    """Whether a standard error is nought but for rounding."""
    return error <= 1e-9 * max(1.0, abs(centre))


def _all_alike(
    means: Sequence[float], clusters: Sequence[int], scale: Scale | None, n: int, missing: int, unit: str
) -> Estimate:
    """The mean of strata's means, in each of which so many clusters came out alike.

    As many others as Wilson's upper bound of none among those allows may lie anywhere on the scale, in all strata at
    once. Without a scale nothing bounds them.
    """
    centre = float(np.mean(means))
    if scale is None:
        return Estimate(centre, None, None, n, missing, f"mean {NO_WIDTH}", unit)
    others = [wilson(0, count)[1] for count in clusters]
    low, high = (
        float(np.mean([m + share * (end - m) for m, share in zip(means, others, strict=True)])) for end in scale
    )
    method = "every case alike, Wilson's bound of others on the scale"
    return Estimate(centre, low, high, n, missing, method, unit)


def clustered_mean(
    values: Sequence[float | None],
    clusters: Sequence[str],
    seed: int = 0,
    unit: str = "",
    scale: Scale | None = None,
) -> Estimate:
    """Mean of values that come in clusters: bootstrap over 30 clusters and more, Student's t over fewer.

    Where every cluster is alike, both would say that the mean is known exactly. The interval is then what is possible
    on the `scale`, and without a scale there is none.
    """
    known, mine = _known(values, clusters)
    missing = len(values) - len(known)
    sums_C, counts_C = _by_cluster(known, mine) if known else (np.zeros(0), np.zeros(0))
    k = len(sums_C)
    if k < 2 or not np.isfinite(sums_C).all():
        return nothing(len(values), "mean over clusters", unit)
    centre, error = float(sums_C.sum() / counts_C.sum()), _spread(sums_C, counts_C)
    if _none_differs(error, centre):
        return _all_alike([centre], [k], scale, len(known), missing, unit)
    if k >= 30:
        times_R_C = _resampled(k, seed)
        drawn_R = np.einsum("rc,c->r", times_R_C, sums_C) / np.einsum("rc,c->r", times_R_C, counts_C)
        low, high = map(float, np.percentile(drawn_R, [2.5, 97.5]))
        return Estimate(centre, low, high, len(known), missing, "mean, bootstrap", unit)
    half = t95(k - 1) * error
    return Estimate(centre, centre - half, centre + half, len(known), missing, "mean, Student's t", unit)


def balanced_mean(
    values: Sequence[float | None],
    clusters: Sequence[str],
    strata: Sequence[str],
    unit: str = "",
    scale: Scale | None = None,
) -> Estimate:
    """Mean of the strata's means, all weighing alike: what a leaning to one answer adds to one key, another takes.

    Welch and Satterthwaite's degrees of freedom (Satterthwaite 1946, Biometrics Bulletin 2). Every stratum must have
    two clusters and more. Where none of them varies it is as with `clustered_mean`.
    """
    method = "mean of strata, Welch's t"
    means, errors, freedom, n = [], [], [], 0
    for name in dict.fromkeys(strata):
        chosen = [(v, c) for v, c, s in zip(values, clusters, strata, strict=True) if s == name]
        known, mine = _known([v for v, _ in chosen], [c for _, c in chosen])
        sums_C, counts_C = _by_cluster(known, mine) if known else (np.zeros(0), np.zeros(0))
        if len(sums_C) < 2:
            return nothing(len(values), method, unit)
        n += len(known)
        means.append(float(sums_C.sum() / counts_C.sum()))
        errors.append(_spread(sums_C, counts_C))
        freedom.append(len(sums_C) - 1)
    if not means:
        return nothing(len(values), method, unit)
    centre, squares = float(np.mean(means)), np.square(errors)
    if all(_none_differs(error, value) for error, value in zip(errors, means, strict=True)):
        return _all_alike(means, [k + 1 for k in freedom], scale, n, len(values) - n, unit)
    degrees = float(squares.sum() ** 2 / (squares**2 / np.array(freedom)).sum())
    half = t95(degrees) * math.sqrt(squares.sum()) / len(means)
    return Estimate(centre, centre - half, centre + half, n, len(values) - n, method, unit)


def paired_p(differences: Sequence[float], clusters: Sequence[str], seed: int = 0, rounds: int = 9999) -> float | None:
    """Two-sided p of no difference: signs of the clusters' sums turned at random (Fisher's randomisation test).

    None where no cluster differs at all, or there is but one. The least it can say is 1 / (rounds + 1).
    """
    if len({*clusters}) < 2:
        return None
    sums_C, _ = _by_cluster(differences, clusters)
    sums_C = sums_C[sums_C != 0]
    if not len(sums_C):
        return None
    generator = np.random.default_rng(seed)
    signs_R_C = generator.integers(0, 2, size=(rounds, len(sums_C)), dtype=np.int8) * 2 - 1
    as_far = np.abs(signs_R_C @ sums_C) >= abs(sums_C.sum()) - 1e-9
    return float((1 + as_far.sum()) / (1 + rounds))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted for being a family (Holm 1979, Scandinavian Journal of Statistics 6); None stays None."""
    known = sorted((p, n) for n, p in enumerate(values) if p is not None)
    out: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (p, n) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        out[n] = highest
    return out


def kappa(one: Sequence[bool | None], other: Sequence[bool | None], seed: int = 0) -> Estimate:
    """Cohen's kappa of two raters' yes or no, bootstrap over what they rated (Cohen 1960).

    Where all agree, resampling says that nothing varies: the lower bound is then what Wilson's lower bound of the
    agreement leaves over chance.
    """
    rows = [(float(a), float(b)) for a, b in zip(one, other, strict=True) if a is not None and b is not None]

    def reckoned(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        agreed, p, q = (a == b).mean(-1), a.mean(-1), b.mean(-1)
        chance = p * q + (1 - p) * (1 - q)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((agreed - chance) / (1 - chance))

    method, missing = "Cohen's kappa, bootstrap", len(one) - len(rows)
    told = bootstrap([[a for a, _ in rows], [b for _, b in rows]], reckoned, seed, missing=missing, method=method)
    if told.value == 1.0 and told.low in (1.0, None):
        share = float(np.mean([a for a, _ in rows]))
        chance = share**2 + (1 - share) ** 2
        return replace(told, low=(wilson(len(rows), len(rows))[0] - chance) / (1 - chance), high=1.0, method=method)
    return told


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
    says nothing of how it varies. Nor does it where all rounds come out alike: there is no interval then. Efron &
    Tibshirani 1993, ch. 13.
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
    if _none_differs(float(np.ptp(every)), value):
        return Estimate(value, None, None, n, missing, f"{method} {NO_WIDTH}", unit)
    low, high = np.percentile(every, [2.5, 97.5])
    return Estimate(value, float(low), float(high), n, missing, method, unit)


def mean(values: Sequence[float | None], seed: int = 0, unit: str = "") -> Estimate:
    """Mean with Student's t interval below 30 values (the bootstrap is too narrow there), bootstrap from 30 up; with
    none where all are alike."""
    known = [float(v) for v in values if v is not None]
    missing = len(values) - len(known)
    if len(known) < 2:
        return nothing(len(values), "mean", unit)
    if len(known) >= 30:
        return bootstrap([known], lambda x: x.mean(-1), seed, unit=unit, missing=missing, method="mean, bootstrap")
    centre, spread = float(np.mean(known)), float(np.std(known, ddof=1)) / math.sqrt(len(known))
    if _none_differs(spread, centre):
        return Estimate(centre, None, None, len(known), missing, f"mean {NO_WIDTH}", unit)
    half = t95(len(known) - 1) * spread
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


def auc(negative: Sequence[float | None], positive: Sequence[float | None], seed: int = 0) -> Estimate:
    """Probability that a positive scores above a negative, ties half; bootstrap over both groups (2000 rounds).

    None is missing.

    Groups of one are no measurement. Where all positives score above all negatives, or below, every round says the
    same; the bound away from 1 (or 0) is then Wilson's for a rate of as many as the smaller group has.
    """
    low_side, high_side = (np.array([v for v in side if v is not None], float) for side in (negative, positive))
    asked = len(negative) + len(positive)
    if min(len(low_side), len(high_side)) < 2:
        return nothing(asked, "AUC")
    above = (high_side[:, None] > low_side[None, :]) + 0.5 * (high_side[:, None] == low_side[None, :])
    value, n = float(above.mean()), len(low_side) + len(high_side)
    missing = asked - n
    if value in (0.0, 1.0):
        smaller = min(len(low_side), len(high_side))
        low, high = wilson(value * smaller, smaller)
        return Estimate(value, min(low, value), max(high, value), n, missing, "AUC, Wilson with n of the smaller group")
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(2000):
        rows = generator.integers(0, len(high_side), len(high_side))
        columns = generator.integers(0, len(low_side), len(low_side))
        drawn.append(above[np.ix_(rows, columns)].mean())
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high), n, missing, "AUC, bootstrap over both groups")


def grouped_auc(
    negative: Sequence[Sequence[float | None]],
    positive: Sequence[Sequence[float | None]],
    seed: int = 0,
    rounds: int = 2000,
) -> Estimate:
    """The AUC of scores that come in groups (passages of a document): the bootstrap draws whole groups on both sides.

    Of one group a side it is no measurement. `n` counts scores, and None is missing. Where all positives score above
    all negatives, or below, the bound is Wilson's for a rate of as many as the side with fewer groups has.
    """
    known = [[np.array([v for v in group if v is not None], float) for group in side] for side in (negative, positive)]
    low_side, high_side = ([group for group in side if len(group)] for side in known)
    n = sum(map(len, (*low_side, *high_side)))
    missing = sum(map(len, (*negative, *positive))) - n
    if min(len(low_side), len(high_side)) < 2:
        return nothing(n + missing, "AUC")
    sums_P_N = np.array([[_wins(high, low) for low in low_side] for high in high_side])
    high_P, low_N = (np.array([len(g) for g in side], float) for side in (high_side, low_side))
    value = float(sums_P_N.sum() / (high_P.sum() * low_N.sum()))
    if value in (0.0, 1.0):
        smaller = min(len(low_side), len(high_side))
        low, high = wilson(value * smaller, smaller)
        return Estimate(value, min(low, value), max(high, value), n, missing, "AUC, Wilson with n of the fewer groups")
    generator = np.random.default_rng(seed)
    drawn_R_P = generator.multinomial(len(high_P), np.full(len(high_P), 1 / len(high_P)), rounds)
    drawn_R_N = generator.multinomial(len(low_N), np.full(len(low_N), 1 / len(low_N)), rounds)
    won_R = np.einsum("rp,pn,rn->r", drawn_R_P, sums_P_N, drawn_R_N)
    low, high = np.percentile(won_R / ((drawn_R_P @ high_P) * (drawn_R_N @ low_N)), [2.5, 97.5])
    return Estimate(value, float(low), float(high), n, missing, "AUC, bootstrap over both sides' groups")


def _wins(high: np.ndarray, low: np.ndarray) -> float:
    """How many pairs the first wins, ties half."""
    return float((high[:, None] > low[None, :]).sum() + 0.5 * (high[:, None] == low[None, :]).sum())
