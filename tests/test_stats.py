"""A 95% interval holds the truth about 95 times in 100, what is missing is counted, and nothing is no number."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from charactery import stats
from charactery.stats import (
    Estimate,
    auc,
    bootstrap,
    grouped_auc,
    mean,
    nothing,
    paired_difference,
    paired_ratio,
    rate,
    wilson,
)

SETS = 400


def coverage(draw: Callable[[np.random.Generator], Estimate], truth: float, sets: int = SETS) -> float:
    """Share of made-up data sets whose interval holds the truth."""
    held = 0
    for seed in range(sets):
        estimate = draw(np.random.default_rng(seed))
        assert estimate.low is not None and estimate.value is not None and estimate.high is not None
        assert estimate.low <= estimate.value <= estimate.high
        held += estimate.low <= truth <= estimate.high
    return held / sets


@pytest.mark.parametrize(("n", "p"), [(20, 0.5), (60, 0.1), (120, 0.95)])
def test_rates_cover(n: int, p: float) -> None:
    assert 0.90 <= coverage(lambda g: rate((g.random(n) < p).tolist()), p, 2000) <= 0.99


@pytest.mark.parametrize("n", [10, 40])
def test_means_cover(n: int) -> None:
    assert 0.90 <= coverage(lambda g: mean(g.normal(3, 2, n).tolist()), 3) <= 0.99


def test_small_means_are_wide_enough() -> None:
    """At five values a percentile bootstrap covers under 85%; Student's t covers."""
    assert 0.925 <= coverage(lambda g: mean(g.normal(3, 2, 5).tolist()), 3, 1000) <= 0.975


def test_paired_differences_cover_and_gain_from_pairing() -> None:
    def draw(g: np.random.Generator) -> Estimate:
        common = g.normal(0, 10, 25)
        return paired_difference((common + g.normal(1, 1, 25)).tolist(), (common + g.normal(0, 1, 25)).tolist())

    assert 0.90 <= coverage(draw, 1) <= 0.99
    wide = draw(np.random.default_rng(0))
    assert wide.high is not None and wide.low is not None and wide.high - wide.low < 2


def test_paired_ratios_cover() -> None:
    def draw(g: np.random.Generator) -> Estimate:
        base = g.gamma(20, 1, 40)
        return paired_ratio((1.2 * base * g.normal(1, 0.05, 40)).tolist(), base.tolist())

    assert 0.90 <= coverage(draw, 1.2) <= 0.99


def test_auc_covers() -> None:
    truth = 0.5 * (1 + math.erf(1 / 2))  # of N(1, 1) over N(0, 1): Φ(1/√2)
    assert 0.90 <= coverage(lambda g: auc(g.normal(0, 1, 25).tolist(), g.normal(1, 1, 40).tolist()), truth, 120) <= 0.99


def test_wilson_is_wilsons() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # statsmodels' proportion_confint(8, 10, .05)
    assert all(wilson(0, n)[0] == 0.0 and wilson(n, n)[1] == 1.0 for n in range(1, 400))
    low, high = wilson(0, 20)
    assert low == 0 and high == pytest.approx(0.1611, abs=1e-4)
    assert wilson(20, 20)[1] == 1


def test_values_are_right() -> None:
    assert rate([True, False, True, True]).value == 0.75
    assert mean([1.0, 2.0, 6.0]).value == 3
    assert paired_difference([3.0, 5.0, 4.0], [1.0, 1.0, 3.0]).value == pytest.approx(7 / 3)
    assert paired_ratio([2.0, 4.0], [1.0, 3.0]).value == 1.5  # of means, not the mean of ratios
    assert auc([0, 1, 1], [1, 2]).value == pytest.approx((1 + 0.5 + 0.5 + 3) / 6)


def test_missing_is_counted_never_scored() -> None:
    assert (rate([True, None, False, None]).n, rate([True, None, False, None]).missing) == (2, 2)
    assert rate([True, None]).value == 1
    some = mean([1.0, None, 3.0])
    assert (some.value, some.n, some.missing) == (2, 2, 1)
    many = mean([None, None, *map(float, range(40))])
    assert (many.n, many.missing, many.value) == (40, 2, 19.5)
    pair = paired_difference([1.0, None, 3.0, 4.0], [0.0, 1.0, None, 1.0])
    assert (pair.n, pair.missing, pair.value) == (2, 2, 2)
    ratio = paired_ratio([2.0, None, 4.0], [1.0, 5.0, 3.0])
    assert (ratio.n, ratio.missing, ratio.value) == (2, 1, 1.5)


@pytest.mark.parametrize(
    ("estimate", "missing"),
    [
        (rate([]), 0),
        (rate([None, None]), 2),
        (mean([]), 0),
        (mean([None]), 1),
        (mean([1.0]), 1),
        (paired_difference([None], [1.0]), 1),
        (paired_ratio([], []), 0),
        (paired_ratio([None], [1.0]), 1),
        (paired_ratio([1.0, 2.0], [0.0, 0.0]), 2),
        (auc([], []), 0),
        (auc([1.0], []), 1),
        (auc([1.0], [2.0]), 2),
        (auc([1.0], [2.0, 3.0]), 3),
        (paired_ratio([1.0], [2.0]), 1),
        (paired_ratio([1.0, None], [2.0, 1.0]), 2),
        (bootstrap([[]], lambda x: x.mean(-1)), 0),
        (bootstrap([[4.0]], lambda x: x.mean(-1)), 1),
        (nothing(3), 3),
    ],
)
def test_nothing_measured_is_no_number(estimate: Estimate, missing: int) -> None:
    assert (estimate.value, estimate.low, estimate.high) == (None, None, None)
    assert estimate.n == 0 and estimate.missing == missing
    assert "not measured" in str(estimate)


def test_groups_wholly_apart_are_not_certain() -> None:
    few, many = [0.0, 1.0, 2.0, 3.0], [float(n) for n in range(10, 50)]
    above, below = auc(few, many), auc(many, few)
    assert (above.value, above.low, above.high) == (1, pytest.approx(wilson(4, 4)[0]), 1)
    assert (below.value, below.low, below.high) == (0, 0, pytest.approx(wilson(0, 4)[1]))
    assert above.n == 44 and "Wilson" in above.method
    wide, narrow = auc(few[:2], many), auc(many, [n + 100 for n in many])
    assert wide.low is not None and narrow.low is not None
    assert wide.low < 0.5 < 0.9 < narrow.low < 1


def test_an_estimate_says_itself_and_opens_again() -> None:
    estimate = Estimate(0.123456, 0.1, 0.2, 40, 2, "Wilson", "nats")
    assert str(estimate) == "0.123 nats [0.1, 0.2] (n 40, 2 missing)"
    assert Estimate(**estimate.as_dict()) == estimate


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=50).tolist()
    assert mean(values, seed=1) == mean(values, seed=1) != mean(values, seed=2)
    assert auc(values[:20], values[20:], 1) == auc(values[:20], values[20:], 1)
    assert stats.bootstrap([values], lambda x: x.mean(-1), 1).value == pytest.approx(np.mean(values))


def shares(yes: int, n: int) -> list[float | None]:
    return [1.0] * yes + [0.0] * (n - yes)


def test_a_difference_of_paired_rates_has_newcombes_interval() -> None:
    """Figures of Newcombe 1998, table II, 36 both, 12 the first alone, 2 the second alone."""
    rows = [(1.0, 1.0)] * 36 + [(1.0, 0.0)] * 12 + [(0.0, 1.0)] * 2 + [(None, 1.0)]
    found = paired_difference([a for a, _ in rows], [b for _, b in rows])
    assert (found.n, found.missing, found.value) == (50, 1, pytest.approx(0.2))
    assert (found.low, found.high) == (pytest.approx(0.0569, abs=1e-4), pytest.approx(0.3404, abs=1e-4))


def test_rates_at_their_ends_have_an_interval() -> None:
    every = paired_difference(shares(60, 60), shares(0, 60))
    assert every.value == 1 and every.low is not None and 0.9 < every.low < 0.95 and every.high == 1
    never = paired_ratio(shares(0, 60), shares(48, 60))
    assert never.value == never.low == 0 and never.high is not None and 0.05 < never.high < 0.15
    few = paired_difference(shares(19, 20), shares(0, 20))
    assert few.high is not None and few.low is not None and 0.6 < few.low < 0.95 < few.high <= 1
    assert paired_ratio(shares(0, 60), shares(0, 60)).value is None
    alike = paired_ratio(shares(60, 60), shares(60, 60))
    assert (
        alike.value == 1 and alike.low is not None and alike.high is not None and alike.low < 0.95 < 1.05 < alike.high
    )


def test_an_auc_of_groups_draws_whole_groups() -> None:
    found = grouped_auc([[1, 2], [3]], [[2, 4], [5]])
    assert found.value == pytest.approx((1.5 + 3 + 3) / 9) and found.n == 6  # 2 beats 1, ties 2, loses to 3
    rng = np.random.default_rng(0)
    low = [(rng.normal() + 0.1 * rng.normal(size=20)).tolist() for _ in range(8)]
    high = [(1 + rng.normal() + 0.1 * rng.normal(size=20)).tolist() for _ in range(8)]
    flat = auc([x for g in low for x in g], [x for g in high for x in g])
    whole = grouped_auc(low, high)
    assert whole.value == pytest.approx(flat.value)
    assert whole.low is not None and whole.high is not None and flat.low is not None and flat.high is not None
    assert whole.high - whole.low > 2 * (flat.high - flat.low)
    turned = grouped_auc(high, low)  # both sides are drawn
    assert turned.low == pytest.approx(1 - whole.high, abs=0.04) and turned.high == pytest.approx(
        1 - whole.low, abs=0.04
    )


def test_an_auc_of_one_group_is_no_measurement_and_a_perfect_one_has_a_bound() -> None:
    assert grouped_auc([[1, 2, 3]], [[4], [5]]).value is None
    perfect = grouped_auc([[1, 2], [3], []], [[4], [5, 6], [7]])
    assert (perfect.value, perfect.high) == (1, 1) and perfect.low is not None and perfect.low < 0.5
