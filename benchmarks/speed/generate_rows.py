"""Generation beside transformers' own, by itself and through Inspect."""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from benchmarks.speed import texts
from benchmarks.speed.measure import Pass, Row
from benchmarks.speed.score_rows import body, forget, forward, head, loaded
from transformers import AutoTokenizer

from charactery.models.chat import Message, prompt_text, prompt_tokens
from charactery.models.local import Answer, LocalModel, Request, Sampler
from charactery.models.speaker import BATCH, Models, Speaker, answer, batches
from charactery.models.subject import parse_subject
from charactery.runs import _give_back_memory

LONGEST, WARMTH = 96, 0.7


def alike(
    model: LocalModel, folder: Path, messages: Sequence[Sequence[Message]]
) -> Callable[[Any, Any], tuple[str, bool]]:
    """Whether two lots of answers are drawn from one distribution: their mean log-probability a token by the model.

    By transformers in float32, whatever drew them, at temperature 1.
    """

    def compare(ours: list[str], theirs: list[str]) -> tuple[str, bool]:
        network = loaded(folder, "float32", model.device)
        words, found = [], []
        for name, said in (("ours", ours), ("theirs", theirs)):
            pairs = [
                (prompt_tokens(model.tokenizer, m), model.tokenizer(text, add_special_tokens=False)["input_ids"])
                for m, text in zip(messages, said, strict=True)
            ]
            pairs = [pair for pair in pairs if pair[1]]
            sums = forward(network, pairs, 16, model.pad)
            means = [value / len(k) for value, (_, k) in zip(sums, pairs, strict=True)]
            spread = 1.96 * statistics.stdev(means) / len(means) ** 0.5
            words.append(f"{name} {statistics.mean(means):.3f} ± {spread:.3f}")
            found.append((statistics.mean(means), spread))
        (ours_is, ours_within), (theirs_is, theirs_within) = found
        told = f"mean log-probability a token under the model in float32: {', '.join(words)}"
        return told, abs(ours_is - theirs_is) <= ours_within + theirs_within

    return compare


def sizes(rows: int) -> list[int]:
    """Batch sizes to sweep: from an eighth of the rows to all of them at once, or 256."""
    whole = min(rows, 256)
    return [*(n for n in (12, 32, 64, 128) if whole / 8 <= n < whole), whole]


def needed(model: LocalModel, messages: Sequence[Sequence[Message]]) -> tuple[int, str]:
    """Distinct prompt tokens, and the arithmetic in words."""
    tokens = texts.distinct(prompt_tokens(model.tokenizer, m) for m in messages)
    return tokens, (
        f"2 × {body(model):.3g} parameters × ({tokens:,} distinct prompt tokens + tokens written), the vocabulary for "
        f"each token written; and the weights are read once in each of {LONGEST} steps of each batch"
    )


def answered(speaker: Speaker, requests: Sequence[Request], sampler: Sampler) -> list[Answer]:
    """Answers as a run's are asked for: in even batches of like length."""
    asks, out = [(speaker, request) for request in requests], dict[int, Answer]()
    for batch in batches(asks, BATCH, sampler.max_tokens):
        out |= dict(zip(batch, answer([asks[i] for i in batch], sampler), strict=True))
    return [out[i] for i in range(len(asks))]


def generate_row(
    model: LocalModel, folder: Path, prompts: int, each: int, constitution: bool, swept: Sequence[int] = ()
) -> Row:
    """On a card the peer is `swept` over these batch sizes alone."""
    text = texts.constitutions(model.tokenizer, 1)[0] if constitution else ""
    messages = [texts.asked(p, text) for p in texts.prompts(prompts) for _ in range(each)]
    speaker = Speaker(parse_subject("smollm2"), model, None, "bench")
    sampler = Sampler(LONGEST, WARMTH)
    turn = [0]

    def ours() -> Pass:
        turn[0] += 1
        forget(model)
        asked = [Request(m, turn[0] * 100_000 + n) for n, m in enumerate(messages)]
        out = answered(speaker, asked, sampler)
        return Pass([a.text for a in out], sum(a.tokens for a in out))

    def peer(dtype: str, size: int, some: Sequence[Sequence[Message]], **settings: Any) -> Pass:
        return transformers_answers(loaded(folder, dtype, model.device), folder, model, some, size, **settings)

    by_length = sorted(messages, key=lambda m: sum(len(turn["content"]) for turn in m))
    tried = {f"bfloat16, batches of {size}": ("bfloat16", size, {}) for size in swept}
    if not swept:
        for size in sizes(len(messages)):
            tried[f"bfloat16, batches of {size}"] = "bfloat16", size, {}
            tried[f"bfloat16, batches of {size}, static cache"] = "bfloat16", size, {"cache_implementation": "static"}
        most = min(64, len(messages))
        tried[f"float32, batches of {most}"] = "float32", most, {}
    tokens, arithmetic = needed(model, messages)
    return Row(
        name="generate, one character" if constitution else "generate",
        work=f"{each} answers to each of {prompts} prompts behind a constitution of 600 tokens" if constitution
        else f"{prompts} answers to {prompts} prompts, at most {LONGEST} tokens, natural stops",
        peer="transformers.generate",
        unit="tokens",
        target=4.0 if constitution else 2.3,
        ours=ours,
        peers={name: lambda d=d, n=n, s=s: peer(d, n, messages, **s) for name, (d, n, s) in tried.items()},
        trials={  # one batch of several, of all lengths
            name: lambda d=d, n=n, s=s: peer(d, n, by_length[:: len(messages) // n], **s)
            for name, (d, n, s) in tried.items()
            if n < len(messages) and len(messages) % n == 0
        },
        compare=alike(model, folder, messages),
        operations=lambda done: 2 * body(model) * (tokens + done.amount) + 2 * head(model) * done.amount,
        bytes_read=lambda done: 2.0 * (body(model) + head(model)) * LONGEST * -(-len(messages) // BATCH),
        arithmetic=arithmetic,
        sized=True,
        device=model.device,
    )  # fmt: skip


@cache
def tokenizer_of(folder: Path) -> Any:
    """A peer's, loaded once, as ours is."""
    return AutoTokenizer.from_pretrained(folder, padding_side="left")


@torch.inference_mode()
def transformers_answers(
    network: Any, folder: Path, model: LocalModel, messages: Sequence[Sequence[Message]], size: int, **settings: Any
) -> Pass:
    """`generate` on batches sorted by length, padded on the left. Tokens count up to the first end."""
    tokenizer = tokenizer_of(folder)
    strings = [prompt_text(tokenizer, m) for m in messages]
    order = sorted(range(len(strings)), key=lambda i: len(strings[i]))
    said, total = [""] * len(strings), 0
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        inputs = tokenizer([strings[i] for i in batch], return_tensors="pt", padding=True, add_special_tokens=False)
        inputs = inputs.to(network.device)
        out = network.generate(
            **inputs, do_sample=True, temperature=WARMTH, top_k=0, top_p=1.0, max_new_tokens=LONGEST,
            pad_token_id=model.pad, **settings,
        )[:, inputs["input_ids"].shape[1] :]  # fmt: skip
        for i, row in zip(batch, out.tolist(), strict=True):
            end = next((n for n, token in enumerate(row) if token in model.ends), None)
            total += len(row) if end is None else end + 1
            said[i] = tokenizer.decode(row[:end], skip_special_tokens=True).strip()
    return Pass(said, total)


_made: dict[tuple[str, int], Any] = {}  # Inspect's models of this process


def inspect_pass(how: tuple[str, int], prompts: int, each: int, constitution: bool, seed: int) -> Pass:
    """One eval: by our provider for size 0, by Inspect's own in that type and batches of that size. It alone is timed.

    Runs in a process of its own.
    """
    from inspect_ai import Epochs, Task
    from inspect_ai import eval as inspect_eval
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser, GenerateConfig, get_model
    from inspect_ai.solver import generate

    dtype, size = how
    folder = Models("cpu").folder(parse_subject("smollm2"))
    tokenizer = tokenizer_of(folder)
    if how not in _made:
        _made[how] = (
            get_model(
                f"hf/{folder}", memoize=False, device="cpu", batch_size=size, torch_dtype=getattr(torch, dtype),
                config=GenerateConfig(max_connections=size, top_k=0, top_p=1.0),
            )
            if size
            else get_model("charactery/smollm2", memoize=False)
        )  # fmt: skip
    text = texts.constitutions(tokenizer, 1)[0] if constitution else ""
    start = [ChatMessageSystem(content=text)] if text else []
    samples = [Sample(input=[*start, ChatMessageUser(content=p)], id=n) for n, p in enumerate(texts.prompts(prompts))]
    config = GenerateConfig(max_tokens=LONGEST, temperature=WARMTH, seed=seed)
    task = Task(dataset=MemoryDataset(samples), solver=generate(), config=config, epochs=Epochs(each))
    speaker = None if size else _made[how].api.speaker
    if speaker and speaker.model:
        forget(speaker.model)
    began = time.perf_counter()
    [log] = inspect_eval(task, model=_made[how], display="none", log_level="error", log_dir="benchmarks/logs")
    took = time.perf_counter() - began
    assert log.status == "success" and log.samples
    said = [s.output.completion for s in sorted(log.samples, key=lambda s: (s.id, s.epoch))]
    # counted of the text, with its end where it was not cut off: Inspect's provider gives each row its batch's longest
    lengths = [len(tokenizer(t, add_special_tokens=False)["input_ids"]) for t in said]
    _give_back_memory()
    return Pass(said, sum(min(n + 1, LONGEST) for n in lengths), took)


def inspect_row(model: LocalModel, folder: Path, prompts: int, each: int, constitution: bool) -> Row:
    # a process for each side: its provider's threads stay, and OpenMP stops spinning where there are more threads than
    # cores, so that the other side would take 1.4 times as long in the same process
    sides = {name: multiprocessing.get_context("spawn").Pool(1) for name in ("ours", "peer")}
    turn = [0]

    def run(side: str, dtype: str, size: int) -> Pass:
        turn[0] += 1
        done: Pass = sides[side].apply(inspect_pass, ((dtype, size), prompts, each, constitution, turn[0]))
        return done

    text = texts.constitutions(model.tokenizer, 1)[0] if constitution else ""
    messages = [texts.asked(p, text) for p in texts.prompts(prompts) for _ in range(each)]
    tokens, arithmetic = needed(model, messages)
    tried = [*(("bfloat16", n) for n in sizes(len(messages))), ("float32", min(64, len(messages)))]
    return Row(
        name="Inspect, one character" if constitution else "Inspect",
        work=f"{each} answers to each of {prompts} prompts, through Inspect{', behind a constitution' * constitution}",
        peer="Inspect's hf provider",
        unit="tokens",
        target=3.0,
        ours=lambda: run("ours", "bfloat16", 0),
        peers={f"{dtype}, batches of {n}": lambda d=dtype, n=n: run("peer", d, n) for dtype, n in tried},
        compare=alike(model, folder, messages),
        operations=lambda done: 2 * body(model) * (tokens + done.amount) + 2 * head(model) * done.amount,
        bytes_read=lambda done: 2.0 * (body(model) + head(model)) * LONGEST * -(-len(messages) // BATCH),
        arithmetic=arithmetic,
        sized=True,
    )
