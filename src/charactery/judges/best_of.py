"""The best of N answers by a judge: what picks, and how far picking can move a model.

Best-of-N is what training on the same judge is measured against: nothing is trained, and how far its answers are from
the model's own is known beforehand.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from charactery.constitution import dump_character
from charactery.errors import CharacteryError
from charactery.judges.rating import Case, Judge, judge_identity, judge_named, masks_reasoning, of_answers_alone
from charactery.models.chat import Message
from charactery.models.speaker import Models
from charactery.models.subject import Subject, run_character
from charactery.runs import Journal, digest, read_manifest


class Unkept(Journal):
    """A journal of what is asked only once: in memory alone."""

    def __init__(self) -> None:
        self.path, self.done = Path(), {}

    def add(self, key: str, rows: list[Any]) -> None:
        """Remember a batch."""
        self.done[key] = rows


@dataclass(frozen=True)
class BestOf:
    """Picks the best of `n` answers by a judge. `identity` names exactly how, for journals."""

    n: int
    judge: Judge
    identity: str

    def pick(self, cases: Sequence[tuple[Sequence[Message], Sequence[str]]]) -> list[int]:
        """Of each case, (messages, answers), the answer rated highest."""
        rated = self.judge.rate([Case(tuple(m), tuple(a)) for m, a in cases], Unkept(), lambda done: None)
        return [best(values) for values in rated.values]


def best(values: Sequence[float | None]) -> int:
    """The highest, the first of equals; what has no verdict is not picked, unless nothing has one: then the first."""
    known = [n for n, value in enumerate(values) if value is not None]
    return max(known, key=lambda n: values[n] or 0.0) if known else 0


def choosing(models: Models, subject: Subject) -> BestOf:
    """What picks for a Subject that is the best of several answers: the run's judge, for the run's character."""
    character = run_character(subject)
    if character is None:
        raise CharacteryError(f"{subject.text!r} is no run, so there is no character to judge its answers by")
    base = replace(subject, text=subject.base, character=None, adapter=None, run=None, best_of=0, judge="")
    judge = judge_named(subject.judge, models, base)(character)
    identity = [subject.judge, judge_identity(subject.judge, models, base), dump_character(character)]
    if subject.run and masks_reasoning(read_manifest(subject.run)["settings"].get("recipe", {})):
        judge, identity = of_answers_alone(judge, models.base(base)), [*identity, "answers alone"]
    return BestOf(subject.best_of, judge, digest(identity))


def kl_bound(n: int) -> float:
    """KL of the best of n independent answers from the model's own, in nats an answer, at most: log n - (n - 1) / n.

    Stiennon et al. 2020 (arXiv 2009.01325), appendix G; Hilton and Gao 2022, Measuring Goodhart's law. Exact where no
    two answers are rated alike, and an upper bound elsewhere (Beirami et al. 2024, arXiv 2401.01879).
    """
    return math.log(n) - (n - 1) / n
