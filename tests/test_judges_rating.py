"""Answers rated against each other: by likelihood, and by comparing each with each."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from charactery.constitution import dump_character, find_character, foil_characters
from charactery.errors import CharacteryWarning
from charactery.judges.likelihood import evidence, margins
from charactery.judges.llm import Comparison, LlmJudge, Verdict
from charactery.judges.rating import LIKELIHOOD, ByComparison, ByLikelihood, Case, judge_identity
from charactery.models.chat import assistant, user
from charactery.models.local import LocalModel
from charactery.models.speaker import Speaker
from charactery.models.subject import parse_subject
from charactery.runs import Journal

CAPTAIN = find_character("captain")
CASES = [
    Case((user("Tea?"),), ("Aye, four minutes.", "", "Use fresh water.")),
    Case((user("Hm?"), assistant("Aye."), user("Sleep?")), ("Keep hours.", "Douse the lamp, lad.", "Rest.")),
]


def test_by_likelihood_each_answer_has_its_margin(tiny_model: LocalModel, tmp_path: Path) -> None:
    told: list[int] = []
    rated = ByLikelihood(tiny_model, CAPTAIN).rate(CASES, Journal(tmp_path / "j"), told.append)
    whole = evidence(CAPTAIN, foil_characters())[:1]
    for case, values in zip(CASES, rated.values, strict=True):
        for answer, value in zip(case.answers, values, strict=True):
            if answer:  # behind the last turn alone
                assert value == pytest.approx(
                    margins(tiny_model, [([case.messages[-1]], answer)], whole)[0, 0], abs=1e-4
                )
            else:
                assert value is None
    assert rated.outcomes == {"rated": 5, "empty": 1} and sum(told) == 6


class Preferring(LlmJudge):
    """Prefers what comes first in the alphabet; of some pairs it says nothing."""

    silent: Any = ()

    def compare(self, comparisons: Sequence[Comparison], journal: Journal, progress: Any = None, seed: int = 0) -> Any:
        out = []
        for c in comparisons:
            none = {c.first, c.second} in self.silent
            first = c.first < c.second
            out.append(Verdict("tie", None, ("tie", "tie")) if none else
                       Verdict("first" if first else "second", 0.9 if first else 0.1, ("first", "first")))  # fmt: skip
            progress(1)
        return out


def test_by_comparison_an_answer_has_what_it_won_and_none_where_nothing_was_said(tmp_path: Path) -> None:
    judge = Preferring(None, CAPTAIN)  # type: ignore[arg-type]
    object.__setattr__(judge, "silent", [{"a", "c"}, {"x", "y"}])
    told: list[int] = []
    cases = [Case((user("?"),), ("b", "a", "c")), Case((user("?"),), ("x", "y"))]
    rated = ByComparison(judge).rate(cases, Journal(tmp_path / "j"), told.append)
    assert rated.values[0] == pytest.approx((0.5, 0.9, 0.1))
    assert rated.values[1] == (None, None)
    assert rated.outcomes["tie"] == 2 and sum(rated.outcomes.values()) == 4
    assert sum(told) == 5


def test_by_comparison_what_says_nothing_is_compared_with_nothing(tmp_path: Path) -> None:
    judge = Preferring(None, CAPTAIN)  # type: ignore[arg-type]
    cases = [Case((user("?"),), ("b", "", "a", " ")), Case((user("?"),), ("", "a"))]
    rated = ByComparison(judge).rate(cases, Journal(tmp_path / "j"), lambda done: None)
    assert rated.values == ((pytest.approx(0.1), None, pytest.approx(0.9), None), (None, 1.0))
    assert sum(rated.outcomes.values()) == 1


def test_an_answer_that_the_context_does_not_hold_is_not_called_empty(tiny_model: LocalModel, tmp_path: Path) -> None:
    tiny_model.context = 300
    with pytest.warns(CharacteryWarning, match="texts are not scored"):
        rated = ByLikelihood(tiny_model, CAPTAIN).rate(CASES[:1], Journal(tmp_path / "j"), lambda done: None)
    assert rated.values == ((None, None, None),) and rated.outcomes == {"too long": 2, "empty": 1}


def test_a_judge_is_another_with_another_character_of_its_own(tmp_path: Path) -> None:
    def speaker(subject: Any) -> Speaker:
        return Speaker(parse_subject(subject), None, None, "weights")

    base, frame = parse_subject("smollm2"), list[str | None]([None])
    models: Any = SimpleNamespace(
        speaker=speaker, base_hash=lambda subject: "hash", frame_hash=lambda subject: frame[0]
    )  # fmt: skip
    mine = tmp_path / "mine.md"
    written = [find_character("companion"), find_character("captain")]
    said = []
    for character in written:
        mine.write_text(dump_character(character))
        said.append(judge_identity(f"smollm2+{mine}", models, base))
    assert len({*said, judge_identity("smollm2", models, base), judge_identity(LIKELIHOOD, models, base)}) == 4
    assert judge_identity(LIKELIHOOD, models, base) == "hash"
    frame[0] = "another chat template"
    assert judge_identity(LIKELIHOOD, models, base) != "hash"
