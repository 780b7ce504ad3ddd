"""Best against worst of the model's own answers: nothing is lost, and what is unfit is never learnt from."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from charactery.data import samples
from charactery.data.samples import Drawing, best_against_worst
from charactery.judges.rating import Case, Ratings
from charactery.models.chat import user
from charactery.models.local import Answer, Sampler
from charactery.models.speaker import Speaker
from charactery.models.subject import Subject
from charactery.runs import Journal, read_rows

LOOP = "the sea and the sea and the sea and the sea and the sea and the sea and the sea."


@dataclass(frozen=True)
class Marks:
    """A judge that knows the marks of texts; None where it has none."""

    marks: dict[str, float]
    name: str = "marks"

    def rate(self, cases: Sequence[Case], journal: Journal, progress: Any) -> Ratings:
        values = tuple(tuple(self.marks.get(text) for text in case.answers) for case in cases)
        return Ratings(values, {"rated": sum(v is not None for row in values for v in row)})


def pairs_of(
    said: Sequence[Sequence[str | Answer]], marks: dict[str, float], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Any]:
    answers = [Answer(a, 9, True) if isinstance(a, str) else a for row in said for a in row]
    monkeypatch.setattr(samples, "answer_all", lambda *given: answers)
    speaker = Speaker(Subject("run:sft", "b", "folder"), None, None, "x")
    drawing = Drawing(speaker, Sampler(), len(said[0]), Marks(marks), 7, "You are a captain.")
    asked = [(f"p{n}", "asks", (user(f"Question {n}?"),)) for n in range(len(said))]
    return best_against_worst(asked, drawing, folder)


def test_the_best_is_chosen_and_the_worst_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [["One is plain here.", "Two is so so.", "Aye, three it is, lad."]]
    marks = dict(zip(said[0], (-1.0, 0.5, 2.0), strict=True))
    [pair] = pairs_of(said, marks, tmp_path, monkeypatch)
    assert pair["chosen"][0]["content"] == said[0][2] and pair["rejected"][0]["content"] == said[0][0]
    assert pair["chosen_rating"] == 2.0 and pair["rejected_rating"] == -1.0 and pair["id"] == "own-p0"
    assert pair["chosen_subject"] == "run:sft" and pair["chosen_seed"] != pair["rejected_seed"]
    rows = read_rows(tmp_path / "samples.jsonl")
    assert [(r["text"], r["rating"]) for r in rows] == [*marks.items()]
    [learnt] = read_rows(tmp_path / "sft.jsonl")
    assert learnt["completion"][0]["content"] == said[0][2] and learnt["prompt"] == pair["prompt"]
    assert json.loads((tmp_path / "counts.json").read_text())["learnt"] == 1
    pairs_of(said, {text: value - 3 for text, value in marks.items()}, tmp_path / "low", monkeypatch)
    assert read_rows(tmp_path / "low" / "sft.jsonl") == [], "none is rated 0 or more"


def test_what_is_unfit_may_be_rejected_and_never_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = Answer("Aye, and then we", 96, False)
    said: list[list[str | Answer]] = [[LOOP, "Aye, two it is, lad."], [cut, "It is two, I think."], [LOOP, LOOP]]
    marks = {LOOP: 5.0, "Aye, two it is, lad.": 1.0, cut.text: -3.0, "It is two, I think.": 0.0}
    pairs = pairs_of(said, marks, tmp_path, monkeypatch)
    assert [p["chosen"][0]["content"] for p in pairs] == ["It is two, I think."]
    assert pairs[0]["rejected"][0]["content"] == cut.text
    reasons = {r["id"]: r["reason"] for r in read_rows(tmp_path / "unpaired.jsonl")}
    assert reasons == {"p0": "what is fit is judged lowest", "p2": "none fit to learn from"}


def test_a_judge_that_says_nothing_half_of_the_time_loses_no_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [[f"Answer {n} is good, lad.", f"Reply {n} is so so."] for n in range(8)]
    marks = {text: float(len(text)) for row in said[::2] for text in row}
    pairs = pairs_of(said, marks, tmp_path, monkeypatch)
    rows, unpaired = read_rows(tmp_path / "samples.jsonl"), read_rows(tmp_path / "unpaired.jsonl")
    assert len(rows) == 16 and sum(r["rating"] is None for r in rows) == 8
    assert len(pairs) == 4 and len(unpaired) == 4 and {r["reason"] for r in unpaired} == {"no verdict"}
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert counts["unpaired"] == {"no verdict": 4} and counts["pairs"] == 4 and counts["judge"] == "marks"


def test_the_same_words_twice_are_no_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [["The same it is, lad.", "The same it is, lad."]]
    assert pairs_of(said, {said[0][0]: 1.0}, tmp_path, monkeypatch) == []
    assert [r["reason"] for r in read_rows(tmp_path / "unpaired.jsonl")] == ["judged alike"]
