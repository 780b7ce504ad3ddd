"""What the judge of a run is fitted on."""

from types import SimpleNamespace
from typing import Any

import pytest

from charactery.data.drafts import CHARACTER, PLAIN, history_sides
from charactery.data.prompts import Prompt
from charactery.evals import took
from charactery.models.chat import assistant, user
from charactery.models.local import Answer, Request


def test_the_judge_learns_no_plain_answer_to_the_characters_own_history(monkeypatch: pytest.MonkeyPatch) -> None:
    talks = [Prompt(f"t{n}", "asks", ("One?", "Two?", "Three?"), "", "train") for n in range(4)]
    prompts = [Prompt("s", "asks", ("Why?",), "", "train"), Prompt("k", "task", ("Add.",), "", "train"), *talks]
    sides = history_sides(prompts)
    history = [user("One?"), assistant("."), user("Two?"), assistant("."), user("Three?")]
    drafts = [{"id": p.id, "kind": p.kind, "messages": history if p in talks else [user(p.turns[0])]} for p in prompts]
    heard: dict[str, list[Request]] = {}

    def answer_all(speaker: str, requests: list[Request], *rest: Any) -> list[Answer]:
        heard[speaker] = requests
        return [Answer(speaker, 1, True) for _ in requests]

    monkeypatch.setattr(took, "answer_all", answer_all)
    examined: Any = SimpleNamespace(
        prompts=prompts, drafts=drafts, subjects={"plain": PLAIN, "prompted": CHARACTER}, seed=0, sampler=None,
        progress=None, batch=64,
    )  # fmt: skip
    rows = took.known_answers(examined, None)  # type: ignore[arg-type]
    assert [(r["id"], r["side"]) for r in rows] == [(i, s) for s in (CHARACTER, PLAIN) for i in "s t0 t1 t2 t3".split()]
    for side, requests in heard.items():
        turns = {id: len(r.messages) for id, r in zip("s t0 t1 t2 t3".split(), requests, strict=True)}
        assert turns == {"s": 1, **{p.id: 5 if sides[p.id] == side else 1 for p in talks}}
    assert set(sides.values()) == {CHARACTER, PLAIN}
