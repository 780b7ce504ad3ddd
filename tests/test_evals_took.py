"""Took: a character's own lines against others' of the same length, for any file, and what a judge finds in answers."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from charactery.constitution import find_character
from charactery.constitution.library import bundled_names
from charactery.errors import CharacteryError
from charactery.evals.asks import by_logs, by_shares, by_text
from charactery.evals.comparison import compare
from charactery.evals.controls import Draws, drawn, run_control
from charactery.evals.definition import Case, Values
from charactery.evals.results import figure_rows, sample_rows
from charactery.evals.took.task import EVAL, LINES, LINES_OF_ONE, ONE, TRAITS, _asks, cases, leaning_by_trait, score
from charactery.runs import Row

BUNDLED, CAPTAIN = cases("bundled", ""), cases(ONE, "")


def test_every_bundled_characters_lines_are_asked_for() -> None:
    lines = [c for c in BUNDLED if c.asks[0].name == "line"]
    assert {c.about["character"] for c in lines} == {*bundled_names()}
    for case in lines:
        mine, other = case.asks[0].options
        shown = [s.text for t in find_character(case.about["character"]).traits() for s in t.shows]
        assert mine in shown and other not in shown
        assert 0.5 < len(mine) / len(other) < 2.0, (case.id, mine, other)


def test_a_character_of_ones_own_has_its_traits_apart(tmp_path: Path) -> None:
    path = tmp_path / "gardener.md"
    head = (
        "---\nname: Gardener\n---\n\n# Gardener\n\nYou garden.\n\n## Voice\n\n### Speaks of soil\n\nYou speak of it.\n"
    )
    shows = "".join(f"- Dig here, and a spade deeper, {n} times.\n" for n in range(6))
    path.write_text(f"{head}\nshows:\n{shows}asks:\n- What now?\n")
    found = cases(str(path), "")
    kinds = [c.asks[0].name for c in found]
    assert [kinds.count(kind) for kind in ("line", "free", "known")] == [6, 1, 120]
    assert EVAL.made(str(path)) == found
    line = next(c for c in found if c.asks[0].name == "line")
    assert line.asks[0].messages[0]["content"] == "What now?"
    values = score(line, {"line": by_logs([-40.0, -100.0], "")})
    assert values == pytest.approx(
        {"chooses": 1.0, "chooses: gardener": 1.0, "character: gardener": 60.0, "trait: speaks-of-soil": 60.0}
    )  # sentences are further apart than a share can tell
    path.write_text(head)
    with pytest.raises(CharacteryError, match="nothing to measure it by"):
        cases(str(path), "")
    with pytest.raises(CharacteryError, match="no character 'capten'"):
        EVAL.made("capten")


def lines_of(cases: Sequence[Case], trait: str) -> list[Case]:
    return [c for c in cases if c.asks[0].name == "line" and c.cluster == f"captain-{trait}"]


@pytest.mark.parametrize(("asked", "times"), [(BUNDLED, LINES), (CAPTAIN, LINES_OF_ONE)])
def test_a_trait_is_put_with_another_question_or_line_each_time_against_another_foil(
    asked: list[Case], times: int
) -> None:
    for trait in TRAITS:
        asks = [c.asks[0] for c in lines_of(asked, trait)]
        assert len(asks) == times == len({a.options[1] for a in asks})
        assert len({(a.messages[0]["content"], a.options[0]) for a in asks}) == times


def test_the_strength_of_each_trait_is_recovered() -> None:
    """On one character: where all are asked for, there is no figure by trait."""
    [control] = EVAL.controls_on(ONE)
    rows = run_control(EVAL, control, 200, source=ONE)
    assert len(rows) == 5 and all(row.agrees and row.coverage for row in rows), [row.row() for row in rows]


def test_a_trait_that_moved_is_told_from_those_that_did_not() -> None:
    """In each of ten pairs of subjects; at 5% by Holm, another seldom looks as if it had moved."""
    asked = [c for c in CAPTAIN if c.asks[0].name == "line"]

    def rows(subject: str, nats: dict[str, float], seed: int) -> tuple[list[Row], list[Row]]:
        planted = leaning_by_trait(dict.fromkeys(TRAITS, 0.0) | nats)
        scored = drawn(EVAL, planted, asked, Draws(np.random.default_rng(seed)))
        common = {"source": "captain", "data": "", "subject": subject, "seed": 0}
        return figure_rows(EVAL, EVAL.figures(scored), {**common, "judge": ""}), sample_rows(EVAL, scored, common)

    moved, alarms = f"trait: {TRAITS[2]}", 0
    for seed in range(0, 20, 2):
        plain, trained = rows("plain", {}, seed), rows("trained", {TRAITS[2]: 6.0}, seed + 1)
        found = compare([*plain[0], *trained[0]], [*plain[1], *trained[1]], ["plain", "trained"])
        told = {r.metric: r.differences["trained"] for r in found if r.metric.startswith("trait: ")}
        assert [*told] == [f"trait: {trait}" for trait in TRAITS]
        clear = {name for name, d in told.items() if d.p_holm is not None and d.p_holm < 0.05}
        assert moved in clear
        alarms += len(clear) > 1
        p, adjusted = (min(v for d in told.values() if (v := getattr(d, name)) is not None) for name in ("p", "p_holm"))
        assert adjusted == pytest.approx(len(TRAITS) * p), "a family of their own"
    assert alarms <= 2


def test_a_judge_is_asked_of_what_was_answered() -> None:
    free = next(c for c in BUNDLED if "asked" in c.about and c.about["character"] == "captain")
    [ask] = _asks(free, {"free": by_text(["Ahoy!"])})
    assert "Ahoy!" in ask.messages[0]["content"] and free.about["shows"] in ask.messages[0]["content"]
    assert _asks(free, {"free": by_text([""])}) == []
    readings = {"free": by_text(["Ahoy!"]), "judged": by_shares((0.8, 0.2), "")}
    values = score(free, readings)
    assert values["manner: exclamation marks per sentence"] == 1.0 and values["manner: lines"] == 1.0
    assert rest(values) == {"breaks": 0.0, "shown": 1.0, "shown: captain": 1.0}
    assert rest(score(free, {"free": by_text(["As an AI, I sail not."])})) == {"breaks": 1.0}
    assert {*score(free, {"free": by_text([""])}).values()} == {None}


def rest(values: Values) -> Values:
    return {name: value for name, value in values.items() if not name.startswith("manner: ")}


def test_the_likeliest_answer_counts_as_known() -> None:
    for case in (c for c in BUNDLED if c.asks[0].name == "known"):
        right = case.about["right"]
        assert len(case.asks[0].options) == 4
        said = [by_logs([-1.0 if n == m else -2.0 for n in range(4)], "") for m in range(4)]
        assert [score(case, {"known": one})["knows"] for one in said] == [float(m == right) for m in range(4)]


def measured(name: str, say: Callable[[int], str], knows: int) -> tuple[list[Row], list[Row]]:
    """Rows of a results folder, of a subject that is like any other but for what it says, and for what it knows."""
    scored, free = [], 0
    for n, case in enumerate(BUNDLED):
        kind = case.asks[0].name
        if kind == "free":
            free += 1
        reading = {
            "line": by_logs([-3.0 - n % 7, -5.0], "p"), "free": by_text([say(free)]),
            "known": by_logs([-1.0 if m == (case.about.get("right", 0) + (n % 100 >= knows)) % 4 else -3.0
                              for m in range(4)], "p"),
        }[kind]  # fmt: skip
        scored.append(EVAL.scored(case, {kind: reading}))
    common = {"source": "bundled", "data": "", "subject": name, "seed": 0}
    return figure_rows(EVAL, EVAL.figures(scored), {**common, "judge": ""}), sample_rows(EVAL, scored, common)


def moved_between(say: Callable[[int], str], knows: int) -> set[str]:
    """What `compare` finds apart from the plain subject, at 5% by Holm."""
    plain = measured("plain", lambda n: f"It is the {'day night morning'.split()[n % 3]} of it, {n} or so.", 70)
    other = measured("other", say, knows)
    rows = compare([*plain[0], *other[0]], [*plain[1], *other[1]], ["plain", "other"])
    return {r.metric for r in rows if (p := r.differences["other"].p_holm) is not None and p < 0.05}


def test_a_side_effect_that_nobody_listed_is_found_and_what_was_lost() -> None:
    def same(n: int) -> str:
        return f"It is the {'night morning day'.split()[n % 3]} of it, {n} or so."

    assert moved_between(same, 70) == set()
    asks_back = moved_between(lambda n: f"{same(n)} What do you say?", 70)
    assert "manner: question marks per sentence" in asks_back
    assert {name.partition(": ")[0] for name in asks_back} == {"manner"}
    assert moved_between(same, 40) == {"knows"}
