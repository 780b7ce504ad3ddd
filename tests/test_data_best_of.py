"""The best of the first n, by n: all n share what was drawn, and none knows of what comes after it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from charactery.data.best_of import best_by_n
from charactery.data.samples import Drawing
from charactery.judges.best_of import kl_bound
from charactery.judges.rating import Case, Ratings
from charactery.models.chat import user
from charactery.models.local import Sampler
from charactery.models.speaker import Models
from charactery.runs import Journal, read_rows

PROMPTS = [(f"p{n}", (user(f"What of the {word}?"),)) for n, word in enumerate(("sea", "tea", "weather", "work"))]
SIZES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Es:
    """Rates by how many of an answer's letters are an e: a planted preference."""

    name: str = "es"
    unit: str = "share"
    alone: bool = True

    def rate(self, cases: Sequence[Case], journal: Journal, progress: Any) -> Ratings:
        values = tuple(tuple(None if not a else a.count("e") / len(a) for a in case.answers) for case in cases)
        progress(sum(len(case.answers) for case in cases))
        return Ratings(values, {"rated": sum(len(row) for row in values)})


@dataclass(frozen=True)
class Places(Es):
    """Rates by place among the answers there are: best the one in the middle."""

    alone: bool = False

    def rate(self, cases: Sequence[Case], journal: Journal, progress: Any) -> Ratings:
        def values(count: int) -> tuple[float, ...]:
            return tuple(-abs(float(n - count // 2)) for n in range(count))

        return Ratings(tuple(values(len(case.answers)) for case in cases))


def drawing(model: Path, judge: Any, each: int = 8) -> Drawing:
    speaker = Models("cpu").speaker(str(model))
    return Drawing(speaker, Sampler(16, 1.0), each, judge, 7, "You are a captain.")


@pytest.fixture
def found(tiny_model_folder: Path, tmp_path: Path) -> list[Any]:
    told: list[int] = []
    figures = best_by_n(PROMPTS, drawing(tiny_model_folder, Es()), SIZES, tmp_path / "best", told.append)
    assert sum(told) == 2 * len(PROMPTS) * 8
    return figures


def test_each_n_picks_the_highest_of_the_first_n(found: list[Any], tmp_path: Path) -> None:
    rows = read_rows(tmp_path / "best" / "samples.jsonl")
    for id, _ in PROMPTS:
        mine = [row for row in rows if row["id"] == id]
        assert [row["n"] for row in mine] == [*range(8)] and len({row["text"] for row in mine}) > 4
        for size in SIZES:
            [picked] = [row for row in mine if size in row["picked_of"]]
            ratings = [-1.0 if row["rating"] is None else row["rating"] for row in mine[:size]]
            assert picked["n"] < size and ratings[picked["n"]] == max(ratings)


def test_a_known_letter_is_raised_by_n_and_the_bound_goes_with_it(found: list[Any], tmp_path: Path) -> None:
    scores = [row["score"]["value"] for row in found]
    shares: dict[str, list[float]] = {id: [] for id, _ in PROMPTS}
    for row in sorted(read_rows(tmp_path / "best" / "samples.jsonl"), key=lambda row: row["n"]):
        shares[row["id"]].append(row["text"].count("e") / len(row["text"]) if row["text"] else 0.0)
    best = [mean(max(mine[:size]) for mine in shares.values()) for size in SIZES]
    assert scores == pytest.approx(best) and scores == sorted(scores) and scores[-1] > scores[0]
    assert [row["n"] for row in found] == [*SIZES]
    assert [row["kl_bound"] for row in found] == [kl_bound(n) for n in SIZES]
    assert all(row["score"]["n"] + row["score"]["missing"] == len(PROMPTS) for row in found)
    counts = json.loads((tmp_path / "best" / "counts.json").read_text())
    assert counts["judge"] == "es" and counts["prompts"] == 4 and counts["answers"] == 32


def test_the_first_of_many_are_the_few(found: list[Any], tiny_model_folder: Path, tmp_path: Path) -> None:
    best_by_n(PROMPTS, drawing(tiny_model_folder, Es(), 2), (1, 2), tmp_path / "few")
    few, many = ({(r["id"], r["n"]): r["text"] for r in read_rows(tmp_path / name / "samples.jsonl")}
                 for name in ("few", "best"))  # fmt: skip
    assert few == {key: many[key] for key in few} and len(few) == 8


def test_one_who_only_compares_is_asked_about_the_first_n_alone(tiny_model_folder: Path, tmp_path: Path) -> None:
    best_by_n(PROMPTS, drawing(tiny_model_folder, Places()), SIZES, tmp_path / "best")
    rows = read_rows(tmp_path / "best" / "samples.jsonl")
    assert {(row["n"], *row["picked_of"]) for row in rows if row["picked_of"]} == {(0, 1), (1, 2), (2, 4), (4, 8)}


def test_what_was_drawn_before_a_kill_is_not_drawn_again(
    found: list[Any], tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charactery.models.local.LocalModel.generate", None)
    assert best_by_n(PROMPTS, drawing(tiny_model_folder, Es()), SIZES, tmp_path / "best") == found
