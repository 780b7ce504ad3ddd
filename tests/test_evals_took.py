"""What the judge of a run is fitted on."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from charactery.data.drafts import CHARACTER, PLAIN, history_sides
from charactery.data.prompts import Prompt
from charactery.evals import took
from charactery.judges.classifier import OTHERS
from charactery.models.chat import assistant, user
from charactery.models.local import Answer, Request


@dataclass(frozen=True)
class Foil:
    """As much of a Speaker as is asked for."""

    name: str

    @property
    def subject(self) -> Any:
        return SimpleNamespace(text=self.name)


def test_the_judge_learns_no_plain_answer_to_the_characters_own_history(monkeypatch: pytest.MonkeyPatch) -> None:
    talks = [Prompt(f"t{n}", "asks", ("One?", "Two?", "Three?"), "", "train") for n in range(4)]
    prompts = [Prompt("s", "asks", ("Why?",), "", "train"), Prompt("k", "task", ("Add.",), "", "train"), *talks]
    sides = history_sides(prompts)
    history = [user("One?"), assistant("."), user("Two?"), assistant("."), user("Three?")]
    drafts = [{"id": p.id, "kind": p.kind, "messages": history if p in talks else [user(p.turns[0])]} for p in prompts]
    heard: dict[Any, list[Request]] = {}
    foils = [Foil("a"), Foil("b")]

    def answer_all(speaker: Any, requests: list[Request], *rest: Any) -> list[Answer]:
        heard[speaker] = requests
        return [Answer(str(speaker), 1, True) for _ in requests]

    monkeypatch.setattr(took, "answer_all", answer_all)
    examined: Any = SimpleNamespace(
        prompts=prompts, drafts=drafts, subjects={"plain": PLAIN, "prompted": CHARACTER}, seed=0, sampler=None,
        progress=None, batch=64, foils=foils,
    )  # fmt: skip
    rows = took.known_answers(examined, None)  # type: ignore[arg-type]
    asked = "s t0 t1 t2 t3".split()
    assert [(r["id"], r["side"]) for r in rows[:10]] == [(i, s) for s in (CHARACTER, PLAIN) for i in asked]
    assert {r["id"] for r in rows[10:]} == set(asked) and {r["side"] for r in rows[10:]} == {OTHERS}
    assert [len(heard[f]) for f in foils] == [3, 2]  # each prompt put to one of them, at its first turn
    assert {len(r.messages) for f in foils for r in heard[f]} == {1}
    for side in (CHARACTER, PLAIN):
        turns = {id: len(r.messages) for id, r in zip(asked, heard[side], strict=True)}
        assert turns == {"s": 1, **{p.id: 5 if sides[p.id] == side else 1 for p in talks}}
    assert set(sides.values()) == {CHARACTER, PLAIN}
