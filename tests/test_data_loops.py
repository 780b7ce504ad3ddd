"""Loops become pairs: the looping answer rejected, the same draw with repeats barred chosen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from charactery.data.loops import find_loops
from charactery.models.chat import user
from charactery.models.local import Answer, Request, Sampler
from charactery.models.speaker import Speaker
from charactery.models.subject import parse_subject
from charactery.runs import Row, read_rows

LOOP = "I was a sailor, lad. " * 6
FRESH = "Aye, trim the sails and mind the reef before the tide turns."


class Voice:
    """In place of a model: loops where it is asked of loops, unless repeats are barred."""

    def __init__(self) -> None:
        self.asked: list[tuple[Request, Sampler]] = []

    def generate(self, requests: Sequence[Request], sampler: Sampler, *args: Any) -> list[Answer]:
        self.asked += [(r, sampler) for r in requests]
        return [self.say(r.messages[-1]["content"], sampler.no_repeat) for r in requests]

    def say(self, question: str, barred: int) -> Answer:
        if question == "Always?":
            return Answer(LOOP, 30, False)
        return Answer(LOOP.strip() if question == "Loop?" and not barred else FRESH, 30, True)


def drafts() -> list[Row]:
    asked = [("1", "neutral", "Loop?"), ("2", "neutral", "Well?"), ("3", "task", "Loop?"), ("4", "asks", "Always?")]
    return [
        {"id": id, "kind": kind, "side": side, "messages": [user(text)], "text": "x"}
        for side in ("character", "plain") for id, kind, text in asked
    ]  # fmt: skip


@pytest.fixture
def voice() -> Voice:
    return Voice()


def loops(voice: Voice, folder: Path, draws: int = 1) -> list[Row]:
    model: Any = voice
    return find_loops(drafts(), Speaker(parse_subject("smollm2"), model, None, "v"), Sampler(), 4, draws, 0, folder)


def test_a_loop_is_rejected_and_its_twin_chosen(voice: Voice, tmp_path: Path) -> None:
    [row] = rows = loops(voice, tmp_path)
    assert rows == read_rows(tmp_path / "loops.jsonl")
    assert row["id"] == "loop-1-1" and row["prompt"] == [user("Loop?")]
    assert row["rejected"][0]["content"] == LOOP.strip() and row["chosen"][0]["content"] == FRESH
    assert row["chosen_seed"] == row["rejected_seed"] and "barred" in row["chosen_subject"]
    assert (tmp_path / "counts.json").read_text().split() == (
        '{ "asked": 3, "looping": 2, "pairs": 1 }'.split()  # one loops whatever is barred, and teaches nothing
    )


def test_only_what_loops_is_asked_again(voice: Voice, tmp_path: Path) -> None:
    loops(voice, tmp_path)
    first, again = ([r for r, s in voice.asked if s.no_repeat == n] for n in (0, 4))
    assert [r.messages[-1]["content"] for r in again] == ["Loop?", "Always?"]
    assert len(first) == 3 and {r.seed for r in again} < {r.seed for r in first}
    assert len({r.seed for r in first}) == 3


def test_two_draws_are_two_answers(voice: Voice, tmp_path: Path) -> None:
    rows = loops(voice, tmp_path, draws=2)
    assert [r["id"] for r in rows] == ["loop-1-1", "loop-1-2"]
    assert rows[0]["rejected_seed"] != rows[1]["rejected_seed"]


def test_a_second_attempt_asks_nothing(voice: Voice, tmp_path: Path) -> None:
    rows = loops(voice, tmp_path)
    (tmp_path / "loops.jsonl").unlink()
    voice.asked.clear()
    assert loops(voice, tmp_path) == rows and not voice.asked
