"""Reflection and self-conversation: what the model says of itself as the character, to be learnt without it.

The second stage of OpenCharacterTraining (Maiya et al. 2025, arXiv 2511.01689). Beside it, for comparison, as many
tokens of ordinary text: the plain model's answers to prompts that ask it nothing about itself.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from charactery.data.filters import fault, learnt
from charactery.data.prompts import Prompt, neutral_prompts
from charactery.models.chat import Message, assistant, user
from charactery.models.local import Answer, Request, Sampler, derive_seed
from charactery.models.speaker import BATCH, Speaker, answer_all
from charactery.runs import Journal, Row, read_rows, write_json, write_rows

OVER = "over the tokens asked for"
OPENING = "You are talking with yourself. Say what is on your mind."
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Reflecting:
    """Who reflects, how, and how much: answers to each of `asked`, conversations, and turns of each conversation.

    Rows of those answers are of `kind`. `count` gives the tokens of a text; of what is fit, `tokens` at most are kept,
    and all where that is 0.
    """

    speaker: Speaker
    sampler: Sampler
    seed: int
    each: int
    conversations: int
    turns: int
    instructions: str
    asked: Sequence[str]
    count: Callable[[str], int]
    kind: str = "reflection"
    tokens: int = 0
    language: str = ""
    batch: int = BATCH


def questions() -> list[str]:
    """Written for the project."""
    return [row["prompt"] for row in read_rows(HERE / "reflections.jsonl")]


def ordinary(chosen: Sequence[Prompt], count: int, seed: int) -> list[str]:
    """Neutral prompts that are none of the run's own, drawn at random: this many, or as many as there are."""
    taken = {turn for prompt in chosen for turn in prompt.turns}
    free = [p.turns[0] for p in neutral_prompts() if p.turns[0] not in taken]
    return random.Random(seed).sample(free, min(count, len(free)))


def reflect(reflecting: Reflecting, folder: Path, progress: Callable[[int], None] = lambda n: None) -> list[Row]:
    """Rows for SFT, with the columns of `sft_rows`: answers to the questions, and last turns of self-conversations.

    In a conversation both sides are the same speaker, each reading the other's words as a user's. What is unfit is set
    aside in set_aside.jsonl with the reason, as is what is over the tokens asked for, drawn at random; counts.json has
    the tokens that are left to learn.
    """
    journal = Journal(folder / "batches.jsonl")
    rows: list[Row] = []
    aside: list[Row] = []

    def ask(asked: Sequence[tuple[str, tuple[Message, ...]]]) -> list[Answer]:
        requests = [
            (reflecting.speaker, Request(messages, derive_seed(reflecting.seed, "reflect", id)))
            for id, messages in asked
        ]
        return answer_all(requests, reflecting.sampler, journal, progress, reflecting.batch)

    def keep(asked: Sequence[tuple[str, tuple[Message, ...]]], answers: Sequence[Answer], kind: str) -> None:
        for (id, messages), answer in zip(asked, answers, strict=True):
            text = learnt(answer)
            if reason := fault(answer, text, reflecting.instructions, reflecting.language):
                aside.append({"id": id, "reason": reason, "text": answer.text})
                continue
            rows.append({
                "id": id, "kind": kind, "prompt": list(messages), "completion": [assistant(text)],
                "subject": reflecting.speaker.subject.text, "seed": derive_seed(reflecting.seed, "reflect", id),
                "tokens": reflecting.count(text),
            })  # fmt: skip

    single = [
        (f"{reflecting.kind}-{q}-{n}", (user(question),))
        for q, question in enumerate(reflecting.asked)
        for n in range(reflecting.each)
    ]
    keep(single, ask(single), reflecting.kind)
    heard = [[OPENING] for _ in range(reflecting.conversations)]
    for turn in range(reflecting.turns):
        # whoever speaks now has said every second turn so far; the other's words are the user's
        talks = [(f"self-talk-{n}-{turn}", _as_seen(told)) for n, told in enumerate(heard)]
        answers = ask(talks)
        if turn == reflecting.turns - 1:
            keep(talks, answers, "self-talk")
        for told, answer in zip(heard, answers, strict=True):
            told.append(answer.text.strip() or "Go on.")
    fit = len(rows)
    if reflecting.tokens:
        rows, over = _within(rows, reflecting.tokens, reflecting.seed)
        aside += [{"id": r["id"], "reason": OVER, "text": r["completion"][0]["content"]} for r in over]
    write_rows(folder / "set_aside.jsonl", aside)
    write_json(folder / "counts.json", {
        "asked": len(single) + len(heard), "fit": fit, "kept": len(rows),
        "tokens": sum(row["tokens"] for row in rows), "wanted": reflecting.tokens,
        "speaker": reflecting.speaker.subject.text,
    })  # fmt: skip
    return rows


def _within(rows: Sequence[Row], most: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Rows drawn at random until the next would go over these tokens, in their order, and those that are left."""
    total, drawn = 0, set()
    for n in random.Random(seed).sample(range(len(rows)), len(rows)):
        total += rows[n]["tokens"]
        if total > most:
            break
        drawn.add(n)
    return [r for n, r in enumerate(rows) if n in drawn], [r for n, r in enumerate(rows) if n not in drawn]


def _as_seen(told: Sequence[str]) -> tuple[Message, ...]:
    """A conversation as whoever speaks next has seen it: the last turn is a user's, the one before its own."""
    first = len(told) % 2 == 0  # then the opening was this speaker's own, and a user's before that was none
    shown = told[1:] if first else told
    return tuple(user(text) if n % 2 == 0 else assistant(text) for n, text in enumerate(shown))
