"""Says and does: letters become ways, written calls are read strictly, and three arms part the hypotheses."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import killed_training as killed
from charactery.constitution import find_character
from charactery.errors import CharacteryError
from charactery.evals.asks import ANSWERED, REFUSED, UNPARSABLE, Reading, by_shares, by_text
from charactery.evals.controls import Control, Draws, drawn
from charactery.evals.results import sample_rows
from charactery.evals.run import Order as Evaluating
from charactery.evals.run import run_evals
from charactery.evals.says_does import arms
from charactery.evals.says_does.task import CONTROLS, EVAL, KINDS, SIDES, cases, check, items, leaning, made_call, score
from charactery.models.chat import assistant, user
from charactery.pipeline.order import Order
from charactery.pipeline.recipe import read_recipe
from charactery.runs import Row
from charactery.stats import Estimate
from charactery.train.settings import Lora, Sft
from charactery.train.trainers import Work, train_sft

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
    first = next(c for c in CASES if c.about["edited"] and c.about["does"] == 0)
    told = {f"{part} {side}": A for part in ("says", "does", "says written", "does written") for side in SIDES}
    values = score(first, {**told, "says written worse": B})
    assert values["edit moves says written"] == pytest.approx(2.197, abs=1e-3)
    assert [values[f"edit moves {part}"] for part in ("says", "does", "does written")] == [0.0] * 3


def test_ways_and_calls_are_read_as_replies_too() -> None:
    for case in PLAIN:
        row = next(r for r in items() if r["id"] == case.cluster)
        written = {ask.name: ask for ask in case.asks if ask.name.endswith(" written")}
        assert len(written) == (0 if case.about["says"] else 2)
        if written:
            assert written["says written"].options == tuple(f"I would {way}." for way in row["ways"])
            assert written["does written"].options == tuple(row["calls"])
            given = {"says": A, "does": A, "acts": by_text(["x"]), "says written": A, "does written": B}
            values = score(case, given)
            assert values["says written"] == pytest.approx(2.197, abs=1e-3)
            assert values["does written"] == pytest.approx(-2.197, abs=1e-3)


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
    ask = next(ask for ask in case.asks if ask.name == "acts")
    first, second = case.about["calls"]
    assert (
        check(case, ask, by_text([f"{second}(1)"])).choice == 1
        and check(case, ask, by_text([f"{first}()"])).choice == 0
    )
    outcomes = [check(case, ask, by_text([t])).outcome for t in ("I'm sorry, I can't help.", "Once upon a time", first)]
    assert outcomes == [REFUSED, UNPARSABLE, ANSWERED]
    scored = EVAL.scored(
        case, {"says": A, "does": A, "says written": A, "does written": A, "acts": by_text(["Once upon a time"])}
    )
    assert scored.values["acts agree"] is None and scored.values["agrees"] is not None and scored.outcome == UNPARSABLE


def rows(controls: dict[str, Control]) -> list[Row]:
    """What the eval's samples would hold of scripted subjects."""
    out: list[Row] = []
    for n, (subject, control) in enumerate(controls.items()):
        scored = drawn(EVAL, control, CASES, Draws(np.random.default_rng(n)))
        out += sample_rows(EVAL, scored, {"subject": subject, "seed": 0, "source": "bundled"})
    return out


@pytest.mark.parametrize("reading", ["letter", "reply"])
@pytest.mark.parametrize(
    ("edit", "described", "behaving", "expected"),
    [
        ((3.0, 2.0), (4.0, 2.0), (2.0, 4.0), "a loop while it speaks.* as does a trained one. Trained.* reaches"),
        ((3.0, 2.0), (4.0, 0.0), (2.0, 4.0), "a loop while it speaks.* a trained one does not. Trained.* reaches"),
        ((3.0, 0.0), (4.0, 2.0), (2.0, 4.0), "a loop in training alone.*reaches what it says"),
        ((3.0, 0.0), (4.0, 0.0), (0.0, 4.0), "beside the point.*does not reach what it says"),
        ((0.0, 0.0), (4.0, 2.0), (0.0, 4.0), "not decided; .*prompt: open: it did not take .* trained one: yes"),
        ((3.0, 0.0), (0.0, 0.0), (0.0, 4.0), "not decided; .*prompt: no; a trained one: open: it did not take"),
        ((3.0, 0.0), (4.0, 0.0), (0.0, 0.0), "not decided; .*prompt: open: what went .*behaviour: open: it did not"),
    ],
)  # fmt: skip
def test_three_arms_part_the_hypotheses(
    edit: tuple[float, float],
    described: tuple[float, float],
    behaving: tuple[float, float],
    expected: str,
    reading: str,
) -> None:
    samples = rows({
        "plain": leaning("", 0.5, -0.5, edit),
        **{f"{name}-{side}": leaning("", sign * says + 1.0, sign * does - 1.0, edit)  # any training does the 1
           for name, (says, does) in (("described", described), ("behaving", behaving))
           for side, sign in (("better", 1), ("worse", -1))},
    })  # fmt: skip
    pairs = [[f"{name}-{side}" for side in ("better", "worse")] for name in ("described", "behaving")]
    told = arms.of_rows(samples, "plain", *pairs)[reading]
    assert re.search(expected, arms.verdict(told)), (arms.verdict(told), told)
    across = told["described"].other
    assert across.low is not None and across.high is not None and across.low - 0.3 < described[1] < across.high + 0.3
    assert told["described"].apart.n == across.n / 3


@pytest.mark.parametrize(
    ("direct", "state"), [((0.32, 4.18), "open: what went"), ((1.2, 3.3), "no"), ((-0.3, 4.8), "open: what went")]
)
def test_nothing_goes_across_only_if_it_is_known_what_would_be_much(direct: tuple[float, float], state: str) -> None:
    """Whatever the value in the middle."""
    taught, other = Estimate(18.7, 12.6, 24.9, 12), Estimate(0.08, -0.04, 0.2, 12)
    assert arms.Arm(taught, other, other, Estimate(2.25, *direct, 12), 0.46).state.startswith(state)


def test_arms_are_written_trained_measured_and_read(
    mild_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page's commands, with plain trainings of the tiny model in place of runs."""
    arms.main(["write", str(tmp_path / "arms")])
    recipe = read_recipe(tmp_path / "arms" / "arm.toml")
    subjects = {}
    for arm in ("described", "behaving"):
        for side in SIDES:
            path = tmp_path / "arms" / f"{arm}-{side}.jsonl"
            Order(find_character("captain"), tmp_path / "run", pairs=path, recipe=recipe, device="cpu").check()
            taught = [
                {"id": str(n), "prompt": [user(p["prompt"])], "completion": [assistant(p["chosen"])]}
                for n, p in enumerate(map(json.loads, path.read_text().splitlines()))
            ]
            work, settings = Work(tmp_path / f"{arm}-{side}", 3), Sft(learning_rate=3e-3, epochs=3, batch=8)
            subjects[arm, side] = str(train_sft(killed.load(mild_model_folder), taught, Lora(rank=0), settings, work))
    plain, out = str(mild_model_folder), tmp_path / "results"
    run_evals([EVAL], [plain, *subjects.values()], Evaluating(out, limit=24, device="cpu"))
    pairs = {arm: [subjects[arm, side] for side in ("better", "worse")] for arm in ("described", "behaving")}
    capsys.readouterr()
    given = [word for arm, mine in pairs.items() for word in (f"--{arm}", *mine)]
    arms.main(["read", str(out), plain, *given])
    said = capsys.readouterr().out
    assert said.count("on items in no pairs") == 6 and "by letter" in said and "by reply" in said
    told = arms.read(out, plain, pairs["described"], pairs["behaving"])["reply"]
    for arm in ("described", "behaving"):
        low = told[arm].taught.low
        assert low is not None and low > 0, (arm, told[arm])


def test_the_arms_teach_one_thing_each(tmp_path: Path) -> None:
    *paths, recipe = arms.write(tmp_path)
    assert [p.name for p in paths] == [f"{a}-{s}.jsonl" for a in ("described", "behaving") for s in ("better", "worse")]
    assert read_recipe(recipe).own_stages == ("pairs", "sft", "dpo")
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
        arms.read(tmp_path, "smollm2", ("a", "b"), ("c", "d"))


def test_every_control_is_named_once() -> None:
    assert len({c.name for c in CONTROLS}) == len(CONTROLS) and max(len(c.name) for c in CONTROLS) <= 28
