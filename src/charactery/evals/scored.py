"""Evals scored by log-probability, with nothing generated: multiple choice, and bits per byte."""

import asyncio
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import get_model
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver

from charactery.errors import BadData, ModelNotFound
from charactery.models.chat import Message, prompt_tokens, reply_tokens, user
from charactery.models.inspect_provider import CharacteryAPI
from charactery.models.local import bits_per_byte
from charactery.models.speaker import Speaker
from charactery.runs import Row, read_rows

HERE = Path(__file__).parent
WINDOW = 1024  # tokens of raw prose read at once


@dataclass(frozen=True)
class Text:
    """A text whose bits per byte are measured: raw, or as the answer to messages in the chat frame."""

    id: str
    condition: str
    text: str
    messages: tuple[Message, ...] = ()


def prose() -> list[Text]:
    """The project's prose, a text a paragraph. Raises BadData where a file differs from its hash."""
    folder = HERE / "cost" / "prose"
    texts = []
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        wanted, name = line.split()
        content = (folder / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != wanted:
            raise BadData("is not the text the figures are listed for (its hash differs); reinstall", folder / name)
        kind = name.removesuffix(".txt")
        paragraphs = [line for line in content.decode().splitlines() if line.strip()]
        texts += [Text(f"prose-{kind}-{n}", f"prose: {kind}", text) for n, text in enumerate(paragraphs, 1)]
    return texts


def questions() -> list[Row]:
    """The multiple-choice items written for the project."""
    return read_rows(HERE / "multiple_choice" / "items.jsonl")


def text_bits(speaker: Speaker, texts: Sequence[Text]) -> dict[str, float]:
    """Bits per byte of each text under a local subject, by id. Raw prose is read in windows after the start token."""
    assert speaker.model is not None, "a model behind an API does not score text"
    tokenizer = speaker.model.tokenizer
    start = [tokenizer.bos_token_id if tokenizer.bos_token_id is not None else speaker.model.ends[0]]
    pairs: list[tuple[list[int], list[int]]] = []
    owners: list[str] = []
    for text in texts:
        if text.messages:
            context = prompt_tokens(tokenizer, speaker.prompt(text.messages))
            ids = reply_tokens(tokenizer, context, text.text)
        else:
            context, ids = start, tokenizer(text.text, add_special_tokens=False)["input_ids"]
        room = max(1, min(WINDOW, speaker.model.context - len(context)))
        windows = [ids[n : n + room] for n in range(0, len(ids), room)]
        pairs += [(context, window) for window in windows]
        owners += [text.id] * len(windows)
    sums = dict.fromkeys((t.id for t in texts), 0.0)
    for owner, values in zip(owners, speaker.model.score(pairs, speaker.adapter), strict=True):
        sums[owner] += float(values.sum())
    return {t.id: bits_per_byte(sums[t.id], t.text) for t in texts if t.text and not math.isnan(sums[t.id])}


def option_scores(speaker: Speaker, rows: Sequence[Row]) -> dict[str, list[float]]:
    """Mean log-probability per token of each option as the reply to its question, by item id."""
    assert speaker.model is not None, "a model behind an API does not score text"
    tokenizer = speaker.model.tokenizer
    pairs = []
    for row in rows:
        context = prompt_tokens(tokenizer, speaker.prompt([user(row["question"])]))
        pairs += [(context, reply_tokens(tokenizer, context, o)) for o in row["options"]]
    means = iter([float(values.mean()) for values in speaker.model.score(pairs, speaker.adapter)])
    found = {row["id"]: [next(means) for _ in row["options"]] for row in rows}
    return {id: values for id, values in found.items() if not any(map(math.isnan, values))}


def cost_task(texts: Sequence[Text]) -> Task:
    """Bits per byte as an Inspect task: a sample a text."""
    samples = [Sample(input=t.text, id=t.id, metadata={"condition": t.condition}) for t in texts]
    return Task(
        name="cost", dataset=MemoryDataset(samples, name="texts"), solver=nothing_said(),
        scorer=looked_up("bits", lambda speaker: text_bits(speaker, texts)),
    )  # fmt: skip


def choice_task(rows: Sequence[Row]) -> Task:
    """Multiple choice by log-probability as an Inspect task."""
    samples = [
        Sample(
            input=row["question"], choices=row["options"], target="ABCDEFGH"[row["answer"]], id=row["id"],
            metadata={"condition": row["kind"]},
        )
        for row in rows
    ]  # fmt: skip
    return Task(
        name="multiple_choice",
        dataset=MemoryDataset(samples, name="multiple choice"),
        solver=nothing_said(),
        scorer=looked_up("options", lambda speaker: option_scores(speaker, rows)),
    )


@task
def cost() -> Task:
    """Bits per byte on the project's prose, for `--model charactery/SUBJECT`."""
    return cost_task(prose())


@task
def multiple_choice() -> Task:
    """The multiple-choice set, for `--model charactery/SUBJECT`."""
    return choice_task(questions())


@solver
def nothing_said() -> Solver:
    """Generates nothing; the scorer reads log-probabilities."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        return state

    return solve


@scorer(metrics=[mean()])
def looked_up(what: str, compute: Callable[[Speaker], Any]) -> Scorer:
    """Scores of the model's provider, `bits` or `options` (then the option with the highest mean counts).

    Where a run has not computed them before, all are computed together when the first is asked for. Raises
    ModelNotFound for a model without log-probabilities.
    """
    lock = asyncio.Lock()

    async def score(state: TaskState, target: Target) -> Score | None:
        api = get_model().api
        if not isinstance(api, CharacteryAPI):
            raise ModelNotFound("this eval reads log-probabilities; give --model charactery/SUBJECT")
        async with lock:
            if what not in api.scores and not api.scripted:
                if api.loaded().chooser:
                    raise ModelNotFound("this eval reads log-probabilities, and the best of several answers has none")
                api.scores[what] = await asyncio.to_thread(lambda: compute(api.loaded()))
        value = api.scores.get(what, {}).get(str(state.sample_id))
        if value is None:
            return None
        if isinstance(value, list):
            picked = "ABCDEFGH"[max(range(len(value)), key=value.__getitem__)]
            return Score(value=float(picked == target.text), answer=picked, metadata={"scores": value})
        return Score(value=value)

    return score
