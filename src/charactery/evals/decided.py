"""What of an answer is decided at each point of the reasoning before it.

A Subject reasons and answers. Then its reasoning is cut off, closed there, and two things are looked at: how much
likelier its own answer has become than without any reasoning, and what it answers from there. What the reasoning does
not decide was decided before it. Early answering, after Lanham et al. 2023 (arXiv 2307.13702).
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from charactery.data.prompts import Prompt, neutral_prompts
from charactery.errors import ModelNotFound
from charactery.evals.expression.task import spread
from charactery.judges.likelihood import Evidence, margins
from charactery.models.chat import prompt_tokens, user
from charactery.models.local import Answer, LocalModel, Request, Sampler, derive_seed
from charactery.models.reasoning import LEFT_OPEN, MARKS, left_open
from charactery.models.speaker import Speaker, answer_all
from charactery.runs import Journal, Row
from charactery.stats import mean, rate

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the reasoning's tokens that are kept
PARTS = re.compile(rf"(\s*<({MARKS})>\s*)(.*?)(\s*</\2>\s*)(.*)", re.DOTALL)


@dataclass(frozen=True)
class Reasoned:
    """An answer of a model that reasons first, in its parts; `opening` is empty where the chat template wrote it."""

    opening: str
    thought: str
    closing: str
    answer: str

    def until(self, share: float, tokenizer: Any) -> str:
        """The reply up to the answer, with so much of the reasoning in it."""
        if share == 1:
            return self.opening + self.thought + self.closing
        ids = tokenizer(self.thought, add_special_tokens=False)["input_ids"]
        return self.opening + str(tokenizer.decode(ids[: round(share * len(ids))])) + self.closing


def parted(text: str, begun: str) -> Reasoned | str:
    """The parts of a reply, or why it has none. `begun` is what the chat template has opened before it."""
    whole = begun + text
    found = PARTS.fullmatch(whole)
    if not found:
        return "never closed" if LEFT_OPEN.search(whole) else "no reasoning"
    if not found[5].strip():
        return "no answer"
    start = max(found.start(3), len(begun))
    return Reasoned(whole[len(begun) : start], whole[start : found.end(3)], found[4], found[5].strip())


def _read(reply: Answer, begun: str) -> Reasoned | str:
    """The parts of a whole reply, or why it is missing: no answer from a stump's reasoning would be the same."""
    if reply.error:
        return reply.error
    parts = parted(reply.text, begun)
    return parts if reply.ended or isinstance(parts, str) else "cut off"


def asked_of(kept: Sequence[Prompt], most: int) -> list[str]:
    """At most so many single held-out prompts of a run, of all its kinds; of the project's own where it has none."""
    held = [p for p in kept if p.split == "held-out" and len(p.turns) == 1]
    return [p.turns[0] for p in spread(held or neutral_prompts(), most)]


def decided(
    speaker: Speaker,
    asked: Sequence[str],
    max_tokens: int,
    seed: int,
    journal: Journal,
    character: tuple[LocalModel, Evidence] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[list[Row], dict[str, int]]:
    """Figures by share of the reasoning kept, and how many replies are missing, by reason: cut off, or without parts.

    `asked` are prompts; the likeliest tokens are taken, so that with all of its reasoning a model says the same again.
    With a `character`, and a base model that reads, the likelihood judge rates the answers. Rows have share, metric and
    estimate. `progress` is told of answers, len(SHARES) + 1 to a prompt. Raises ModelNotFound for what answers over an
    API or chooses among answers.
    """
    model = speaker.model
    if model is None or speaker.chooser:
        raise ModelNotFound(f"{speaker.subject.text} gives no log-probabilities; give a model on this machine")
    sampler, begun = Sampler(max_tokens, 0.0), left_open(model.tokenizer)
    requests = [Request((user(prompt),), derive_seed(seed, "decided", prompt)) for prompt in asked]
    replies = answer_all([(speaker, r) for r in requests], sampler, journal, progress)
    read = [_read(reply, begun) for reply in replies]
    missing = Counter(one for one in read if isinstance(one, str))
    reasoned = [(r, one) for r, one in zip(requests, read, strict=True) if isinstance(one, Reasoned)]
    found: list[Row] = []
    without: list[float] = []  # any of the reasoning
    for share in SHARES:
        cut = [Request(r.messages, r.seed, one.until(share, model.tokenizer)) for r, one in reasoned]
        answers = answer_all([(speaker, r) for r in cut], sampler, journal, progress)
        again = [answer.text.strip() for answer in answers]
        progress(len(requests) - len(cut))
        pairs = [
            (
                prompt_tokens(model.tokenizer, speaker.prompt(r.messages), r.prefill),
                model.tokenizer(one.answer, add_special_tokens=False)["input_ids"],
            )
            for r, (_, one) in zip(cut, reasoned, strict=True)
        ]
        nats = [float(values.mean()) for values in model.score(pairs, speaker.adapter)]
        without = without or nats
        gained = [_known(now - before) for now, before in zip(nats, without, strict=True)]
        same = [
            now.text.strip() == one.answer if now.ended and not now.error else None
            for now, (_, one) in zip(answers, reasoned, strict=True)
        ]
        figures = {"decided": mean(gained, seed, "nats/token"), "same answer": rate(same)}
        if character:
            base, whole = character
            [rated] = margins(base, [(r.messages, text) for r, text in zip(cut, again, strict=True)], [whole])
            figures["in character"] = mean([_known(float(value)) for value in rated], seed, "nats/token")
        found += [{"share": share, "metric": name, "estimate": one.as_dict()} for name, one in figures.items()]
    return found, dict(missing)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
