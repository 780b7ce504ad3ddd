"""Measure, and write RESULTS.md, results.json and speed.svg.

    python -m benchmarks.speed --data DIR              every row at its bench size, within the hour
    python -m benchmarks.speed --data DIR --row DPO    one row; the others' results stay
    python -m benchmarks.speed --data DIR --full       at full size, kept beside the others
    python -m benchmarks.speed --device cuda --shape 1b --out DIR    a random model: DIR/GPU.md, gpu.json

DIR holds political_typology.jsonl.gz (model-written evaluations, Perez et al. 2022); without it the two rows on
multiple choice are left out.
"""

import argparse
import math
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from benchmarks.speed import texts
from benchmarks.speed.card import measure
from benchmarks.speed.generate_rows import generate_row, inspect_row
from benchmarks.speed.measure import WHOLE, Row, measured
from benchmarks.speed.results import kept, write
from benchmarks.speed.score_rows import choice_row, judge_row
from benchmarks.speed.shapes import SHAPES
from benchmarks.speed.train_rows import dpo_row, sft_row

from charactery.models.speaker import Models
from charactery.pipeline.manifest import code_revision


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--row")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--tokenizer", type=Path, help="of a random model; by default the embedded model's folder")
    parser.add_argument("--out", type=Path, help="with --shape: where GPU.md and gpu.json go")
    parser.add_argument("--budget", type=float, default=math.inf, help="seconds after which no row begins")
    options = parser.parse_args()
    if options.shape:
        if not options.out:
            parser.error("say where GPU.md and gpu.json are to go: --out DIR")
        measure(options.device, options.shape, options.tokenizer, options.out, options.budget, options.data,
                options.row)  # fmt: skip
        return
    if options.device != "cpu":
        parser.error("on a card a random model is measured: give --shape")

    full, data = options.full, options.data
    rows: dict[str, Callable[[], Row]] = {
        "choice, one token": lambda: choice_row(model, weights, data, (" A", " B"), 500 if full else 60),
        "choice, several tokens": lambda: choice_row(model, weights, data, (" (A)", " (B)"), 500 if full else 40),
        "likelihood judge": lambda: judge_row(model, weights, *((64, 8) if full else (5, 5))),
        "generate": lambda: generate_row(model, weights, 256 if full else 128, 1, False),
        "generate, one character": lambda: generate_row(model, weights, *((32, 8) if full else (6, 8)), True),
        "Inspect": lambda: inspect_row(model, weights, 256 if full else 128, 1, False),
        "Inspect, one character": lambda: inspect_row(model, weights, *((32, 8) if full else (3, 8)), True),
        "DPO": lambda: dpo_row(model, weights, 400 if full else 16),
        "SFT": lambda: sft_row(model, weights, 400 if full else 32),
    }
    if options.row and options.row not in rows:
        parser.error(f"no row {options.row!r}; there are: {', '.join(rows)}")
    if data and not (data / texts.TYPOLOGY).exists():
        parser.error(f"{data} has no {texts.TYPOLOGY} (model-written evaluations, Perez et al. 2022)")
    wanted = [options.row] if options.row else [*rows]
    if not data and (lacking := [r for r in wanted if r.startswith("choice")]):
        if options.row:
            parser.error(f"this row needs --data DIR with {texts.TYPOLOGY}")
        print(f"left out without --data DIR with {texts.TYPOLOGY}: {'; '.join(lacking)}", flush=True)
        wanted = [r for r in wanted if r not in lacking]
    speaker = Models("cpu").speaker("smollm2")
    model, weights = speaker.model, Path(Models("cpu").folder(speaker.subject))
    assert model is not None
    machine = {
        "processor": platform.processor() or platform.machine(), "cores": os.cpu_count(),
        "threads": torch.get_num_threads(), "torch": torch.__version__,
    }  # fmt: skip
    found, failed = kept(), []
    for name in wanted:
        print(name, flush=True)
        began = time.monotonic()
        try:
            result = measured(
                rows[name](),
                known=found.get(name, {}).get("best") if full else None,
                within=WHOLE if full else math.inf,
            )
        except Exception:  # the other rows' hour is not lost for it
            traceback.print_exc()
            failed.append(name)
            continue
        row = f"{name}, full" if full else name
        took = time.monotonic() - began
        found[row] = result | {
            "row": row, "day": date.today().isoformat(), "code": code_revision(), "took": round(took),
        }  # fmt: skip
        write([*found.values()], machine)
        if not result["alike"]:
            print(f"  THE OUTPUTS ARE NOT ALIKE: {result['outputs']}", flush=True)
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":  # Inspect's rows start processes that import this again
    main()
