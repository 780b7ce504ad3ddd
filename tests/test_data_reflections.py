"""Reflections: whose words are whose in a conversation with oneself, and what is left to learn."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from charactery.data import reflections
from charactery.data.prompts import neutral_prompts
from charactery.data.reflections import OPENING, OVER, Reflecting, ordinary, questions, reflect
from charactery.models.local import Answer, Request, Sampler
from charactery.models.speaker import Speaker
from charactery.models.subject import Subject
from charactery.runs import read_rows


def reflecting(speaker: Speaker, each: int, conversations: int, turns: int, tokens: int = 0) -> Reflecting:
    return Reflecting(
        speaker,
        Sampler(),
        3,
        each,
        conversations,
        turns,
        "You are a captain.",
        questions(),
        lambda text: 7,
        tokens=tokens,
    )


def test_a_conversation_with_oneself_is_seen_from_the_side_that_speaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[Request]] = []

    def answers(asks: Sequence[tuple[Speaker, Request]], *others: Any) -> list[Answer]:
        asked.append([request for _, request in asks])
        return [Answer(f"It is wave {len(asked)}, reply {n}.", 7, True) for n in range(len(asks))]

    monkeypatch.setattr(reflections, "answer_all", answers)
    speaker = Speaker(Subject("run:dpo+captain", "b", "folder"), None, None, "x")
    rows = reflect(reflecting(speaker, 2, 5, 3), tmp_path)
    single, *turns = asked
    assert len(single) == 2 * len(questions()) and [len(t) for t in turns] == [5, 5, 5]
    roles = [[(m["role"], m["content"]) for m in wave[0].messages] for wave in turns]
    assert roles[0] == [("user", OPENING)]
    assert roles[1] == [("user", "It is wave 2, reply 0.")]  # the other side: the opening was not said to it
    assert roles[2] == [
        ("user", OPENING), ("assistant", "It is wave 2, reply 0."), ("user", "It is wave 3, reply 0."),
    ]  # fmt: skip
    assert [r["kind"] for r in rows] == ["reflection"] * len(single) + ["self-talk"] * 5
    assert rows[-1]["completion"][0]["content"] == "It is wave 4, reply 4." and rows[-1]["subject"] == "run:dpo+captain"
    assert len({r["seed"] for r in rows}) == len(rows)
    assert json.loads((tmp_path / "counts.json").read_text())["tokens"] == 7 * len(rows)


def test_what_is_unfit_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflections, "answer_all", lambda asks, *rest: [Answer("Aye.", 2, True) for _ in asks])
    speaker = Speaker(Subject("s", "b", "folder"), None, None, "x")
    assert reflect(reflecting(speaker, 1, 2, 1), tmp_path) == []
    assert len(read_rows(tmp_path / "set_aside.jsonl")) == len(questions()) + 2


def test_the_questions_are_many_and_distinct() -> None:
    assert len({*questions()}) == len(questions()) >= 12


def test_as_many_tokens_are_kept_as_were_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        reflections, "answer_all", lambda asks, *rest: [Answer(f"It is reply {n}.", 9, True) for n in range(len(asks))]
    )
    speaker = Speaker(Subject("s", "b", "folder"), None, None, "x")
    rows = reflect(reflecting(speaker, 1, 4, 1, tokens=60), tmp_path)
    assert len(rows) == 8 and sum(row["tokens"] for row in rows) == 56  # of 7 each: a ninth would be over
    assert {row["kind"] for row in rows} == {"reflection", "self-talk"}, "drawn, and not cut at the end"
    aside = read_rows(tmp_path / "set_aside.jsonl")
    assert {r["reason"] for r in aside} == {OVER} and len(aside) + len(rows) == len(questions()) + 4
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert (counts["fit"], counts["kept"], counts["tokens"], counts["wanted"]) == (len(questions()) + 4, 8, 56, 60)


def test_ordinary_text_is_about_nothing_of_the_run() -> None:
    neutral = neutral_prompts()
    taken, free = neutral[:-10], {p.turns[0] for p in neutral[-10:]}
    assert {*ordinary(taken, 10, 1)} == {*ordinary(taken, 50, 1)} == free
    some = ordinary(taken, 4, 1)
    assert some == ordinary(taken, 4, 1) != ordinary(taken, 4, 2) and len({*some}) == 4
    assert not {*questions()} & {p.turns[0] for p in neutral}
