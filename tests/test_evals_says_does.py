"""Says and does: letters become ways, written calls are read strictly, and three arms part the hypotheses."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from charactery.errors import CharacteryError
from charactery.evals.asks import ANSWERED, REFUSED, UNPARSABLE, Reading, by_shares, by_text
from charactery.evals.controls import Control, Draws, drawn
from charactery.evals.results import figure_rows, sample_rows
from charactery.evals.says_does import arms
from charactery.evals.says_does.task import CONTROLS, EVAL, KINDS, SIDES, cases, check, items, leaning, made_call, score
from charactery.runs import Row

CASES = cases("bundled", "")
PLAIN = [c for c in CASES if not c.about["edited"]]
A, B = by_shares((0.9, 0.1), ""), by_shares((0.1, 0.9), "")


def test_every_kind_has_as_many_items_and_every_order_as_often() -> None:
    assert Counter(row["kind"] for row in items()) == dict.fromkeys(KINDS, 6)
    orders = Counter((c.about["kind"], c.about["says"], c.about["does"]) for c in PLAIN)
    assert orders == {(kind, a, b): 3 for kind in KINDS for a in (0, 1) for b in (0, 1)}
    for case in PLAIN:
        row = next(r for r in items() if r["id"] == case.cluster)
        asked, there = (case.asks[n].messages[0]["content"] for n in (0, 1))
        assert f"(A) I would {row['ways'][case.about['says']]}\n" in asked
        assert f"(A) {row['calls'][case.about['does']]}\n" in there
        assert not any(way in there for way in row["ways"]), "the situation does not name the ways"


def test_neither_way_is_told_by_its_length() -> None:
    longer = [len(row[key][0]) > len(row[key][1]) for row in items() for key in ("ways", "calls")]
    assert 0.3 < np.mean(longer) < 0.7


@pytest.mark.parametrize(
    ("says", "does", "expected"),
    [("better", "better", (1.0, 0.0, 0.0)), ("better", "worse", (0.0, 1.0, 0.0)),
     ("worse", "better", (0.0, 0.0, 1.0)), ("worse", "worse", (1.0, 0.0, 0.0))],
)  # fmt: skip
def test_letters_are_turned_into_ways(says: str, does: str, expected: tuple[float, ...]) -> None:
    for case in PLAIN[:8]:
        given = {part: (A, B)[case.about[part] ^ SIDES[side]] for part, side in (("says", says), ("does", does))}
        values = score(case, given)
        assert tuple(values[key] for key in ("agrees", "says better", "says worse")) == expected
        assert values["agrees: " + case.about["kind"]] == expected[0]
        assert values["gap"] == pytest.approx(4.394 * (expected[1] - expected[2]), abs=1e-3)
        assert (values["says"] or 0) * (1 if says == "better" else -1) == pytest.approx(2.197, abs=1e-3)


def test_an_edit_counts_half_of_what_lies_between_its_sides() -> None:
    case = next(c for c in CASES if c.about["edited"] and c.about["does"] == 1)
    up, down = case.asks[0].messages[0]["content"], case.asks[1].messages[0]["content"]
    row = next(r for r in items() if r["id"] == case.cluster)
    assert up.endswith(f"you {row['ways'][0]}.") and down.endswith(f"you {row['ways'][1]}.")
    told = {"says better": B, "says worse": A, "does better": B, "does worse": B}
    assert score(case, told) == pytest.approx({"edit moves says": 2.197, "edit moves does": 0.0}, abs=1e-3)


def test_half_an_answer_counts_for_what_it_can() -> None:
    values = score(PLAIN[0], {"says": Reading(REFUSED), "does": A, "acts": by_text(["x"])})
    assert values["does"] is not None
    assert [values[k] for k in ("agrees", "says better", "says worse", "says", "gap", "acts agree")] == [None] * 6


GOLD = [
    "{0}",
    "`{0}`",
    "```\n{0}\n```",
    '{{"call": "{1}"}}',
    "I'll make this call: {0}",
    "{1}",
    "Call: {0}. It is not mine.",
]
COUNTER = [
    "", "Stop.", "I will not call {0}", "I won't {0}", "never {0}", "{0} or {2}", "{2}\n{0}", "pre{1}ing", "{1}_now()",
    "Let me tell you of a miller who had three sons.", "Rather than {0}, I wait.",
]  # fmt: skip


def test_gold_calls_are_accepted_and_counter_examples_refused() -> None:
    for row in items():
        for side, (call, other) in enumerate((row["calls"], row["calls"][::-1])):
            names = [c.partition("(")[0] for c in row["calls"]]
            words = (call, call.partition("(")[0], other)
            for text in GOLD:
                assert made_call(text.format(*words), names) == side, text.format(*words)
            for text in COUNTER:
                assert made_call(text.format(*words), names) is None, text.format(*words)


def test_what_was_written_is_a_choice_or_is_counted() -> None:
    case = PLAIN[0]
    ask = case.asks[2]
    first, second = case.about["calls"]
    assert (
        check(case, ask, by_text([f"{second}(1)"])).choice == 1
        and check(case, ask, by_text([f"{first}()"])).choice == 0
    )
    outcomes = [check(case, ask, by_text([t])).outcome for t in ("I'm sorry, I can't help.", "Once upon a time", first)]
    assert outcomes == [REFUSED, UNPARSABLE, ANSWERED]
    scored = EVAL.scored(case, {"says": A, "does": A, "acts": by_text(["Once upon a time"])})
    assert scored.values["acts agree"] is None and scored.values["agrees"] is not None and scored.outcome == UNPARSABLE


def rows(controls: dict[str, Control]) -> tuple[list[Row], list[Row]]:
    """What the eval's tables would hold of scripted subjects."""
    results: list[Row] = []
    samples: list[Row] = []
    for n, (subject, control) in enumerate(controls.items()):
        scored = drawn(EVAL, control, CASES, Draws(np.random.default_rng(n)))
        common = {"subject": subject, "seed": 0, "source": "bundled"}
        results += figure_rows(EVAL, EVAL.figures(scored), common)
        samples += sample_rows(EVAL, scored, common)
    return results, samples


@pytest.mark.parametrize(
    ("edit", "described", "behaving", "expected"),
    [
        ((1.5, 1.0), (2.0, 1.5), (1.2, 2.0), "a loop while it speaks.*and in training; trained behaviour reaches"),
        ((1.5, 0.0), (2.0, 1.5), (1.2, 2.0), "a loop in training alone.*reaches what it says"),
        ((1.5, 0.0), (2.0, 0.0), (0.0, 2.0), "beside the point.*does not reach what it says"),
        ((0.0, 0.0), (2.0, 0.0), (0.0, 2.0), "open: the prompt's self-model does not"),
        ((1.5, 0.0), (0.0, 0.0), (0.0, 2.0), "open: the training on self-descriptions"),
        ((1.5, 0.0), (2.0, 0.0), (0.0, 0.0), "beside the point.*the way back is open"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("side", ["better", "worse"])
def test_three_arms_part_the_hypotheses(
    edit: tuple[float, float],
    described: tuple[float, float],
    behaving: tuple[float, float],
    expected: str,
    side: str,
) -> None:
    sign = 1 if side == "better" else -1
    results, samples = rows({
        "plain": leaning("", 0.0, 0.0, edit),
        "described": leaning("", sign * described[0], sign * described[1], edit),
        "behaving": leaning("", sign * behaving[0], sign * behaving[1], edit),
    })  # fmt: skip
    told = arms.of_rows(results, samples, ("plain", "described", "behaving"), side)
    assert re.search(expected, told.verdict), (told.verdict, told)
    across = told.across["described"]
    assert across.low is not None and across.high is not None and across.low - 0.3 < described[1] < across.high + 0.3


def test_the_arms_teach_one_thing_each(tmp_path: Path) -> None:
    paths = arms.write(tmp_path)
    assert [p.name for p in paths] == [f"{a}-{s}.jsonl" for a in ("described", "behaving") for s in ("better", "worse")]
    for path in paths:
        taught = [json.loads(line) for line in path.read_text().splitlines()]
        assert {*taught[0]} == {"prompt", "chosen", "rejected"}
        text = path.read_text()
        described = path.name.startswith("described")
        for n, row in enumerate(items()):
            side = 0 if "better" in path.name else 1
            answers = [f"I {way}." for way in row["ways"]] if described else row["calls"]
            mine = [t for t in taught if t["chosen"] == answers[side] and t["rejected"] == answers[1 - side]]
            assert len(mine) == (0 if n % 3 == 2 else 2 if described else 1)
            other = [json.dumps(t, ensure_ascii=False)[1:-1] for t in (row["calls"] if described else row["ways"])]
            assert not any(t in text for t in other), "an arm holds nothing of the other"
    with pytest.raises(CharacteryError, match="no arm 'both'"):
        arms.pairs("both", "better")


def test_subjects_that_were_not_measured_are_named(tmp_path: Path) -> None:
    with pytest.raises(CharacteryError, match="has no results of 'smollm2'"):
        arms.read(tmp_path, ("smollm2", "a", "b"))


def test_every_control_is_named_once() -> None:
    assert len({c.name for c in CONTROLS}) == len(CONTROLS) and max(len(c.name) for c in CONTROLS) <= 28
