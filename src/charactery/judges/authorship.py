"""The authorship judge: is this answer likelier in the author's words than in everyone else's?

Two adapters of the same base, one trained on the author's writings and one on others' of the same kinds and times.
The score is the mean log-probability per token of the answer by the first less the same by the second, each behind
passages of its own side that are nearest to the question, as earlier turns of the conversation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from charactery.judges.rating import Asked, Case, Progress, Ratings, rate_alone
from charactery.models.chat import Message, assistant, prompt_tokens, reply_tokens, user
from charactery.models.local import Adapter, LocalModel
from charactery.runs import Journal, Row, file_digest

AUTHORSHIP = "authorship"
READ = 96  # tokens of an answer that are read
Encode = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Library:
    """One side: its adapter's folder, and the passages it may be shown, each with the question it answers.

    `vectors` are unit rows of the passages, shape (passages, width).
    """

    adapter: Path
    passages: tuple[tuple[str, str], ...]
    vectors: np.ndarray

    def nearest(self, question_D: np.ndarray, count: int) -> list[tuple[str, str]]:
        """The passages nearest to a question, the nearest last."""
        order = np.argsort(self.vectors @ question_D, kind="stable")[::-1][:count]
        return [self.passages[n] for n in order[::-1]]


def library(adapter: Path, rows: Sequence[Row], encode: Encode) -> Library:
    """The side of an adapter that was trained on these rows (prompt and completion, as messages)."""
    passages = tuple((row["prompt"][-1]["content"], row["completion"][-1]["content"]) for row in rows)
    return Library(adapter, passages, encode([f"{question} {text}" for question, text in passages]))


@dataclass(frozen=True)
class ByAuthorship:
    """Nats a token by which the author's model makes an answer likelier than the others'. `shown`: passages a side."""

    base: LocalModel
    author: Library
    others: Library
    encode: Encode
    shown: int = 2
    name: str = AUTHORSHIP
    unit: ClassVar[str] = "nats/token"
    alone: ClassVar[bool] = True

    def scores(self, cases: Sequence[tuple[str, str]], shown: int | None = None) -> list[float | None]:
        """A score for each question and answer; None for an empty answer, or one longer than the model's context."""
        shown = self.shown if shown is None else shown
        frame = prompt_tokens(self.base.tokenizer, [user("")])  # ends as all prompts do
        answers = [reply_tokens(self.base.tokenizer, frame, text)[:READ] for _, text in cases]
        filled = [n for n, (_, text) in enumerate(cases) if text.strip()]
        questions_N_D = self.encode([cases[n][0] for n in filled])
        means = []
        for side in (self.author, self.others):
            pairs = [
                (self._context(side, cases[n][0], vector_D, shown, len(answers[n])), answers[n])
                for n, vector_D in zip(filled, questions_N_D, strict=True)
            ]
            means.append([float(v.mean()) for v in self.base.score(pairs, Adapter(side.adapter))])
        out: list[float | None] = [None] * len(cases)
        for n, mine, theirs in zip(filled, *means, strict=True):
            out[n] = None if np.isnan(mine - theirs) else mine - theirs
        return out

    def _context(self, side: Library, question: str, vector_D: np.ndarray, shown: int, room: int) -> list[int]:
        """The question behind as many of the nearest passages as the model's context holds."""
        near = side.nearest(vector_D, shown) if shown else []
        while True:
            turns: list[Message] = [turn for q, text in near for turn in (user(q), assistant(text))]
            tokens = prompt_tokens(self.base.tokenizer, [*turns, user(question)])
            if not near or len(tokens) + room <= self.base.context:
                return tokens
            near = near[1:]

    def rate(self, cases: Sequence[Case], journal: Journal, progress: Progress) -> Ratings:
        """A score for each answer to the last turn; None for an empty one, or one too long."""
        weights = [file_digest(side.adapter / "adapter_model.safetensors") for side in (self.author, self.others)]
        who = [AUTHORSHIP, self.base.name, weights, self.shown]

        def scores(asked: Sequence[Asked]) -> list[float | None]:
            return self.scores([(turn["content"], answer) for turn, answer in asked])

        return rate_alone(cases, who, scores, journal, progress)
