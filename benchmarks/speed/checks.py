"""What the fast paths keep: exactness, texts under another batch plan, adapters merged or beside, growth with the work.

    python -m benchmarks.speed.checks [--only exact|same|adapters|growth]

Writes benchmarks/CHECKS.md, checks.json and growth.svg; some fifteen minutes on two cores. With `--only` of one part,
the others as checks.json has them.
"""

import argparse
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

from charactery.models.attending import State
from charactery.models.chat import prompt_tokens
from charactery.models.decoder import Decoder
from charactery.models.gradients import gated
from charactery.models.held import Slot
from charactery.models.local import Adapter, LocalModel, Request, Sampler
from charactery.models.products import columns_of, merges, packed
from charactery.models.speaker import Models, Speaker
from charactery.models.subject import parse_subject
from charactery.train.settings import Lora, Sft
from charactery.train.trainers import train_sft

FOLDER = Path(__file__).parent.parent
ROUNDS, STEPS = 5, 16


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
    """The base and two adapters answering at once: each adapter merged, or all in one batch, adapters beside the base.

    Seconds of a step for all three by the rows of each, the adapter in the weights (three steps, one after another) and
    beside them (one step of all rows, each adapter's products on its own rows), and what putting one in takes. A mixed
    batch is no way that the product has; it is made here to be measured.
    """
    from peft import get_peft_model

    model = LocalModel.load(weights, "smollm2", "cpu")
    assert merges(model.model)
    found = dict[str, Any]()
    prompts = [prompt_tokens(model.tokenizer, texts.asked(p)) for p in texts.prompts(128)]
    decoders, names = [Decoder(model.model)], []
    with TemporaryDirectory() as folder, torch.inference_mode():
        for n in range(2):
            on = Path(folder) / str(n)
            with torch.inference_mode(False):
                fresh = get_peft_model(LocalModel.load(weights, "smollm2", "cpu").model, lora())
                for parameter in (p for name, p in fresh.named_parameters() if "lora_B" in name):
                    torch.nn.init.normal_(parameter, std=0.01)
                fresh.save_pretrained(on)
            began = time.perf_counter()
            with model.adapted(Adapter(on)) as network:
                found["seconds to load"] = time.perf_counter() - began
                began = time.perf_counter()
                decoders.append(model._reader(network, Adapter(on), Slot()))  # type: ignore[arg-type]
                found["seconds to merge"] = time.perf_counter() - began
            names.append(model._adapter(on))

        def started(count: int, room: int) -> list[State]:
            return [reader.begin([], prompts[:count], room)[1] for reader in decoders]

        def stepped(readers: Sequence[Decoder], states: Sequence[State], count: int) -> list[torch.Tensor]:
            token = torch.zeros(count, dtype=torch.long)
            if len(readers) == 1:
                return [readers[0].step(token.repeat(len(states)), states)]
            return [reader.step(token, [state]) for reader, state in zip(readers, states, strict=True)]

        def seconds_of(readers: Sequence[Decoder], count: int) -> float:
            states = started(count, STEPS)
            began = time.perf_counter()
            for _ in range(STEPS):
                stepped(readers, states, count)
            return (time.perf_counter() - began) / STEPS

        for count in (8, 32, 128):
            sides = {"merged": decoders, "beside": [_mixed(model, names, count)]}
            told = [
                torch.cat(stepped(side, started(count, 1), count)).float().log_softmax(-1) for side in sides.values()
            ]
            seconds: dict[str, list[float]] = {name: [] for name in sides}
            for n in range(ROUNDS + 1):
                for name, readers in sides.items():
                    took = seconds_of(readers, count)
                    if n:  # what is made once is made
                        seconds[name].append(took)
            found[str(count)] = {name: statistics.median(values) for name, values in seconds.items()} | {
                "apart": float((told[0] - told[1]).abs().mean())
            }
    return found


def _mixed(model: LocalModel, names: Sequence[str], count: int) -> Decoder:
    """A decoder whose steps are of so many rows by the base, then as many by each adapter beside the base's weights."""
    decoder = Decoder(model.model)

    def product(*modules: Any) -> Callable[..., torch.Tensor]:
        base, columns = packed(modules, None), columns_of(modules)
        ranks = []
        for name in names:
            down = torch.cat([m.lora_A[name].weight for m in modules])
            ups = [m.scaling[name] * m.lora_B[name].weight for m in modules]
            ranks.append((down, ups))

        def added(x: torch.Tensor, *then: Any) -> torch.Tensor:
            out = base(x, *then)
            for n, (down, ups) in enumerate(ranks, 1):
                rows = slice(n * count, (n + 1) * count)
                heard = functional.linear(x[rows], down).split([up.shape[1] for up in ups], -1)
                for here, up, part in zip(columns, ups, heard, strict=True):
                    out[rows, here].addmm_(part, up.t())
            return out

        return added

    for mine, layer in zip(decoder.layers, model.model.model.layers, strict=True):
        attention, mlp = layer.self_attn, layer.mlp
        mine.query_key_value = product(attention.q_proj, attention.k_proj, attention.v_proj)
        out, gate_up, down = product(attention.o_proj), product(mlp.gate_proj, mlp.up_proj), product(mlp.down_proj)
        mine.out = lambda x, before, out=out: out(x, "add", before)
        mine.mlp = lambda x, before, gate_up=gate_up, down=down: down(gated(gate_up(x)), "add", before)
    return decoder


def straight(points: Sequence[tuple[int, float]]) -> float:
    """How far three sizes are from a line through the first and the last, as a share of the last."""
    (x0, y0), (x1, y1), (x2, y2) = points
    return abs(y1 - y0 - (y2 - y0) * (x1 - x0) / (x2 - x0)) / y2


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
        "prompts": (generate, 110), "answers to each of 200 prompts": (partial(generate, 200), 1),
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
        "Seconds of a step in which the base and two adapters (rank 16) answer: each adapter merged into weights of "
        "its own, one of the three after another; and all rows in one batch, each adapter's products beside the base's "
        "on its own rows, which is made for this measurement alone. Apart: the mean difference between the two sides' "
        "log-probabilities, of all tokens, in bfloat16. To load an adapter takes {seconds to load:.2g} s, to merge it "
        "{seconds to merge:.2g} s, once for all its batches.".format_map(found["adapters"]), "",
        "| rows of each | merged | beside, in one batch | merged over beside | apart, nats |", "|---|---|---|---|---|",
        *(
            f"| {n} | {r['merged']:.3g} s | {r['beside']:.3g} s | {r['merged'] / r['beside']:.2f} | {r['apart']:.2f} |"
            for n, r in found["adapters"].items() if n.isdigit()
        ),
        "", "## Growth", "", "![Seconds by how much is written, scored and learnt](growth.svg)", "",
        "Off is how far the middle size is from a line through the other two, of the largest's seconds.", "",
        *(
            f"- {name}: {', '.join(f'{n} in {s:.1f} s' for n, s in ps)}; off {straight(ps):.0%}"
            for name, ps in found["growth"].items()
        ),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def held(found: dict[str, Any]) -> bool:
    """Whether float32 scores are exact: within 1e-4 a token and 1e-3 a text of one forward for each."""
    exact = found["exact"]["ours, float32"]
    return bool(exact["token"] <= 1e-4 and exact["sum"] <= 1e-3)


CHECKS = {"exact": exactness, "same": same_texts, "adapters": adapters, "growth": growth}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=CHECKS)
    only = parser.parse_args().only
    models = Models("cpu")
    weights = Path(models.folder(models.speaker("smollm2").subject))
    found: dict[str, Any] = json.loads((FOLDER / "checks.json").read_text()) if only else {}
    for name in [only] if only else CHECKS:
        print(name, flush=True)
        found[name] = CHECKS[name](weights)
        print(json.dumps(found[name], indent=1), flush=True)
    (FOLDER / "checks.json").write_text(json.dumps(found, indent=1) + "\n")
    (FOLDER / "CHECKS.md").write_text(markdown(found))
    plot(found["growth"], FOLDER / "growth.svg")
    raise SystemExit(0 if held(found) else "not held: see above")


if __name__ == "__main__":
    main()
