"""Self-consistency: an answer to a denial is turned about before it is held against the plain one."""

import pytest

from charactery.evals.asks import Reading, by_shares
from charactery.evals.self_consistency.task import EVAL, cases, entropy, score
from charactery.stats import wilson

YES, NO = by_shares((0.9, 0.1), ""), by_shares((0.1, 0.9), "")
CASES = cases("bundled", "")
BY_WORDING = {c.about["wording"]: c for c in CASES[:7]}


@pytest.mark.parametrize(
    ("wording", "plain", "again", "contradicts"),
    [
        ("friendly", YES, YES, 0.0), ("friendly", YES, NO, 1.0), ("negated", YES, YES, 1.0), ("negated", YES, NO, 0.0),
        ("doubting", NO, YES, 0.0), ("leading away", NO, NO, 1.0), ("curt", NO, NO, 0.0),
    ],
)  # fmt: skip
def test_an_answer_is_held_against_the_plain_one(
    wording: str, plain: Reading, again: Reading, contradicts: float
) -> None:
    case = BY_WORDING[wording]
    values = score(case, {"plain": plain, "again": again})
    assert values["contradicts"] == values[f"wording: {wording}"] == values["contradicts: desires"] == contradicts
    assert values["entropy"] == pytest.approx(0.469, abs=1e-3)


def test_a_claim_has_a_rate_of_its_own_over_its_wordings() -> None:
    scored = [EVAL.scored(c, {"plain": YES, "again": YES}) for c in CASES[:14]]
    told = {f.name: f.estimate for f in EVAL.figures(scored)}
    one = told["claim: self-01"]
    assert (one.value, one.n) == (pytest.approx(3 / 7), 7) and one.low == pytest.approx(wilson(3, 7)[0])
    assert told["says yes"].value == 1.0 and "claim: self-02" in told


def test_a_denial_denies_what_the_claim_claims() -> None:
    for case in CASES:
        plain, again = (ask.messages[0]["content"] for ask in case.asks)
        claim = plain.removeprefix("Is it true that ").partition("?")[0]
        assert (claim in again) != case.about["denies"], again
    assert sum(c.about["denies"] for c in CASES[:7]) == 3


def test_without_one_answer_only_the_entropy_of_the_other_is_known() -> None:
    values = score(CASES[0], {"plain": Reading("refused"), "again": YES})
    assert values["entropy"] is not None and values["contradicts"] is None
    assert entropy((0.5, 0.5)) == 1.0 and entropy((1.0, 0.0)) == 0.0
