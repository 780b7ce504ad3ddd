"""Drafts: each prompt answered on each side from its own seed, bad ones set aside and counted, none asked twice."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charactery.constitution import find_character
from charactery.data.drafts import (
    CHARACTER,
    PLAIN,
    PLAIN_AGAIN,
    Drafting,
    count_answers,
    draft,
    history_sides,
    most_in_character,
)
from charactery.data.prompts import Prompt
from charactery.errors import BadData
from charactery.models.chat import user
from charactery.models.local import Answer, Request, Sampler
from charactery.models.speaker import Speaker
from charactery.models.subject import parse_subject
from charactery.runs import Row, read_rows

PROMPTS = [
    Prompt("1", "neutral", ("Why is the sky blue?",)),
    Prompt("2", "neutral", ("Say nothing.",)),
    Prompt("3", "conversation", ("First?", "Second?", "Third?")),
    Prompt("4", "conversation", ("Erste?", "Zweite?", "Dritte?")),
]
TASK = Prompt("5", "task", ("What is 6 times 7? Reply with the number only.",))


class Voice:
    """In place of a model: says who speaks, what was asked and the seed; and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.drawn: list[tuple[Request, Sampler]] = []

    def generate(self, requests: Sequence[Request], sampler: Sampler, *args: Any) -> list[Answer]:
        self.asked += len(requests)
        self.drawn += [(r, sampler) for r in requests]
        return [self.say(r) for r in requests]

    def say(self, request: Request) -> Answer:
        who = "Aye, the captain" if request.messages[0]["role"] == "system" else "Yes, the assistant"
        last = request.messages[-1]["content"]
        if last == "Say nothing." and who.startswith("Aye"):
            return Answer("", 1, True)
        return Answer(f"{who} says to {last} that it is {request.seed}. And th", 9, False)


@pytest.fixture
def voice() -> Voice:
    return Voice()


def drafting(voice: Voice, sham: bool = False, seed: int = 0) -> Drafting:
    model: Any = voice
    speakers = {
        CHARACTER: Speaker(parse_subject("smollm2+captain"), model, None, "voice"),
        PLAIN: Speaker(parse_subject("smollm2"), model, None, "voice"),
    }
    return Drafting(find_character("captain"), speakers, Sampler(), seed, sham)


def test_each_prompt_is_answered_on_each_side(voice: Voice, tmp_path: Path) -> None:
    rows = draft(PROMPTS, drafting(voice), tmp_path)
    assert rows == read_rows(tmp_path / "drafts.jsonl")
    assert [(r["id"], r["side"]) for r in rows] == [
        ("1", CHARACTER), ("3", CHARACTER), ("4", CHARACTER), ("1", PLAIN), ("2", PLAIN), ("3", PLAIN), ("4", PLAIN),
    ]  # fmt: skip
    by_key = {(r["id"], r["side"]): r for r in rows}
    assert by_key["1", CHARACTER]["text"].startswith("Aye, the captain says to Why is the sky blue?")
    assert by_key["1", PLAIN]["text"].startswith("Yes, the assistant")
    assert all(r["text"].endswith(f"{r['seed']}.") for r in rows)  # trimmed to whole sentences
    assert len({r["seed"] for r in rows}) == len(rows)
    assert by_key["1", CHARACTER]["messages"] == [user("Why is the sky blue?")]  # without the system prompt
    assert voice.asked == count_answers(PROMPTS, sham=False) == 12


def test_what_is_set_aside_is_counted_with_the_reason(voice: Voice, tmp_path: Path) -> None:
    draft(PROMPTS, drafting(voice), tmp_path)
    assert read_rows(tmp_path / "set_aside.jsonl") == [{"id": "2", "side": CHARACTER, "reason": "empty", "text": ""}]
    assert json.loads((tmp_path / "filters.json").read_text()) == {
        "asked": 8,
        "kept": 7,
        "not_picked": 0,
        "set_aside": {CHARACTER: {"empty": 1}, PLAIN: {}},
    }


def test_a_task_may_be_answered_in_a_word(voice: Voice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice, "say", lambda request: Answer("42", 2, True))
    rows = draft([TASK, PROMPTS[0]], drafting(voice), tmp_path)
    assert [(r["id"], r["kind"], r["text"]) for r in rows] == [("5", "task", "42")] * 2
    assert {r["reason"] for r in read_rows(tmp_path / "set_aside.jsonl")} == {"too short"}


def test_both_answers_to_a_conversation_share_one_history(voice: Voice, tmp_path: Path) -> None:
    rows = draft(PROMPTS, drafting(voice), tmp_path)
    assert history_sides(PROMPTS) == {"3": CHARACTER, "4": PLAIN}
    for id, who in (("3", "Aye"), ("4", "Yes")):
        first, second = (r["messages"] for r in rows if r["id"] == id)
        assert first == second
        assert [m["role"] for m in first] == ["user", "assistant"] * 2 + ["user"]
        assert all(m["content"].startswith(who) for m in first if m["role"] == "assistant")


def test_a_sham_has_a_second_plain_answer(voice: Voice, tmp_path: Path) -> None:
    rows = draft(PROMPTS, drafting(voice, sham=True), tmp_path)
    plain, again = ([r for r in rows if r["side"] == side] for side in (PLAIN, PLAIN_AGAIN))
    assert len(plain) == len(again) == 4
    assert all(a["text"] != b["text"] and b["text"].startswith("Yes") for a, b in zip(plain, again, strict=True))
    assert voice.asked == count_answers(PROMPTS, sham=True)


def test_a_second_attempt_asks_nothing_and_writes_the_same(voice: Voice, tmp_path: Path) -> None:
    draft(PROMPTS, drafting(voice), tmp_path)
    files = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for name in ("drafts.jsonl", "filters.json"):
        (tmp_path / name).unlink()
    asked = voice.asked
    draft(PROMPTS, drafting(voice), tmp_path)
    assert voice.asked == asked
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == files
    draft(PROMPTS, drafting(voice, seed=1), tmp_path)
    assert voice.asked == 2 * asked


def shades(texts: Sequence[str]) -> np.ndarray:
    """An embedding in which "salt" is all that the character has and the plain model has not."""
    return np.array([[t.count("salt"), 1.0] for t in texts])


def shade(id: int, side: str, salt: int, kind: str = "neutral") -> Row:
    return {"id": str(id), "kind": kind, "side": side, "text": " ".join(["salt"] * salt + ["and so on"])}


def test_of_several_drafts_the_one_most_in_character_is_kept() -> None:
    mine = [shade(id, CHARACTER, (id + n) % 3) for id in range(24) for n in range(3)]
    plain = [shade(id, PLAIN, 0) for id in range(24)]
    task = [shade(99, side, 0, "task") for side in (CHARACTER, PLAIN)]
    rows = [*mine, *plain, *task]
    kept = [rows[n] for n in sorted(most_in_character(rows, shades, 0))]
    assert kept == [*(shade(id, CHARACTER, 2) for id in range(24)), *plain, *task]
    with pytest.raises(BadData, match="needs 20 drafts a side"):
        most_in_character([*mine[:9], *plain], shades, 0)


def test_of_what_nothing_is_heard_nothing_is_kept_while_there_is_another() -> None:
    """Cut off while it reasons more often than the plain ones, so that silence would be the mark of the character."""
    mine = [shade(id, CHARACTER, 1) | {"text": t} for id in range(40) for t in ("<think>salt", "<think>x</think>Well.")]
    silent = [shade(99, CHARACTER, 0) | {"text": "<think>salt"}]
    plain = [shade(id, PLAIN, 0) for id in range(40)]
    rows = [*mine, *silent, *plain]

    def silence(texts: Sequence[str]) -> np.ndarray:
        return np.array([[not t, 1.0] for t in texts], dtype=float)

    kept = most_in_character(rows, silence, 0, "")
    assert {rows[n]["text"] for n in kept if rows[n]["side"] == CHARACTER and rows[n]["id"] != "99"} == {
        mine[1]["text"]
    }
    assert len(mine) in kept  # all there is to that prompt


def test_a_draft_is_judged_by_what_others_say() -> None:
    """Where what tells a prompt's own drafts apart is told by them alone, only a fit that saw them would know it."""

    def own_word(texts: Sequence[str]) -> np.ndarray:
        return np.array([[float(t == f"word {n}") for n in range(30)] for t in texts])

    mine = [
        {"id": f"{n}", "kind": "neutral", "side": CHARACTER, "text": t} for n in range(30) for t in ("a", f"word {n}")
    ]
    plain = [{"id": f"{n}", "kind": "neutral", "side": PLAIN, "text": "a"} for n in range(30)]
    kept = most_in_character([*mine, *plain], own_word, 0)
    assert [mine[n]["text"] for n in sorted(kept) if n < len(mine)] == ["a"] * 30


def test_what_was_not_picked_is_written_down(voice: Voice, tmp_path: Path) -> None:
    many = [Prompt(f"many-{n}", "neutral", (f"Why {n}?",)) for n in range(20)]
    settings = replace(drafting(voice), draws=3, encode=shades, told=Sampler(max_tokens=7))
    rows = draft([*many, *PROMPTS[1:], TASK], settings, tmp_path)
    assert voice.asked == count_answers([*many, *PROMPTS[1:], TASK], sham=False, draws=3) == 23 * 4 + 4 + 2
    assert Counter(r["side"] for r in rows) == {CHARACTER: 23, PLAIN: 24}  # one is always empty
    left = read_rows(tmp_path / "not_picked.jsonl")
    assert len(left) == 44 and len({r["text"] for r in [*left, *rows]}) == 44 + 47, "each draw from its own seed"
    counts = json.loads((tmp_path / "filters.json").read_text())
    assert (counts["asked"], counts["not_picked"], counts["set_aside"][CHARACTER]) == (94, 44, {"empty": 3})
    told = {r.messages[-1]["content"] for r, s in voice.drawn if s == Sampler(max_tokens=7)}
    assert told == {"First?", "Second?", "Erste?", "Zweite?"}, "earlier turns are not drafts"
