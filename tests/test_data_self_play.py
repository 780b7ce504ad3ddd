"""What was learnt from is chosen, the fine-tuned model's own answer rejected."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from charactery.data.self_play import self_play
from charactery.models.chat import assistant, user
from charactery.models.local import Answer, Request, Sampler
from charactery.models.speaker import Speaker
from charactery.models.subject import parse_subject
from charactery.runs import Row

OWN = "I was a sailor, lad. I was a sailor, lad."
SAYS = {
    "Empty?": Answer(" ", 1, True),
    "Same?": Answer("Aye, the same.", 5, True),
    "Cut?": Answer(OWN + " I w", 9, False),
}


class Voice:
    """In place of a model."""

    def __init__(self) -> None:
        self.asked: list[tuple[Request, Sampler]] = []

    def generate(self, requests: Sequence[Request], sampler: Sampler, *args: Any) -> list[Answer]:
        self.asked += [(r, sampler) for r in requests]
        return [SAYS.get(r.messages[-1]["content"], Answer(OWN, 9, True)) for r in requests]


def learnt() -> list[Row]:
    asked = [
        ("neutral", "Well?"),
        ("task", "Reply with a number."),
        ("asks", "Same?"),
        ("asks", "Cut?"),
        ("own", "Empty?"),
    ]
    return [
        {
            "id": f"{n}", "kind": kind, "prompt": [user(text)], "completion": [assistant("Aye, the same.")],
            "subject": "smollm2+captain", "seed": n,
        }
        for n, (kind, text) in enumerate(asked)
    ]  # fmt: skip


@pytest.fixture
def voice() -> Voice:
    return Voice()


def play(voice: Voice, folder: Path, most: int = 99, seed: int = 0) -> list[Row]:
    model: Any = voice
    return self_play(learnt(), Speaker(parse_subject("smollm2"), model, None, "v"), Sampler(), most, seed, folder)


def test_the_models_own_answer_is_rejected(voice: Voice, tmp_path: Path) -> None:
    pairs = play(voice, tmp_path)
    assert [p["id"] for p in pairs] == ["self-0", "self-3"], "no tasks, nothing empty, nothing the same"
    for pair, row in zip(pairs, [learnt()[0], learnt()[3]], strict=True):
        assert pair["rejected"] == [assistant(OWN)], "up to its last whole sentence"
        assert (pair["prompt"], pair["chosen"]) == (row["prompt"], row["completion"])
        assert (pair["chosen_subject"], pair["chosen_seed"]) == ("smollm2+captain", row["seed"])
        assert pair["rejected_subject"] == "smollm2" and pair["rejected_seed"] != row["seed"]


def test_as_it_is_told_to_and_no_more_than_asked(voice: Voice, tmp_path: Path) -> None:
    drawn = set()
    for seed in range(8):
        voice.asked.clear()
        play(voice, tmp_path / str(seed), most=2, seed=seed)
        assert [s for _, s in voice.asked] == [Sampler()] * 2
        drawn |= {r.messages[-1]["content"] for r, _ in voice.asked}
    assert drawn == {"Well?", "Same?", "Cut?", "Empty?"}
    assert play(voice, tmp_path / "none", most=0) == []


def test_a_kill_loses_no_batch(voice: Voice, tmp_path: Path) -> None:
    pairs = play(voice, tmp_path)
    voice.asked.clear()
    assert play(voice, tmp_path) == pairs and not voice.asked
