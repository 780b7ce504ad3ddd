"""Scoring: multiple choice beside lm-evaluation-harness, the likelihood judge beside a plain forward."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from benchmarks.speed import texts
from benchmarks.speed.measure import Pass, Row
from transformers import AutoModelForCausalLM

from charactery.models.attending import Keys
from charactery.models.chat import prompt_text
from charactery.models.local import LocalModel

Pairs = Sequence[tuple[list[int], list[int]]]


NEAR, NEAR_A_TOKEN = 0.3, 0.01  # nats, on average, within which two bfloat16 sums count as the same


def close(said: int) -> Callable[[Sequence[float], Sequence[float]], tuple[str, bool]]:
    """How far the summed log-probabilities of continuations, of so many tokens in all, lie apart."""

    def compare(ours: Sequence[float], theirs: Sequence[float]) -> tuple[str, bool]:
        gaps = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
        average = sum(gaps) / len(gaps)
        told = f"{len(gaps)} sums differ by {average:.3f} nats on average, at most {max(gaps):.3f}"
        return told, average <= NEAR + NEAR_A_TOKEN * said / len(gaps)

    return compare


def forget(model: LocalModel) -> None:
    """Leave what the batch before began with to be read again, as the peer reads it in every pass."""
    if (decoder := model._bare.thing) is not None:
        decoder._shared = (), Keys()


def scoring(model: LocalModel, pairs: Pairs, amount: int, make: Callable[[], Pairs]) -> dict[str, Any]:
    """What both rows share: ours, how outputs are compared, and what the work needs at least.

    `make` gives the pairs from what the peer is given: where that is text, ours turns it into tokens too.
    """
    tokens = texts.distinct((c + k)[:-1] for c, k in pairs)
    said = sum(len(k) for _, k in pairs)

    def ours() -> Pass:
        forget(model)
        return Pass([float(v.sum()) for v in model.score(make())], amount)

    return {
        "ours": ours,
        "compare": close(said),
        "operations": lambda done: 2 * body(model) * tokens + 2 * head(model) * said,
        "device": model.device,
        "arithmetic": f"2 × {body(model):.3g} parameters × {tokens:,} distinct tokens, and the vocabulary for {said:,}",
    }


@cache
def loaded(folder: Path, dtype: str, device: str = "cpu") -> Any:
    """A peer's network, kept for the next row."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval().to(device)


def choice_row(model: LocalModel, folder: Path, data: Path, options: tuple[str, str], questions: int) -> Row:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    tokenizer = model.tokenizer
    asked = [text for both in texts.typology(data, questions) for text in both]
    frames = [prompt_text(tokenizer, texts.asked(text)) for text in asked]
    strings = [(frame, option) for frame in frames for option in options]

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[no-any-return]

    def make() -> Pairs:
        return [(ids(frame), ids(option)) for frame, option in strings]

    requests = [Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(strings)]
    models: dict[str, HFLM] = {}

    def peer(dtype: str, size: int) -> Pass:
        if dtype not in models:
            models[dtype] = HFLM(
                loaded(folder, dtype, model.device),
                backend="causal",
                tokenizer=tokenizer,
                batch_size=size,
                device=model.device,
            )
        models[dtype].batch_size_per_gpu = size
        return Pass([value for value, _ in models[dtype].loglikelihood(requests, disable_tqdm=True)], len(asked))

    one = len(tokenizer(options[0], add_special_tokens=False)["input_ids"]) == 1
    return Row(
        name="choice, one token" if one else "choice, several tokens",
        work=f"score {questions} political-typology questions with and without the biography, options `{options[0]}` "
        f"and `{options[1]}`",
        peer="lm-evaluation-harness hf",
        unit="questions",
        target=1.8 if one else 2.5,
        peers={
            f"{dtype}, batches of {size}": lambda d=dtype, s=size: peer(d, s)
            for dtype, size in (*(("bfloat16", size) for size in (2, 4, 8, 16, 32)), ("float32", 16))
        },
        **scoring(model, make(), len(asked), make),
    )  # fmt: skip


def judge_row(model: LocalModel, folder: Path, prompts: int, each: int, sizes: Sequence[int] = (1, 2, 4, 8)) -> Row:
    tokenizer = model.tokenizer
    kept = texts.answers(tokenizer, prompts * each, 64)
    asked = texts.prompts(prompts)
    pairs = [
        (texts.context(tokenizer, text, constitution), kept[n * each + k])
        for constitution in texts.constitutions(tokenizer, 4)
        for n, text in enumerate(asked)
        for k in range(each)
    ]

    def peer(dtype: str, size: int) -> Pass:
        return Pass(forward(loaded(folder, dtype, model.device), pairs, size, model.pad), len(pairs))

    return Row(
        name="likelihood judge",
        work=f"{prompts} prompts × {each} answers of 64 tokens under a constitution of 600 tokens and three foils",
        peer="transformers forward, sorted by length",
        unit="answers",
        target=4.0,
        peers={
            f"{dtype}, batches of {size}": lambda d=dtype, s=size: peer(d, s)
            for dtype, size in [
                *(("bfloat16", size) for size in sizes), *([("float32", 4)] if model.device == "cpu" else [])
            ]
        },
        tokens=sum(len(c) + len(k) for c, k in pairs) / len(pairs),
        **scoring(model, pairs, len(pairs), lambda: pairs),
    )  # fmt: skip


@torch.inference_mode()
def forward(network: Any, pairs: Pairs, size: int, pad: int) -> list[float]:
    """Summed log-probability of each continuation by whole rows, sorted by length, padded on the right."""
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
    found: dict[int, torch.Tensor] = {}
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        rows = [pairs[i][0] + pairs[i][1] for i in batch]
        width = max(map(len, rows))
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=network.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=network.device)
        hidden = network.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
        for row, i in enumerate(batch):
            context, continuation = pairs[i]
            piece = hidden[row, len(context) - 1 : len(context) + len(continuation) - 1]
            scores = network.lm_head(piece).float().log_softmax(-1)
            chosen = torch.tensor(continuation, device=network.device)[:, None]
            found[i] = scores.gather(1, chosen).sum()
    return torch.stack([found[i] for i in range(len(pairs))]).tolist() if found else []


def body(model: LocalModel) -> int:
    """Parameters that every token is multiplied with, the vocabulary apart; embeddings are looked up."""
    embeddings, last = (get().weight for get in (model.model.get_input_embeddings, model.model.get_output_embeddings))
    return int(model.model.num_parameters()) - head(model) - (0 if embeddings is last else int(embeddings.numel()))


def head(model: LocalModel) -> int:
    """Parameters of the vocabulary head (for SmolLM2 the embeddings, which are the same)."""
    return int(model.model.get_output_embeddings().weight.numel())
