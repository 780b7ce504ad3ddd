"""What the fast paths keep: exactness, texts under another batch plan, adapters merged or beside, growth with the work.

    python -m benchmarks.speed.checks

Writes benchmarks/CHECKS.md, checks.json and growth.svg; some fifteen minutes on two cores.
"""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from benchmarks.speed import texts
from benchmarks.speed.generate_rows import answered
from benchmarks.speed.score_rows import loaded
from benchmarks.speed.train_rows import examples, learnt, lora
from torch.nn import functional

from charactery.models import decoder
from charactery.models.chat import prompt_tokens
from charactery.models.held import Slot
from charactery.models.local import Adapter, LocalModel, Request, Sampler
from charactery.models.speaker import Models, Speaker
from charactery.models.subject import parse_subject
from charactery.train.settings import Lora, Sft
from charactery.train.trainers import train_sft

FOLDER = Path(__file__).parent.parent
ROUNDS = 5


@torch.inference_mode()
def one_at_a_time(network: Any, context: list[int], continuation: list[int]) -> torch.Tensor:
    """Log-probability of each token of a continuation by transformers' own forward over the one row."""
    logits = network(torch.tensor([context + continuation])).logits[0, len(context) - 1 : -1].float()
    return logits.log_softmax(-1).gather(1, torch.tensor(continuation)[:, None])[:, 0]


def exactness(weights: Path) -> dict[str, Any]:
    """Scores behind a shared constitution, ours in batches and transformers' row by row, against its float32."""
    ours = LocalModel.load(weights, "smollm2", "cpu", torch.float32)
    tokenizer = ours.tokenizer
    [constitution] = texts.constitutions(tokenizer, 1)
    said = texts.answers(tokenizer, 48, 64)
    pairs = [
        (prompt_tokens(tokenizer, texts.asked(p, constitution if n % 2 else "")), said[2 * n + k][: 64 - 7 * k - n])
        for n, p in enumerate(texts.prompts(24))
        for k in range(2)
    ]
    truth = [one_at_a_time(loaded(weights, "float32"), *pair) for pair in pairs]
    sides: dict[str, list[torch.Tensor]] = {
        "ours, float32": ours.score(pairs),
        "ours, bfloat16": LocalModel.load(weights, "smollm2", "cpu", torch.bfloat16).score(pairs),
        "transformers one at a time, bfloat16": [one_at_a_time(loaded(weights, "bfloat16"), *pair) for pair in pairs],
    }
    return {
        name: {
            "token": max(float((v - t).abs().max()) for v, t in zip(values, truth, strict=True)),
            "token_mean": float(torch.cat([(v - t).abs() for v, t in zip(values, truth, strict=True)]).mean()),
            "sum": max(float(abs(v.sum() - t.sum())) for v, t in zip(values, truth, strict=True)),
        }
        for name, values in sides.items()
    }


def same_texts(weights: Path, count: int = 32) -> dict[str, Any]:
    """The share of answers that stay the same, seeds kept, when they are asked for in batches of another size."""
    found = {}
    for dtype in (torch.bfloat16, torch.float32):
        model = LocalModel.load(weights, "smollm2", "cpu", dtype)
        asked = [Request(texts.asked(p), n) for n, p in enumerate(texts.prompts(count))]

        def said(size: int, model: LocalModel = model, asked: Sequence[Request] = asked) -> list[str]:
            batches = [asked[n : n + size] for n in range(0, count, size)]
            return [a.text for batch in batches for a in model.generate(batch, Sampler(48, 0.7))]

        whole = said(count)
        for size in (count, count // 2, 4, 1):
            same = [a == b for a, b in zip(whole, said(size), strict=True)]
            found[f"{str(dtype).removeprefix('torch.')}, batches of {size}"] = statistics.mean(same)
    return found


def in_turn(works: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds of each, in alternation, after one pass that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for n in range(rounds + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if n:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def adapters(weights: Path) -> dict[str, Any]:
    """A layer's products for 128 rows with the adapter in the weights and beside them, and what putting it in takes."""
    from peft import get_peft_model

    model = LocalModel.load(weights, "smollm2", "cpu")
    rows, found = torch.randn(128, model.model.config.hidden_size, dtype=model.model.dtype), {}
    with TemporaryDirectory() as folder:
        get_peft_model(LocalModel.load(weights, "smollm2", "cpu").model, lora()).save_pretrained(folder)
        began = time.perf_counter()
        with model.adapted(Adapter(Path(folder))) as network:
            loading = time.perf_counter() - began
            began = time.perf_counter()
            model._reader(network, Adapter(Path(folder)), Slot())
            found["seconds to load"], found["seconds to merge"] = loading, time.perf_counter() - began
            layer = network.get_base_model().model.layers[0].mlp
            name = next(iter(layer.gate_proj.lora_A))
            modules = (layer.gate_proj, layer.up_proj)
            merged = decoder._packed(modules, name)
            base = decoder._packed(modules, None)
            down = torch.cat([m.lora_A[name].weight for m in modules])
            up = torch.block_diag(*[m.scaling[name] * m.lora_B[name].weight for m in modules])  # type: ignore[no-untyped-call]
            with torch.inference_mode():
                seconds = in_turn({
                    "merged": lambda: [merged(rows) for _ in range(300)],
                    "beside": lambda: [
                        base(rows) + functional.linear(functional.linear(rows, down), up) for _ in range(300)
                    ],
                })  # fmt: skip
    found |= {side: statistics.median(values) / 300 for side, values in seconds.items()}
    return found


def growth(weights: Path) -> dict[str, list[tuple[int, float]]]:
    """Seconds for three sizes of each work, in alternation.

    More is other prompts, other answers to each or other answers to score, asked for as a run asks, or further epochs.
    """
    model, prompts = LocalModel.load(weights, "smollm2", "cpu"), texts.prompts(32)
    speaker = Speaker(parse_subject("smollm2"), model, None, "bench")
    said = texts.answers(model.tokenizer, 4 * len(prompts), 64)
    rows, _ = examples(model, 16)

    def generate(count: int, each: int = 1) -> None:
        asked = [Request(texts.asked(p), n) for p in texts.prompts(count) for n in range(each)]
        answered(speaker, asked, Sampler(24, 0.7))

    def score(each: int) -> None:
        model.score([
            (prompt_tokens(model.tokenizer, texts.asked(p)), said[n + k * len(prompts)])
            for n, p in enumerate(prompts) for k in range(each)
        ])  # fmt: skip

    def learn(times: int) -> None:
        settings = Sft(epochs=float(times))
        learnt(lambda fresh, work: train_sft(fresh, rows, Lora(), settings, work), model, weights, len(rows))

    works: dict[str, tuple[Callable[[int], None], int]] = {
        "prompts": (generate, 100), "answers to each of 100 prompts": (partial(generate, 100), 1),
        "answers of 64 tokens scored for each of 32 prompts": (score, 1), "epochs of SFT on 16 rows": (learn, 1),
    }  # fmt: skip
    found = {}
    for name, (work, least) in works.items():
        seconds = in_turn({str(n * least): partial(work, n * least) for n in (1, 2, 4)}, rounds=3)
        found[name] = [(int(n), statistics.median(values)) for n, values in seconds.items()]
    return found


def plot(grown: dict[str, list[tuple[int, float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "charactery"
    figure, axes = pyplot.subplots(1, len(grown), figsize=(4 * len(grown), 3))
    for axis, (name, points) in zip(axes, grown.items(), strict=True):
        x, y = np.array(points).T
        slope, start = np.polyfit(x, y, 1)
        axis.plot(x, start + slope * x, color="#888888", linewidth=1)
        axis.plot(x, y, "o", color="#3a6ea5")
        axis.set(xlabel=name, ylabel="seconds", xlim=(0, None), ylim=(0, None))
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def markdown(found: dict[str, Any]) -> str:
    lines = [
        "# What the fast paths keep", "", "Written by `python -m benchmarks.speed.checks`, on `smollm2`.", "",
        "## Scores", "",
        "Forty-eight continuations, every other one behind a shared constitution of 600 tokens, against transformers' "
        "forward of one row at a time in float32. Nats.", "",
        "| | largest of a token | mean of a token | largest of a sum |", "|---|---|---|---|",
        *(f"| {n} | {r['token']:.2g} | {r['token_mean']:.2g} | {r['sum']:.2g} |" for n, r in found["exact"].items()),
        "", "## Texts under another batch plan", "",
        "The share of 32 answers (48 tokens, temperature 0.7, seeds kept) that are the same as in one batch of 32.", "",
        "| | same |", "|---|---|", *(f"| {name} | {share:.2f} |" for name, share in found["same"].items()),
        "", "## An adapter in the weights, or beside them", "",
        "One layer's gate and up for 128 rows, rank 16: merged {merged:.3g} s, beside {beside:.3g} s. To load one "
        "takes {seconds to load:.2g} s, to merge it {seconds to merge:.2g} s, once for all its batches.".format_map(
            found["adapters"]
        ),
        "", "## Growth", "", "![Seconds by how much is written, scored and learnt](growth.svg)", "",
        *(f"- {name}: " + ", ".join(f"{n} in {s:.1f} s" for n, s in ps) for name, ps in found["growth"].items()),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    models = Models("cpu")
    weights = Path(models.folder(models.speaker("smollm2").subject))
    found: dict[str, Any] = {}
    for name, check in (("exact", exactness), ("same", same_texts), ("adapters", adapters), ("growth", growth)):
        print(name, flush=True)
        found[name] = check(weights)
        print(json.dumps(found[name], indent=1), flush=True)
    (FOLDER / "checks.json").write_text(json.dumps(found, indent=1) + "\n")
    (FOLDER / "CHECKS.md").write_text(markdown(found))
    plot(found["growth"], FOLDER / "growth.svg")


if __name__ == "__main__":
    main()
