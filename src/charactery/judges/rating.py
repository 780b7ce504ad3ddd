"""Several answers to each prompt, rated against each other by a judge: what picks best and worst of a model's own."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from charactery.constitution import Character, foil_characters
from charactery.judges.likelihood import evidence, margins
from charactery.judges.llm import Comparison, LlmJudge, counts
from charactery.models.chat import Message
from charactery.models.local import LocalModel, derive_seed
from charactery.models.reasoning import left_open, without_reasoning
from charactery.models.speaker import Models
from charactery.models.subject import Subject
from charactery.runs import Journal, Row, digest

LIKELIHOOD = "likelihood"
STUDENT = (
    "The judge that compares the model's own answers is the model that is trained. It may prefer what it would say "
    "itself; take another with `judge` in the recipe, and read the likelihood beside the rate."
)
TOGETHER = 16  # prompts whose answers are read at once, between two entries of the journal

Progress = Callable[[int], None]
Asked = tuple[Message, str]  # the turn that is answered, and an answer


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

    @property
    def unit(self) -> str:
        """What ratings are measured in."""

    @property
    def alone(self) -> bool:
        """Whether an answer's rating is the same whatever answers stand beside it."""

    def rate(self, cases: Sequence[Case], journal: Journal, progress: Progress) -> Ratings:
        """Rate every answer of every case; `progress` is told of answers."""


@dataclass(frozen=True)
class ByLikelihood:
    """Nats a token by which the character makes an answer likelier than its foils do, by the base as it was."""

    base: LocalModel
    character: Character
    name: str = LIKELIHOOD
    unit: ClassVar[str] = "nats/token"
    alone: ClassVar[bool] = True

    def rate(self, cases: Sequence[Case], journal: Journal, progress: Progress) -> Ratings:
        """A margin for each answer; None for an empty one, or one that the model's context does not hold."""
        [whole, *_] = evidence(self.character, foil_characters())
        who = [LIKELIHOOD, self.base.name, whole.text, whole.foils]

        def scores(asked: Sequence[Asked]) -> list[float | None]:
            # what is read is an answer and the turn it answers: what was said before would give the voice away
            found = margins(self.base, [([turn], answer) for turn, answer in asked], [whole])[0]
            return [None if np.isnan(v) else float(v) for v in found]

        return rate_alone(cases, who, scores, journal, progress)


def rate_alone(
    cases: Sequence[Case], who: Sequence[Any], scores: Callable[[Sequence[Asked]], list[float | None]],
    journal: Journal, progress: Progress,
) -> Ratings:  # fmt: skip
    """Ratings by a judge that scores each answer, with the turn it answers, by itself; `who` names it for journals."""
    values: list[tuple[float | None, ...]] = []
    outcomes: Counter[str] = Counter()
    for start in range(0, len(cases), TOGETHER):
        part = cases[start : start + TOGETHER]
        asked = [(case.messages[-1], answer) for case in part for answer in case.answers]
        key = digest([*who, asked])
        if key not in journal.done:
            journal.add(key, scores(asked))
        found = iter(journal.done[key])
        rated = [tuple(next(found) for _ in case.answers) for case in part]
        for (_, answer), value in zip(asked, itertools.chain(*rated), strict=True):
            outcomes["rated" if value is not None else "too long" if answer.strip() else "empty"] += 1
        values += rated
        progress(len(asked))
    return Ratings(tuple(values), dict(outcomes))


@dataclass(frozen=True)
class ByComparison:
    """The share of a prompt's other answers that an answer wins against, by an LLM judge, in probability."""

    judge: LlmJudge
    unit: ClassVar[str] = "share won"
    alone: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The Subject that judges."""
        return self.judge.speaker.subject.text

    def rate(self, cases: Sequence[Case], journal: Journal, progress: Progress) -> Ratings:
        """Every answer that says something against every other; the mean of those with a verdict, None for none.

        Beside answers that say nothing, the only one that does has won.
        """
        asked: list[tuple[int, int, int]] = []
        for c, case in enumerate(cases):
            said = [n for n, answer in enumerate(case.answers) if answer.strip()]
            asked += [(c, a, b) for a, b in itertools.combinations(said, 2)]
        comparisons = [Comparison(cases[c].messages, cases[c].answers[a], cases[c].answers[b]) for c, a, b in asked]
        answers, done = sum(len(case.answers) for case in cases), [0, 0]

        def advance(compared: int) -> None:
            done[0] += compared
            reached = answers * done[0] // max(1, len(asked))
            progress(reached - done[1])
            done[1] = reached

        verdicts = self.judge.compare(comparisons, journal, advance)
        won: dict[tuple[int, int], list[float]] = defaultdict(list)
        for c, case in enumerate(cases):  # one that says something wins against what says nothing
            match [n for n, answer in enumerate(case.answers) if answer.strip()]:
                case [alone] if len(case.answers) > 1:
                    won[c, alone].append(1.0)
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
    """A judge that is not shown the reasoning in answers. `begun` is a mark that the prompt left open for them."""

    judge: Judge
    begun: str = ""

    @property
    def name(self) -> str:
        """The judge's."""
        return self.judge.name

    @property
    def unit(self) -> str:
        """The judge's."""
        return self.judge.unit

    @property
    def alone(self) -> bool:
        """As of the judge."""
        return self.judge.alone

    def rate(self, cases: Sequence[Case], journal: Journal, progress: Progress) -> Ratings:
        """The judge's ratings of what is left of each answer."""
        shown = [Case(case.messages, tuple(without_reasoning(a, self.begun) for a in case.answers)) for case in cases]
        return self.judge.rate(shown, journal, progress)


def masks_reasoning(recipe: Row) -> bool:
    """Whether a run with this recipe, as its manifest has it, leaves the reasoning in answers free."""
    return any(recipe.get(trains, {}).get("mask_reasoning", False) for trains in ("sft", "dpo", "grpo"))


def of_answers_alone(judge: Judge, model: LocalModel) -> Judge:
    """The judge of a run that masks reasoning: it is shown what that leaves of answers, which this model reads."""
    return OfAnswersAlone(judge, left_open(model.tokenizer))


@dataclass(frozen=True)
class ByCoin:
    """A number from 0 to 1 by the answer's letters and a seed: a reward with nothing in it to learn, for a sham."""

    seed: int
    name: str = "coin"
    unit: ClassVar[str] = ""
    alone: ClassVar[bool] = True

    def rate(self, cases: Sequence[Case], journal: Journal, progress: Progress) -> Ratings:
        """The same answer to the same messages always has the same number."""
        values = []
        for case in cases:
            told = [[m["role"], m["content"]] for m in case.messages]
            values.append(tuple(derive_seed(self.seed, told, answer) / 2**63 for answer in case.answers))
            progress(len(case.answers))
        return Ratings(tuple(values), {"rated": sum(map(len, values))})


def judge_identity(name: str, models: Models, base: Subject) -> str:
    """What names exactly the judge that `judge_named` makes: its weights, and what it reads before what it judges."""
    if name == LIKELIHOOD:
        frame = models.frame_hash(base)
        return digest([models.base_hash(base), frame]) if frame else models.base_hash(base)
    speaker = models.speaker(name)
    return digest([speaker.identity, speaker.prompt([])])


def judge_named(name: str, models: Models, base: Subject) -> Callable[[Character], Judge]:
    """What makes the judge of this name for a character: `likelihood`, by a base model, or a Subject that compares."""
    if name == LIKELIHOOD:
        model = models.base(base)
        return lambda character: ByLikelihood(model, character)
    speaker = models.speaker(name)
    return lambda character: ByComparison(LlmJudge(speaker, character))
