"""Critique and revision: judged, beside an empty principle, and the revision loses where it is worse."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from charactery.constitution import find_character
from charactery.data import revisions
from charactery.data.revisions import Revising, principles, revise
from charactery.judges.rating import Case, Ratings
from charactery.models.chat import user
from charactery.models.local import Answer, Request, Sampler
from charactery.models.speaker import Speaker
from charactery.models.subject import Subject
from charactery.runs import read_rows

CAPTAIN = find_character("captain")


@dataclass(frozen=True)
class Counts:
    """A judge that counts how often a text says aye; of a text that says hush it has no verdict."""

    name: str = "aye"
    alone: bool = True

    def rate(self, cases: Sequence[Case], journal: Any, progress: Any) -> Ratings:
        return Ratings(tuple(
            tuple(None if "hush" in a else float(a.lower().count("aye")) for a in case.answers) for case in cases
        ))  # fmt: skip


def revised(
    firsts: Sequence[str],
    seconds: Sequence[str],
    again: Sequence[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    judge: Any = Counts(),
    instructions: str = "You are a captain.",
) -> tuple[list[Any], list[Any], list[list[Request]]]:
    """What comes of first answers, revisions and those under an empty principle; and all that was asked."""
    asked: list[list[Request]] = []

    def answers(asks: Sequence[tuple[Speaker, Request]], *others: Any) -> list[Answer]:
        asked.append([request for _, request in asks])
        texts = ["It lacks salt."] * len(asks) if len(asked) == 1 else [*seconds, *again]
        return [Answer(text, 9, True) for text in texts]

    monkeypatch.setattr(revisions, "answer_all", answers)
    drafts = [
        {"id": f"p{n}", "kind": "asks", "messages": [user(f"Q{n}?")], "text": text, "subject": "smollm2", "seed": n}
        for n, text in enumerate(firsts)
    ]
    speaker = Speaker(Subject("smollm2", "b", "folder"), None, None, "x")
    told = Revising(CAPTAIN, speaker, Sampler(), judge, 3, instructions)
    learn, pairs = revise(drafts, told, folder, lambda n: None)
    return learn, pairs, asked


FIRST = ["Rest well tonight.", "Aye, aye, rest well.", "Keep regular hours.", "The same it is then."]
SECOND = ["Aye, turn in early, lad.", "Rest well then, friend.", "Aye, and hush now, lad.", "The same it is then."]
AGAIN = ["Rest early, if you can.", "Aye, rest well, my friend.", "Keep to your hours.", "Something else it is."]


def test_a_revision_is_learnt_where_it_is_better_and_loses_where_it_is_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn, pairs, _ = revised(FIRST, SECOND, AGAIN, tmp_path, monkeypatch)
    assert [row["completion"][0]["content"] for row in learn] == [SECOND[0]]
    assert [(p["chosen"][0]["content"], p["rejected"][0]["content"]) for p in pairs] == [
        (SECOND[0], FIRST[0]), (FIRST[1], SECOND[1]),
    ]  # fmt: skip
    assert [p["chosen_subject"] for p in pairs] == ["smollm2, revised", "smollm2"]
    rows = read_rows(tmp_path / "revisions.jsonl")
    assert len(rows) == 4 and [r["ratings"][0] for r in rows] == [[1, 0], [0, 2], [None, 0], [0, 0]]
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert (counts["over the first answer"]["value"], counts["over the first answer"]["missing"]) == (0.5, 2)
    assert (counts["over an empty principle"]["value"], counts["over an empty principle"]["n"]) == (0.5, 2)


@dataclass(frozen=True)
class Prefers:
    """A judge that compares, and where shown three at once, goes round: each beats another."""

    won: dict[tuple[str, str], float]
    name: str = "compares"
    alone: bool = False

    def rate(self, cases: Sequence[Case], journal: Any, progress: Any) -> Ratings:
        values = []
        for case in cases:
            assert len(case.answers) == 2, "a third text would have a part in what is said of two"
            one, other = case.answers
            share = self.won.get((one, other))
            values.append((None, None) if share is None else (share, 1 - share))
            progress(2)
        return Ratings(tuple(values), {"compared": len(cases)})


def test_what_a_comparing_judge_says_of_a_third_text_has_no_part_in_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over both others the revision wins more than the first answer does, and to the first answer it loses."""
    a, b, c, d, e, f = (f"Text {n} says enough." for n in "abcdef")
    judge = Prefers({(b, a): 0.4, (b, c): 0.9, (c, a): 0.4, (f, d): 0.6, (e, f): 0.7})
    learn, pairs, _ = revised([a, d], [b, e], [c, f], tmp_path, monkeypatch, judge)
    assert learn == [] and [(p["chosen"][0]["content"], p["rejected"][0]["content"]) for p in pairs] == [(a, b)]
    counts = json.loads((tmp_path / "counts.json").read_text())
    told = {key: (counts[key]["value"], counts[key]["n"]) for key in counts if "over" in key}
    assert told == {
        "over the first answer": (0.0, 1), "over an empty principle": (1.0, 2), "empty over the first answer": (0.5, 2),
    }  # fmt: skip
    assert counts["outcomes"] == {"compared": 6}


def test_what_nobody_would_learn_from_does_not_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A revision that says what it was told to is the likelier one by its words alone."""
    told = "You are a captain who says aye, and who names the tide and the lad at every turn of the talk."
    second = [told, "Aye, the tide turns early, lad."]
    empty = ["Aye, aye, lad, aye, rest early.", told]
    revised(["Rest well tonight.", "Rest early tonight."], second, empty, tmp_path, monkeypatch, instructions=told)
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert {counts[key]["n"] for key in ("over the first answer", "empty over the first answer")} == {1}
    assert counts["over an empty principle"]["n"] == 0 and sum(counts["faults"].values()) == 1
    assert sum(counts["empty faults"].values()) == 1 and counts["learnt"] == 1


def test_each_answer_is_held_against_a_principle_and_against_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, (critiques, revisions_) = revised(FIRST, SECOND, AGAIN, tmp_path, monkeypatch)
    words = {id: text for id, text, _ in principles(CAPTAIN)}
    traits = [row["trait"] for row in read_rows(tmp_path / "revisions.jsonl")]
    for n, trait in enumerate(traits):
        held, empty = critiques[n].messages, critiques[n + 4].messages
        assert held[1]["content"] == empty[1]["content"] == FIRST[n]
        assert words[trait] in held[-1]["content"] and '"' not in empty[-1]["content"]
        held, empty = revisions_[n].messages, revisions_[n + 4].messages
        assert held[3]["content"] == "It lacks salt." and words[trait] in held[-1]["content"]
        assert not any(text in m["content"] for text in words.values() for m in empty)
    assert len({r.seed for wave in (critiques, revisions_) for r in wave}) == 16


def test_a_loop_is_not_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = "aye the sea and the sea and the sea and the sea and the sea and the sea and the sea."
    learn, pairs, _ = revised(FIRST[:1], [loop], AGAIN[:1], tmp_path, monkeypatch)
    assert learn == [] and pairs == []
