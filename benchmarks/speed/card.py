"""The rows on a randomly initialised model of another shape: what a graphics card makes of them.

Checks first that the fast paths give on that device what transformers and TRL give, then the rows, each kept as soon as
it is measured.
"""

import json
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import torch
from benchmarks.speed import texts
from benchmarks.speed.ceiling import ceiling, shapes_of
from benchmarks.speed.generate_rows import generate_row
from benchmarks.speed.measure import Row, measured
from benchmarks.speed.results import told
from benchmarks.speed.score_rows import choice_row, forward, judge_row, loaded
from benchmarks.speed.shapes import build
from benchmarks.speed.train_rows import dpo_row, examples, learnt, sft_row

from charactery.models.chat import prompt_tokens
from charactery.models.local import LocalModel, Request, Sampler
from charactery.pipeline.manifest import code_revision
from charactery.train import trainers
from charactery.train.settings import Dpo, Lora, Sft
from charactery.train.trainers import train_dpo, train_sft

ROUNDS = 5
THEIRS = ", TRL's forward"  # rows whose ours is our trainer over TRL's own fused head


@contextmanager
def reading(ours: bool) -> Iterator[None]:
    """While this lasts, networks that learn read through our forward, or through TRL's own."""
    before, trainers._reads_ours = trainers._reads_ours, lambda trainer: ours
    try:
        yield
    finally:
        trainers._reads_ours = before


def check(name: str, work: Callable[[], str]) -> str:
    """Do one, and say what came of it; a failure is told and goes no further."""
    try:
        line = f"{name}: {work()}"
    except Exception as error:
        traceback.print_exc()
        line = f"{name}: FAILED, {type(error).__name__}: {str(error).splitlines()[:1]}"
    print(line, flush=True)
    return line


def checks(device: str, tokenizer: Path | None) -> list[str]:
    """On a small random model in float32."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder)
        build(weights, "tiny", device, tokenizer, torch.float32)
        model = LocalModel.load(weights, "tiny", device, torch.float32)
        network = loaded(weights, "float32", device)
        prompts = texts.prompts(12)
        rows, pairs = examples(model, 40)

        def greedy() -> str:
            [constitution] = texts.constitutions(model.tokenizer, 1)
            asked = [texts.asked(p, constitution if n % 2 else "") for n, p in enumerate(prompts)]
            said = model.generate([Request(m, n) for n, m in enumerate(asked)], Sampler(32, 0.0))
            same = 0
            for messages, answer in zip(asked, said, strict=True):
                ids = torch.tensor([prompt_tokens(model.tokenizer, messages)], device=device)
                out = network.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=32,
                    pad_token_id=model.pad,
                )[0, ids.shape[1] :].tolist()  # fmt: skip
                same += model.answer_of(out).text == answer.text
            return f"{same} of {len(asked)} are transformers.generate's{'' if same == len(asked) else ': NOT THE SAME'}"

        def scores() -> str:
            said = texts.answers(model.tokenizer, 24, 40)
            [constitution] = texts.constitutions(model.tokenizer, 1)
            given = [
                (texts.context(model.tokenizer, p, constitution if k else ""), said[2 * n + k])
                for n, p in enumerate(prompts)
                for k in range(2)
            ]
            ours, theirs = [float(v.sum()) for v in model.score(given)], forward(network, given, 1, model.pad)
            most = max(abs(a - b) / len(k) for a, b, (_, k) in zip(ours, theirs, given, strict=True))
            return f"at most {most:.2g} nats a token from a plain forward{'' if most < 1e-4 else ': TOO MUCH'}"

        def steps(train: Callable[[Any, Any], object]) -> str:
            both = []
            for ours in (True, False):
                with reading(ours):
                    both.append(learnt(train, model, weights, 40).output)
            apart = max(abs(a - b) / abs(b) for a, b in zip(*both, strict=True))
            return f"{len(both[0])} losses at most {apart:.2g} of TRL's forward's away" + (
                "" if apart < 1e-3 else ": TOO MUCH"
            )

        sft, dpo = Sft(epochs=1.0), Dpo(learning_rate=1e-4)
        return [
            check("greedy answers", greedy),
            check("scores", scores),
            check("steps of SFT", lambda: steps(lambda m, work: train_sft(m, rows, Lora(), sft, work))),
            check("steps of DPO", lambda: steps(lambda m, work: train_dpo(m, pairs, None, dpo, work))),
        ]


def measure(
    device: str, shape: str, tokenizer: Path | None, out: Path, budget: float, data: Path | None, only: str | None
) -> None:
    """Check, measure each row that begins within `budget` seconds, and write GPU.md and gpu.json into `out`."""
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    checked = checks(device, tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder)
        parameters = build(weights, shape, device, tokenizer)
        model = LocalModel.load(weights, shape, device)
        small = shape == "tiny"
        at_once, in_training = ((2, 4), (2, 4)) if small else ((16, 64), (4, 8))
        makers: dict[str, Callable[[], Row]] = {
            "likelihood judge": lambda: judge_row(model, weights, *((2, 2) if small else (64, 8)), at_once),
            "generate": lambda: generate_row(model, weights, *((4, 1) if small else (256, 1)), False,
                                             (2, 4) if small else (64, 256)),
            "generate, one character": lambda: generate_row(model, weights, *((2, 2) if small else (32, 8)), True,
                                                            (2, 4) if small else (64, 256)),
            "DPO": lambda: dpo_row(model, weights, 8 if small else 64, in_training),
            f"DPO{THEIRS}": lambda: dpo_row(model, weights, 8 if small else 64, in_training),
            "SFT": lambda: sft_row(model, weights, 8 if small else 128, in_training),
            f"SFT{THEIRS}": lambda: sft_row(model, weights, 8 if small else 128, in_training),
        }  # fmt: skip
        if data and not small:
            makers["choice, one token"] = lambda: choice_row(model, weights, data, (" A", " B"), 500)
            makers["choice, several tokens"] = lambda: choice_row(model, weights, data, (" (A)", " (B)"), 500)
        else:
            print("the rows on multiple choice are left out: they need --data DIR and lm-eval", flush=True)
        machine = {
            "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor(),
            "cores": os.cpu_count(), "torch": torch.__version__, "shape": shape,
            "parameters in products": f"{parameters / 1e9:.3f} × 10⁹", "type": str(model.model.dtype),
        }  # fmt: skip
        if only and only not in makers:
            sys.exit(f"no row {only!r}; there are: {', '.join(makers)}")
        failed = [line for line in checked if "FAILED" in line or "NOT THE SAME" in line or "TOO MUCH" in line]
        kept = out / "gpu.json"
        found = json.loads(kept.read_text())["rows"] if only and kept.exists() else []
        best: dict[str, str] = {}
        for name in [only] if only else [*makers]:
            if time.monotonic() - began > budget:
                print(f"{name}: not begun, {budget:.0f} s are over", flush=True)
                continue
            print(f"{name}, {time.monotonic() - began:.0f} s from the start", flush=True)
            known = best.get(name.removesuffix(THEIRS)) if name.endswith(THEIRS) else None
            try:
                with reading(not name.endswith(THEIRS)):
                    row, shapes = makers[name](), shapes_of(model.model.config)
                    result = measured(row, ROUNDS, known, lambda: ceiling(device, shapes))  # noqa: B023 - called here
            except Exception:  # the other rows' time is not lost for it
                traceback.print_exc()
                failed.append(name)
                continue
            finally:
                if device == "cuda":
                    torch.cuda.empty_cache()
            if not result["alike"]:
                failed.append(f"{name}: outputs are not alike")
            best[name] = result["best"]
            found = [row for row in found if row["row"] != name]
            found.append(
                result | {"row": name, "tokens": row.tokens, "day": date.today().isoformat(), "code": code_revision()}
            )
            write(out, found, machine, checked)
    if failed:
        sys.exit(f"failed: {'; '.join(failed)}")


def write(out: Path, rows: list[dict[str, Any]], machine: dict[str, Any], checked: list[str]) -> None:
    (out / "gpu.json").write_text(json.dumps({"machine": machine, "checks": checked, "rows": rows}, indent=1) + "\n")
    (out / "GPU.md").write_text(markdown(rows, machine, checked))


def markdown(rows: list[dict[str, Any]], machine: dict[str, Any], checked: list[str]) -> str:
    lines = [
        "# Speed on a graphics card", "",
        "Written by `python -m benchmarks.speed --device cuda --shape 1b --out DIR` on a randomly initialised Llama; "
        "`gpu.json` holds every pass and the peer's sweep.", "",
        f"The machine: {', '.join(f'{name} {value}' for name, value in machine.items())}.", "",
        "Ours and the peer's best setting in turn, medians; the ratio is the median of the rounds' own, with lowest "
        "and highest. Tokens are those of the rows as they are given, what they share counted each time; generated "
        "ones in the rows that generate. The share is of the time that the work's least operations (and reading the "
        "weights, where tokens come one by one) would take at what the card gave at best. Training counts from the "
        "loaded weights to the written adapter, with as many checkpoints on both sides. No side is compiled. Memory "
        "is what tensors take at most over what was held before.", "",
        "| work | ours | peer | ours, tokens/s | peer, tokens/s | ratio | of the bound, ours and peer | memory, ours "
        "and peer |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for r in rows:
        ratio, memory, share = r["ratio"], r["peak_bytes"], r["bound_share"]
        lines.append(
            f"| {r['row']} | {r['ours']:.4g} {r['unit']} | {r['peer']:.4g} ({r['peer_name']}) | "
            f"{r['ours'] * r['tokens']:,.0f} | {r['peer'] * r['tokens']:,.0f} | **{ratio['median']:.2f}** "
            f"[{ratio['low']:.2f}, {ratio['high']:.2f}] | {share:.1%} and {share / ratio['median']:.1%} | "
            f"{memory['ours'] / 1e9:.1f} and {memory['peer'] / 1e9:.1f} GB |"
        )
    lines += ["", "## What each row is", ""]
    for r in rows:
        best = ", ".join(f"{value / 1e12:.4g} × 10¹² {name}" for name, value in r["ceiling"].items())
        lines += [
            f"**{r['row']}**: {r['work']}. At least {r['arithmetic']}; at best {best}: {r['bound_seconds']:.2f} s. "
            f"Outputs{told(r)}: {r['outputs']}. {r['day']}, code {r['code']}.", "",
        ]  # fmt: skip
    lines += ["## The same as transformers and TRL", "", "On a small random model in float32.", ""]
    return "\n".join([*lines, *(f"- {line}" for line in checked)]) + "\n"
