"""A judge's model that knows one word: it reads both answers in the question, and says which has it."""

from collections.abc import Sequence
from typing import Any

import torch

from charactery.models.local import Answer, LocalModel, Request, Sampler


def shown(question: str) -> tuple[str, str]:
    first, _, second = question.partition("[Answer A]\n")[2].partition("\n\n[Answer B]\n")
    return first, second.partition("\n\nWhich answer")[0]


class Reader:
    """A model that prefers answers with a word in them, and leans to the first place by so much."""

    def __init__(
        self, tiny: LocalModel, lean: float = 0.0, mass: float = 1.0, reply: Any = None, word: str = "Aye"
    ) -> None:
        self.tokenizer, self.lean, self.mass, self.reply, self.word = tiny.tokenizer, lean, mass, reply, word
        self.asked: list[str] = []
        self.context = 8192

    def score(self, pairs: Sequence[tuple[list[int], list[int]]], adapter: Any = None) -> list[torch.Tensor]:
        out = []
        for n, (prompt, _) in enumerate(pairs):
            first, second = ((self.word in text) * 2.0 for text in shown(self.tokenizer.decode(prompt)))
            logits = torch.tensor([first + self.lean, second, 0.5 if first == second == 0 else -9.0])
            out.append((logits.log_softmax(-1) + torch.tensor(self.mass).log())[n % 3][None])
        return out

    def generate(self, requests: Sequence[Request], sampler: Sampler, *others: Any) -> list[Answer]:
        self.asked += [r.messages[-1]["content"] for r in requests]
        return [Answer(self.reply(r.messages[-1]["content"], len(self.asked)), 1, True) for r in requests]
