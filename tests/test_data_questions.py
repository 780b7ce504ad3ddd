"""Questions that passages answer: one to each, and a plain one where the model thought of none that is fit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from charactery.data.passages import Passage
from charactery.data.questions import PLAIN, ask_for, question_in
from charactery.models.local import Answer, Request
from charactery.models.speaker import Speaker
from charactery.models.subject import parse_subject
from charactery.runs import Journal

TEXT = "the road to the mill was washed out in the spring and nobody has mended it since then at all"


@pytest.mark.parametrize(
    ("said", "question", "origin"),
    [
        ("What happened to the road?", "What happened to the road?", "written"),
        ("Question: What happened to the road? It was", "What happened to the road?", "written"),
        ("Sure. 1. Who will mend the road?\nSecond?", "Who will mend the road?", "written"),
        ("The road was washed out.", PLAIN, "no question"),
        ("Why?", PLAIN, "too short or too long"),
        (f"Is it true that {TEXT}?", PLAIN, "repeats the passage"),
        ("What did Mr. Marrow say of the road?", PLAIN, "names the author"),
        ("", PLAIN, "no question"),
    ],
)
def test_the_first_question_counts(said: str, question: str, origin: str) -> None:
    assert question_in(said, TEXT, "Marrow") == (question, origin)


def test_each_passage_is_asked_about_once_and_not_again(tmp_path: Path) -> None:
    heard: list[Request] = []

    class Voice:
        def generate(self, requests: Sequence[Request], *given: Any) -> list[Answer]:
            heard.extend(requests)
            return [
                Answer("What of the road?" if "mill" in r.messages[0]["content"] else "Hm.", 5, True) for r in requests
            ]

    speaker = Speaker(parse_subject("smollm2"), Voice(), None, "voice")  # type: ignore[arg-type]
    passages = [Passage("a", "a", TEXT), Passage("b", "b", "Something else."), Passage("a", "a", TEXT)]
    for _ in range(2):
        told: list[int] = []
        found, origins = ask_for(passages, "Ann Marrow", speaker, 0, Journal(tmp_path / "j"), told.append, 8)
        assert found == {"a": "What of the road?", "b": PLAIN} and origins == {"written": 1, "no question": 1}
        assert sum(told) == 2 and len(heard) == 2
