"""Answers rated against each other: by likelihood, and by comparing each with each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from charactery.constitution import find_character, foil_characters
from charactery.judges.likelihood import evidence, margins
from charactery.judges.llm import Comparison, LlmJudge, Verdict
from charactery.judges.rating import ByComparison, ByLikelihood, Case
from charactery.models.chat import assistant, user
from charactery.models.local import LocalModel
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
