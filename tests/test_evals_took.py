"""Took: a character's own lines against others' of the same length, for any file, and what a judge finds in answers."""

from pathlib import Path

import pytest

from charactery.constitution import find_character
from charactery.constitution.library import bundled_names
from charactery.errors import CharacteryError
from charactery.evals.asks import by_logs, by_shares, by_text
from charactery.evals.took.task import EVAL, LINES, _asks, cases, score

BUNDLED = cases("bundled", "")


def test_every_bundled_characters_lines_are_asked_for() -> None:
    lines = [c for c in BUNDLED if "asked" not in c.about]
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
    assert len(found) == LINES + 1 and EVAL.made(str(path)) == found
    assert found[0].asks[0].messages[0]["content"] == "What now?"
    values = score(found[0], {"line": by_logs([-40.0, -100.0], "")})
    assert values == pytest.approx(
        {"chooses": 1.0, "chooses: gardener": 1.0, "character: gardener": 60.0, "trait: speaks-of-soil": 60.0}
    )  # sentences are further apart than a share can tell
    path.write_text(head)
    with pytest.raises(CharacteryError, match="nothing to measure it by"):
        cases(str(path), "")
    with pytest.raises(CharacteryError, match="no character 'capten'"):
        EVAL.made("capten")


def test_a_judge_is_asked_of_what_was_answered() -> None:
    free = next(c for c in BUNDLED if "asked" in c.about and c.about["character"] == "captain")
    [ask] = _asks(free, {"free": by_text(["Ahoy!"])})
    assert "Ahoy!" in ask.messages[0]["content"] and free.about["shows"] in ask.messages[0]["content"]
    assert _asks(free, {"free": by_text([""])}) == []
    readings = {"free": by_text(["Ahoy!"]), "judged": by_shares((0.8, 0.2), "")}
    assert score(free, readings) == {"breaks": 0.0, "shown": 1.0, "shown: captain": 1.0}
    assert score(free, {"free": by_text(["As an AI, I sail not."])}) == {"breaks": 1.0}
