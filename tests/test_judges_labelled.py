"""The labelled pairs: what is in them gives nothing away, and what is made of verdicts on them."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from charactery.constitution import BUNDLED, Character
from charactery.errors import BadData
from charactery.judges.labelled import (
    HERE,
    agreement,
    by_length,
    judged,
    labelled_character,
    labelled_pairs,
    read_labelled,
)
from charactery.judges.rating import Case, Ratings
from charactery.runs import Journal

PAIRS = labelled_pairs()


def test_there_are_enough_of_each_and_half_are_of_characters_that_do_not_ship() -> None:
    assert len(PAIRS) >= 120 and len({p.id for p in PAIRS}) == len({p.prompt for p in PAIRS}) == len(PAIRS)
    sources = Counter(p.source for p in PAIRS)
    assert sources["ours"] == sources["other"] == len(PAIRS) // 2
    assert {p.difficulty for p in PAIRS} == {"easy", "medium", "hard"}
    assert min(Counter(p.difficulty for p in PAIRS).values()) >= 24
    for pair in PAIRS:
        who = labelled_character(pair)
        assert who.id == pair.character and [*who.traits()] and pair.better != pair.worse
        assert (HERE / "characters" / f"{pair.character}.md").exists() == (pair.source == "other")


def test_length_gives_nothing_away() -> None:
    for name in ("contrast", "character", "difficulty", "source"):
        for value in {getattr(p, name) for p in PAIRS}:
            share = by_length([p for p in PAIRS if getattr(p, name) == value]).value
            assert share is not None and 0.4 <= share <= 0.6, (name, value)
    share = by_length(PAIRS).value
    assert share is not None and 0.45 <= share <= 0.55


def test_the_set_says_what_it_is() -> None:
    about = (HERE / "about.md").read_text()
    assert re.search(r"canary: charactery-labelled-pairs-[0-9a-f]{8}-", about)
    for count in Counter(p.difficulty for p in PAIRS).values():
        assert str(count) in about


@dataclass(frozen=True)
class Scripted:
    """A judge of one character that prefers what `likes` says, and has no verdict where it says None."""

    character: Character
    likes: Any
    name: str = "scripted"

    def rate(self, cases: Sequence[Case], journal: Journal, progress: Any) -> Ratings:
        values = [self.likes(case) for case in cases]
        progress(2 * len(cases))
        return Ratings(tuple(values), {"rated": len(values)})


@pytest.mark.parametrize(("likes", "share"), [("better", 1.0), ("worse", 0.0), ("first", 0.5)])
def test_a_judge_is_right_as_often_as_it_is(likes: str, share: float, tmp_path: Path) -> None:
    better = {p.better for p in PAIRS}

    def values(case: Case) -> tuple[float, float]:
        first = case.answers[0] in better if likes != "first" else True
        return (1.0, 0.0) if first == (likes != "worse") else (0.0, 1.0)

    right, outcomes = judged(lambda who: Scripted(who, values), PAIRS, Journal(tmp_path / "j"), lambda n: None)
    [whole, *rest] = agreement(PAIRS, right)
    assert whole["estimate"]["value"] == pytest.approx(share) and outcomes == {"rated": len(PAIRS)}
    assert {row["group"] for row in rest} == {"difficulty", "contrast", "source"}
    assert sum(row["estimate"]["n"] for row in rest if row["group"] == "difficulty") == len(PAIRS)


def test_without_a_verdict_a_pair_is_missing(tmp_path: Path) -> None:
    right, _ = judged(lambda who: Scripted(who, lambda case: (None, None)), PAIRS[:8], Journal(tmp_path / "j"), print)
    [whole, *_] = agreement(PAIRS[:8], right)
    assert whole["estimate"]["value"] is None and whole["estimate"]["missing"] == 8


OWN = {"prompt": "Tea?", "better": "Aye, black as a squall.", "worse": "Yes, please.", "character": "captain"}


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    return path


def test_a_users_pairs_are_read_with_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "wren.md").write_text((BUNDLED / "captain.md").read_text().replace("captain", "wren"))
    one, two, three = read_labelled(written(
        tmp_path, OWN, OWN | {"id": 7, "difficulty": "hard", "contrast": "plain"},
        OWN | {"character": "wren.md", "id": "w"},
    ))  # fmt: skip
    assert (one.id, one.character, one.difficulty, one.contrast, one.source) == ("line 1", "captain", "", "", "")
    assert (two.id, two.prompt, two.better, two.worse) == ("7", OWN["prompt"], OWN["better"], OWN["worse"])
    assert (two.difficulty, two.contrast) == ("hard", "plain")
    assert labelled_character(one).id == "captain" and labelled_character(three).id == "wren", "from the file's folder"
    rows = agreement([one, two, three], [True, False, None])
    assert [(r["group"], r["value"], r["estimate"]["n"]) for r in rows] == [
        ("all", "all", 2), ("difficulty", "hard", 1), ("contrast", "plain", 1),
    ]  # fmt: skip
    assert read_labelled(HERE / "pairs.jsonl") == PAIRS


@pytest.mark.parametrize(
    ("row", "said"),
    [
        *(({k: v for k, v in OWN.items() if k != name}, f'needs "{name}" as text') for name in OWN),
        (OWN | {"better": " "}, 'needs "better" as text that is not empty'),
        (OWN | {"prompt": [{"role": "user", "content": "Tea?"}]}, 'needs "prompt" as text'),
        (OWN | {"difficulty": ["hard"]}, 'a "difficulty" that is no text'),
        (OWN | {"worse": f"{OWN['better']} "}, "the same text as better and as worse"),
        (OWN | {"character": "captian"}, "no character 'captian'.* Did you mean captain?"),
        (OWN | {"character": "wren.md"}, "wren.md: no such file.*from the folder of the pairs"),
        (OWN | {"id": "line 1"}, "the id 'line 1', and so has an earlier pair"),
    ],
)
def test_a_pair_that_cannot_be_used_is_named_by_file_and_line(row: Any, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, OWN, row)
    with pytest.raises(BadData, match=rf"^{re.escape(str(path))}:3: .*{said}"):
        read_labelled(path)


def test_a_file_without_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"mine\.jsonl: holds no pairs"):
        read_labelled(written(tmp_path))
