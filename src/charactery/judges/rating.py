"""Several answers to each prompt, rated against each other by a judge: what picks best and worst of a model's own."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from charactery.constitution import Character, foil_characters
from charactery.judges.likelihood import evidence, margins
from charactery.judges.llm import Comparison, LlmJudge, counts
from charactery.models.chat import Message
from charactery.models.local import LocalModel
from charactery.models.reasoning import without_reasoning
from charactery.models.speaker import Models
from charactery.models.subject import Subject
from charactery.runs import Journal, digest

LIKELIHOOD = "likelihood"
TOGETHER = 16  # prompts whose answers are read at once, between two entries of the journal

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Case:
    """Messages up to the last user turn, and answers to them."""

    messages: tuple[Message, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Ratings:
    """By case, a number for each answer, higher is more in character; None where the judge gave no verdict.

    `outcomes` counts what the judge said, verdicts that were not to be had included.
    """

    values: tuple[tuple[float | None, ...], ...]
    outcomes: dict[str, int] = field(default_factory=dict)


class Judge(Protocol):
    """Whoever can rate answers. `name` says who, for reports."""

    @property
    def name(self) -> str:
        """Who judges."""

    def rate(self, cases: Sequence[Case], journal: Journal, progress: Progress) -> Ratings:
        """Rate every answer of every case; `progress` is told of answers."""


@dataclass(frozen=True)
class ByLikelihood:
    """Nats a token by which the character makes an answer likelier than its foils do, by the base as it was."""

    base: LocalModel
    character: Character
    name: str = LIKELIHOOD

    def rate(self, cases: Sequence[Case], journal: Journal, progress: Progress) -> Ratings:
        """A margin for each answer; None for an empty one."""
        [whole, *_] = evidence(self.character, foil_characters())
        values: list[tuple[float | None, ...]] = []
        for start in range(0, len(cases), TOGETHER):
            part = cases[start : start + TOGETHER]
            # what is read is an answer and the turn it answers: what was said before would give the voice away
            asked = [([case.messages[-1]], answer) for case in part for answer in case.answers]
            key = digest(["likelihood", self.base.name, whole.text, whole.foils, asked])
            if key not in journal.done:
                found = margins(self.base, asked, [whole])[0]
                journal.add(key, [None if np.isnan(v) else float(v) for v in found])
            found = iter(journal.done[key])
            values += [tuple(next(found) for _ in case.answers) for case in part]
            progress(len(asked))
        rated = Counter("rated" if v is not None else "empty" for row in values for v in row)
        return Ratings(tuple(values), dict(rated))


@dataclass(frozen=True)
class ByComparison:
    """The share of a prompt's other answers that an answer wins against, by an LLM judge, in probability."""

    judge: LlmJudge

    @property
    def name(self) -> str:
        """The Subject that judges."""
        return self.judge.speaker.subject.text

    def rate(self, cases: Sequence[Case], journal: Journal, progress: Progress) -> Ratings:
        """Every answer against every other; the mean of those with a verdict, None where there was none."""
        asked: list[tuple[int, int, int]] = []
        for c, case in enumerate(cases):
            asked += [(c, a, b) for a, b in itertools.combinations(range(len(case.answers)), 2)]
        comparisons = [Comparison(cases[c].messages, cases[c].answers[a], cases[c].answers[b]) for c, a, b in asked]
        answers, done = sum(len(case.answers) for case in cases), [0, 0]

        def advance(compared: int) -> None:
            done[0] += compared
            reached = answers * done[0] // max(1, len(asked))
            progress(reached - done[1])
            done[1] = reached

        verdicts = self.judge.compare(comparisons, journal, advance)
        won: dict[tuple[int, int], list[float]] = defaultdict(list)
        for (c, a, b), verdict in zip(asked, verdicts, strict=True):
            if verdict.probability is not None:
                won[c, a].append(verdict.probability)
                won[c, b].append(1 - verdict.probability)
        values = tuple(
            tuple(float(np.mean(won[c, a])) if (c, a) in won else None for a in range(len(case.answers)))
            for c, case in enumerate(cases)
        )
        return Ratings(values, counts(verdicts))


@dataclass(frozen=True)
class OfAnswersAlone:
    """A judge that is not shown the reasoning in answers."""

    judge: Judge

    @property
    def name(self) -> str:
        """The judge's."""
        return self.judge.name

    def rate(self, cases: Sequence[Case], journal: Journal, progress: Progress) -> Ratings:
        """The judge's ratings of what is left of each answer."""
        shown = [Case(case.messages, tuple(map(without_reasoning, case.answers))) for case in cases]
        return self.judge.rate(shown, journal, progress)


def judge_named(name: str, models: Models, base: Subject) -> Callable[[Character], Judge]:
    """What makes the judge of this name for a character: `likelihood`, by a base model, or a Subject that compares."""
    if name == LIKELIHOOD:
        model = models.base(base)
        return lambda character: ByLikelihood(model, character)
    speaker = models.speaker(name)
    return lambda character: ByComparison(LlmJudge(speaker, character))
