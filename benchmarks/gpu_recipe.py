"""One recipe from end to end on a randomly initialised model of a larger shape: do speed and memory hold?

    python -m benchmarks.gpu_recipe                                # 1.2 billion parameters, on the card if there is one
    python -m benchmarks.gpu_recipe --shape tiny --device cpu      # the same, to see that it goes through

A random model answers in words drawn by lot and learns nothing worth having; what it takes is what one that was trained
takes. It has the embedded model's tokenizer, and an end of answer that comes by itself about once in fifty tokens, or
nothing it drafts would be fit to learn from. Model and run lie in a temporary folder, and go when it ends.

Of each stage: seconds, tokens written and read a second, the most memory, and the share of the device's best at
bfloat16 products that its own come to at least: twice the parameters for a token written, four times for a token read
in fine-tuning (back to the activations, not to the frozen weights), six times in DPO (the reference reads, too).
"""

import argparse
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from benchmarks.speed.ceiling import best
from benchmarks.speed.shapes import SHAPES, build

from charactery.constitution import find_character
from charactery.data.prompts import Sizes
from charactery.models.local import LocalModel, pick_device
from charactery.pipeline.distil import Watch, train
from charactery.pipeline.order import Order
from charactery.pipeline.recipe import find_recipe
from charactery.runs import Run, read_rows, stage_kind

SIDE = 8192  # of the square matrices whose product is the card's best
FORWARDS = {"drafts": 2.0, "self-play": 2.0, "sft": 4.0, "dpo": 6.0}  # operations a parameter and token


def best_rate(device: str) -> float:
    """bfloat16 operations a second, as measured here."""
    side = SIDE if device == "cuda" else SIDE // 8
    one, other = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))

    return 2.0 * side**3 / best(lambda: torch.mm(one, other), device=device)


def counting(counts: dict[str, float]) -> None:
    """From now on, count what models write and score."""
    drawn, score = LocalModel._drawn, LocalModel.score

    def draws(self: LocalModel, *given: Any, **named: Any) -> list[list[int]]:
        out = drawn(self, *given, **named)
        counts["written"] += sum(map(len, out))
        return out

    def scores(self: LocalModel, pairs: Any, *given: Any, **named: Any) -> list[torch.Tensor]:
        counts["read"] += sum(len(said) for _, said in pairs)
        return score(self, pairs, *given, **named)

    LocalModel._drawn, LocalModel.score = draws, scores  # type: ignore[method-assign]


def measured(run: Callable[[], Run], device: str) -> tuple[Run, dict[str, dict[str, float]]]:
    """Do a run; of each stage the tokens written and read, and the card's peak in bytes."""
    counts, found = {"written": 0.0, "read": 0.0}, {}
    counting(counts)
    stage = Run.stage

    def watched(self: Run, name: str, *given: Any, **named: Any) -> Path:
        before = dict(counts)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        folder = stage(self, name, *given, **named)
        found[name] = {key: counts[key] - before[key] for key in counts}
        found[name]["card"] = torch.cuda.max_memory_allocated() if device == "cuda" else 0.0
        if (log := folder / "log.jsonl").exists():
            found[name]["read"] += max(float(row.get("num_tokens", 0)) for row in read_rows(log))
        print(f"  {name}", flush=True)
        return folder

    Run.stage = watched  # type: ignore[method-assign]
    return run(), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--recipe", default="distill+dpo")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--train", type=int, default=96, help="training prompts; a step of SFT takes eight")
    parser.add_argument("--tokenizer", type=Path, help="a folder; by default the embedded model's")
    options = parser.parse_args()
    device = pick_device(options.device)
    recipe = find_recipe(options.recipe)
    recipe = replace(
        recipe, sizes=Sizes(options.train, 16, 2, 8, 8), sft=replace(recipe.sft, epochs=1.0), self_play=32,
        grpo=replace(recipe.grpo, steps=3),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "model"
        parameters = build(weights, options.shape, device, options.tokenizer)
        rate = best_rate(device)
        order = Order(find_character("captain"), Path(folder) / "run", str(weights), recipe=recipe, device=device)
        run, found = measured(lambda: train(order, Watch()), device)
        card = torch.cuda.get_device_name() if device == "cuda" else f"{os.cpu_count()} cores of {platform.machine()}"
        print(
            f"\n{options.recipe} on {options.shape}, {parameters / 1e9:.3f} billion parameters in products, on {card}; "
            f"at best {rate / 1e12:.3g} × 10¹² bfloat16 operations a second, measured\n"
        )
        print("| stage | seconds | tokens written/s | tokens read/s | share of best | memory, GB | card, GB |")
        print("|---|---|---|---|---|---|---|")
        for name, of in found.items():
            record = run.record(name)
            assert record is not None
            seconds = max(record.seconds, 0.01)  # a stage with nothing to do takes none
            tokens = of["read"] if stage_kind(name) in ("sft", "dpo") else of["written"]
            needed = FORWARDS.get(stage_kind(name), 0.0) * parameters * tokens
            share = f"{needed / rate / seconds:.1%}" if needed else "–"
            print(
                f"| {name} | {record.seconds:.1f} | {of['written'] / seconds:,.0f} | "
                f"{of['read'] / seconds:,.0f} | {share} | {record.peak_mb / 1e3:.2f} | {of['card'] / 1e9:.2f} |"
            )


if __name__ == "__main__":
    main()
