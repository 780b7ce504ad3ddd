"""A 95% interval holds the truth about 95 times in 100, what is missing is counted, and nothing is no number."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from charactery import stats
from charactery.stats import (
    Estimate,
    auc,
    balanced_mean,
    bootstrap,
    clustered_difference,
    clustered_mean,
    clustered_rate,
    clustered_share,
    grouped_auc,
    holm,
    kappa,
    mean,
    nothing,
    paired_difference,
    paired_p,
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


def in_clusters(
    g: np.random.Generator, p: float, clusters: int, size: int, alike: float
) -> tuple[list[float], list[str]]:
    """Yes-or-no values in clusters whose rates differ."""
    of_cluster = g.beta(p * (1 / alike - 1), (1 - p) * (1 / alike - 1), clusters)
    values = (g.random((clusters, size)) < of_cluster[:, None]).astype(float)
    return values.ravel().tolist(), [str(c) for c in range(clusters) for _ in range(size)]


@pytest.mark.parametrize("p", [0.05, 0.3, 0.8])
@pytest.mark.parametrize(("clusters", "size"), [(15, 33), (48, 4)])
def test_rates_in_clusters_cover(p: float, clusters: int, size: int) -> None:
    held = coverage(lambda g: clustered_rate(*in_clusters(g, p, clusters, size, 0.1)), p)
    assert 0.90 <= held <= 0.99
    blind = coverage(lambda g: rate([v > 0 for v in in_clusters(g, p, clusters, size, 0.1)[0]]), p)
    assert blind < held and (size < 10 or blind < 0.85)  # as if the values were independent


def test_shares_of_fewer_answers_count_for_less() -> None:
    own = [str(n) for n in range(60)]
    told = clustered_rate([0.4] * 60 + [None], [*own, "lost"], draws=[20] * 30 + [10] * 30 + [20])
    effective = 60**2 / (30 / 20 + 30 / 10) * (stats.Z95 / stats.t95(59)) ** 2
    assert (told.n, told.missing) == (900, 1)
    assert (told.low, told.high) == pytest.approx(wilson(0.4 * effective, effective))


def test_rates_in_clusters_at_the_edges() -> None:
    assert clustered_rate([1.0, 0.0, None], ["a", "b", "c"]) == rate([True, False, None])
    ten = [str(n // 4) for n in range(40)]
    none = clustered_rate([0.0] * 40, ten)
    assert none.value == none.low == 0.0 and none.high is not None and none.high > wilson(0, 10)[1]
    balanced = clustered_rate([1.0, 0.0, 1.0, 0.0] * 10, ten)  # clusters do not differ at all
    assert balanced.low is not None and balanced.low > wilson(20, 40)[0] - 0.05
    assert clustered_rate([1.0, 0.0], ["a", "a"]) == nothing(2, "Wilson, effective n of clusters")
    assert clustered_rate([None], ["a"]).missing == 1


@pytest.mark.parametrize("p", [0.05, 0.3, 0.8])
@pytest.mark.parametrize(("clusters", "size"), [(12, 5), (48, 4)])
@pytest.mark.parametrize(("loses", "gains"), [(0.02, 0.0), (0.05, 0.05), (0.3, 0.05)])
def test_paired_differences_of_rates_in_clusters_cover(
    p: float, clusters: int, size: int, loses: float, gains: float
) -> None:
    """A second subject answers as the first, but for few cases: that it does not at all is too much to say."""

    def draw(g: np.random.Generator) -> tuple[list[float], list[float], list[str]]:
        first, mine = in_clusters(g, p, clusters, size, 0.1)
        lost, gained = (in_clusters(g, rate, clusters, size, 0.1)[0] if rate else [0.0] * len(first)
                        for rate in (loses, gains))  # fmt: skip
        second = [(1 - down) if one else up for one, down, up in zip(first, lost, gained, strict=True)]
        return second, first, mine

    true = gains * (1 - p) - loses * p
    assert coverage(lambda g: clustered_difference(*draw(g)), true, 200) >= 0.90
    if p < 0.5 and gains == 0:

        def by_means(g: np.random.Generator) -> Estimate:
            second, first, mine = draw(g)
            told = clustered_mean([x - y for x, y in zip(second, first, strict=True)], mine)
            return told if told.low is not None else replace(told, low=told.value, high=told.value)

        assert coverage(by_means, true, 100) < 0.90


def test_a_difference_of_rates_has_a_width_where_no_row_differs() -> None:
    values, mine = [1.0, 0.0, 0.0, 1.0] * 12, [str(n // 4) for n in range(48)]
    told = clustered_difference(values, values, mine)
    assert told.value == 0 and told.low is not None and told.high is not None
    assert told.low == pytest.approx(-told.high) and 0.01 < told.high < 0.2
    none = clustered_difference([0.0] * 48, [0.0] * 48, mine)
    assert none.high is not None and none.high > wilson(0, 12)[1] - 0.01
    whole = clustered_difference([1.0] * 48, [0.0] * 48, mine)
    assert whole.value == whole.high == 1.0 and whole.low is not None and 0.4 < whole.low < 0.9
    assert clustered_difference([1.0, None], [0.0, 1.0], ["a", "b"]).value is None
    turned = clustered_difference([0.0] * 48, [1.0] * 48, mine)
    assert (turned.low, turned.high) == (-1.0, -whole.low)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_shares_in_clusters_cover(share: float) -> None:
    def draw(g: np.random.Generator) -> Estimate:
        of_cluster = np.repeat(g.beta(9 * share, 9 * (1 - share), 32), 2)
        return clustered_share((g.binomial(20, of_cluster) / 20).tolist(), [str(n // 2) for n in range(64)])

    assert 0.90 <= coverage(draw, share, 400) <= 0.99
    alike = clustered_share([share] * 64, [str(n // 2) for n in range(64)])
    assert alike.value == pytest.approx(share) and alike.low is not None and alike.low < share - 0.03
    none = clustered_share([0.0] * 64, [str(n // 2) for n in range(64)])
    assert (none.value, none.low) == (0, 0) and none.high is not None and none.high > 0.1


@pytest.mark.parametrize("clusters", [8, 20, 48])
def test_means_in_clusters_cover(clusters: int) -> None:
    def draw(g: np.random.Generator) -> Estimate:
        sizes = g.integers(1, 5, clusters)
        values = np.repeat(g.normal(1.0, 1.0, clusters), sizes) + g.normal(0, 1.0, sizes.sum())
        return clustered_mean(values.tolist(), np.repeat(np.arange(clusters), sizes).astype(str).tolist())

    assert 0.90 <= coverage(draw, 1.0, 200 if clusters >= 30 else SETS) <= 0.99


def test_keys_that_weigh_alike_take_a_leaning_out() -> None:
    keys = ["+"] * 17 + ["-"] * 7
    own = [str(n) for n in range(24)]

    def draw(g: np.random.Generator, leaning: float = 0.8) -> Estimate:
        keyed = g.normal(0.4, 0.5, 24) + np.where(np.array(keys) == "+", leaning, -leaning)
        return balanced_mean(keyed.tolist(), own, keys)

    assert 0.90 <= coverage(draw, 0.4) <= 0.99
    assert coverage(lambda g: mean((g.normal(0.4, 0.5, 24) + np.repeat([0.8, -0.8], [17, 7])).tolist()), 0.4) < 0.9
    assert balanced_mean([1.0, 2.0, None], ["a", "b", "c"], ["+", "+", "-"]).value is None


def test_a_mean_of_what_is_all_alike_is_not_known_exactly() -> None:
    """On a scale, others may lie anywhere on it, as many as Wilson allows; without one, nothing says how far."""
    own, keys = [str(n) for n in range(24)], ["+"] * 17 + ["-"] * 7
    for middle in (
        clustered_mean([3.0] * 24, own, scale=(1, 5)),
        clustered_mean((3 + 1e-15 * np.arange(24)).tolist(), own, scale=(1, 5)),  # alike but for rounding
        clustered_mean([2.0, 4.0] * 24, [str(n // 2) for n in range(48)], scale=(1, 5)),  # alike by cluster
    ):
        assert middle.low == pytest.approx(3 - 2 * wilson(0, 24)[1]) and middle.value == pytest.approx(3)
        assert middle.high == pytest.approx(3 + 2 * wilson(0, 24)[1])
    top = clustered_mean([5.0] * 24, own, scale=(1, 5))
    assert top.high == top.value == 5 and top.low == pytest.approx(5 - 4 * wilson(0, 24)[1])
    keyed = balanced_mean([5.0] * 17 + [1.0] * 7, own, keys, scale=(1, 5))  # always five, whatever the key
    assert keyed.value == 3 and keyed.low == pytest.approx(3 - 2 * wilson(0, 17)[1])
    assert keyed.high == pytest.approx(3 + 2 * wilson(0, 7)[1])
    rated = [clustered_mean([3.0] * 24, own), balanced_mean([3.0] * 24, own, keys), mean([3.0] * 24)]
    for none in (*rated, paired_difference([5.0] * 24, [2.0] * 24), paired_ratio([6.0] * 24, [2.0] * 24)):
        assert (none.value, none.low, none.high, none.n) == (3, None, None, 24)
        assert str(none) == "3 (all alike, no interval) (n 24)" and "no interval" in none.method


def test_a_mean_that_is_mostly_alike_covers() -> None:
    own = [str(n) for n in range(24)]
    assert coverage(lambda g: clustered_mean(np.where(g.random(24) < 0.02, 1.0, 5.0).tolist(), own, scale=(1, 5)),
                    4.92) >= 0.95  # fmt: skip


def test_the_randomisation_test_is_wrong_one_time_in_twenty() -> None:
    def p(seed: int, shift: float) -> float:
        g = np.random.default_rng(seed)
        found = paired_p((np.repeat(g.normal(shift, 1, 20), 3) + g.normal(0, 0.5, 60)).tolist(),
                         [str(n // 3) for n in range(60)], rounds=499)  # fmt: skip
        assert found is not None
        return found

    false = sum(p(seed, 0.0) < 0.05 for seed in range(SETS)) / SETS
    assert 0.02 <= false <= 0.08 and sum(p(seed, 1.5) < 0.05 for seed in range(100)) >= 95
    assert paired_p([], []) is None and paired_p([0.0, 0.0], ["a", "b"]) is None


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, None, 0.03]) == [pytest.approx(0.03), pytest.approx(0.06), None, pytest.approx(0.06)]
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []


def test_kappa_by_hand_and_where_all_agree() -> None:
    one = [True] * 45 + [False] * 55
    other = [True] * 35 + [False] * 10 + [True] * 5 + [False] * 50
    told = kappa(one, other)  # agreement 0.85; chance 0.45 x 0.4 + 0.55 x 0.6 = 0.51
    assert told.value == pytest.approx((0.85 - 0.51) / 0.49) and told.low is not None and 0.5 < told.low < told.value
    perfect = kappa([True, False] * 6, [True, False] * 6)
    assert perfect.value == 1.0 and perfect.low is not None and 0.3 < perfect.low < 0.8
    assert kappa([True] * 9, [True] * 9).value is None  # nothing to agree on
    assert kappa([None, True, False], [True, True, False]).missing == 1


def test_an_auc_counts_what_is_missing() -> None:
    plain, prompted = [-0.2, -0.1, 0.0, None], [0.3, 0.2, 0.1, 0.4]
    told = auc(plain, prompted)
    assert (told.value, told.n, told.missing) == (1.0, 7, 1)
    assert auc([None, 0.1], prompted).missing == 6 and auc([None, 0.1], prompted).value is None
    mixed = auc([0.1, 0.35, None], prompted)
    assert (mixed.n, mixed.missing) == (6, 1) and mixed.value == auc([0.1, 0.35], prompted).value
    grouped = grouped_auc([[0.1, None], [0.35]], [[0.3, 0.2], [0.1, 0.4], [None]])
    assert (grouped.n, grouped.missing) == (6, 2) and grouped.value == mixed.value
