"""`charactery train captain` by stage: what it took, beside what its matrix products would take at the machine's best.

    python -m benchmarks.speed.whole --out runs/captain-timed

Writes benchmarks/CAPTAIN.md. Counted are the products with the weights, forwards and back; attention, the adapters'
own small products, sampling, the judges' encoder and Inspect are not, so the bound is lower than what can be had.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from benchmarks.speed.ceiling import ceiling

from charactery.constitution import find_character
from charactery.models import decoder
from charactery.pipeline.distil import Watch, train
from charactery.pipeline.order import Order
from charactery.runs import Run

# Seconds of the stages on the same kind of machine before the work that `docs/lab-notebook.md` tells of under "Twelve
# minutes": 120 training, 100 held-out prompts; and at the sizes that ship, before this table.
BEFORE = {"drafts": 142, "sft": 244, "self-play": 33, "dpo": 180, "evaluate": 705}

counted = [0.0]


def counting(laid_out: Callable[[torch.Tensor], decoder.Product]) -> Callable[[torch.Tensor], decoder.Product]:
    """`_laid_out` whose products add up their multiplications and additions."""

    def count(weight: torch.Tensor) -> decoder.Product:
        product, size = laid_out(weight), weight.numel()

        def counts(x: torch.Tensor) -> torch.Tensor:
            counted[0] += 2.0 * size * x.numel() / x.shape[-1]
            return product(x)

        return counts

    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/captain-timed"))
    out = parser.parse_args().out
    decoder._laid_out = counting(decoder._laid_out)  # type: ignore[assignment]
    operations: dict[str, float] = {}
    stage = Run.stage

    def watched(
        run: Run, name: str, work: Callable[[Path], None], say: Callable[[str], None], shared: bool = False
    ) -> Path:
        before = counted[0]
        folder = stage(run, name, work, say, shared)
        operations[name] = counted[0] - before
        print(name, flush=True)
        return folder

    Run.stage = watched  # type: ignore[method-assign]
    best = [ceiling()["bfloat16 operations/s"]]
    began = time.monotonic()
    run = train(Order(find_character("captain"), out), Watch())
    whole = time.monotonic() - began
    best.append(ceiling()["bfloat16 operations/s"])
    rate = max(best)
    measured = " and ".join(f"{one / 1e9:.0f}" for one in best)
    lines = [
        "# `train captain`, by stage", "",
        "Written by `python -m benchmarks.speed.whole`, at the sizes that ship. At best are the products with the "
        f"weights at {rate / 1e9:.0f} × 10⁹ bfloat16 operations a second, the better of two measurements, before "
        f"and after ({measured}), on {torch.get_num_threads()} threads; attention, "
        "sampling, the encoder and Inspect come on top. Before is a run of 120 training and 100 held-out prompts.", "",
        "| stage | seconds | products, 10¹² operations | at best, seconds | share | before, seconds |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, needed in [*operations.items(), ("together", sum(operations.values()))]:
        record = run.record(name) if name in operations else None
        seconds = record.seconds if record else whole
        before = BEFORE.get(name) if name in operations else 1307
        lines.append(
            f"| {name} | {seconds:.0f} | {needed / 1e12:.1f} | {needed / rate:.0f} | {needed / rate / seconds:.0%} | "
            f"{before or ''} |"
        )
    (Path(__file__).parent.parent / "CAPTAIN.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
