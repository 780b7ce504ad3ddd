"""`charactery train captain` by stage: what it took, beside what its products would take at the machine's best.

    python -m benchmarks.speed.whole --out runs/captain-timed

Writes benchmarks/CAPTAIN.md. Counted are the products with the weights, of adapters, of attention (what lies ahead,
too, where it is computed) and of the judges' encoder, forwards and back; what lies between products, sampling and
Inspect are not, so the bound is lower than what can be had.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks.speed.ceiling import ceiling
from torch.nn import functional

from charactery.constitution import find_character
from charactery.models import attending, products
from charactery.pipeline.distil import Watch, train
from charactery.pipeline.order import Order
from charactery.runs import Run

# Seconds at the sizes that ship, by a processor with matrix units, before this table: "Twelve minutes" in the notebook.
BEFORE = {"drafts": 97, "sft": 133, "self-play": 23, "dpo": 104, "evaluate": 329}
BEFORE_WHOLE = 688
WANTED = 300  # seconds

counted = [0.0]


def counting(laid_out: Callable[..., Callable[..., torch.Tensor]]) -> Callable[..., Callable[..., torch.Tensor]]:
    """`laid_out` whose products add up their multiplications and additions."""

    def count(weight: torch.Tensor, *bias: Any) -> Callable[..., torch.Tensor]:
        product, size = laid_out(weight, *bias), weight.numel()

        def counts(x: torch.Tensor, *then: Any) -> torch.Tensor:
            counted[0] += 2.0 * size * x.numel() / x.shape[-1]
            return product(x, *then)

        return counts

    return count


def counting_of_two(product: Callable[..., torch.Tensor], columns: int) -> Callable[..., torch.Tensor]:
    """A product of two tensors that does the same; the second has its columns in this dimension."""

    def counts(one: torch.Tensor, other: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
        counted[0] += 2.0 * one.numel() * other.shape[columns]
        return product(one, other, *more, **named)

    return counts


def counting_attention(attend: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The fused kernel, of whose two products what lies ahead is left out, by halves."""

    def counts(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, shared: Any, is_causal: bool = False, **how: Any
    ) -> torch.Tensor:
        seen = key.shape[2] / (1 + is_causal) + (shared.key.shape[2] if shared else 0)
        counted[0] += 4.0 * query.numel() * seen
        return attend(query, key, value, shared, **({"is_causal": True} if is_causal else {}), **how)

    return counts


def count_products() -> None:
    """From now on."""
    attending.fused = counting_attention(attending.fused)
    products.laid_out = counting(products.laid_out)
    torch.bmm = counting_of_two(torch.bmm, -1)
    torch.Tensor.__matmul__ = counting_of_two(torch.Tensor.__matmul__, -1)  # type: ignore[method-assign, assignment]
    functional.linear = counting_of_two(functional.linear, 0)  # type: ignore[assignment]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/captain-timed"))
    out = parser.parse_args().out
    rates = [ceiling()["bfloat16 operations/s"]]
    count_products()
    operations: dict[str, float] = {}
    stage, measuring = Run.stage, [0.0]

    def watched(
        run: Run, name: str, work: Callable[[Path], None], say: Callable[[str], None], shared: bool = False
    ) -> Path:
        before = counted[0]
        folder = stage(run, name, work, say, shared)
        operations[name] = counted[0] - before
        began = time.monotonic()
        rates.append(ceiling()["bfloat16 operations/s"])
        measuring[0] += time.monotonic() - began
        print(name, flush=True)
        return folder

    Run.stage = watched  # type: ignore[method-assign]
    began = time.monotonic()
    run = train(Order(find_character("captain"), out), Watch())
    whole = time.monotonic() - began - measuring[0]
    rate = max(rates)
    lines = [
        "# `train captain`, by stage", "",
        "Written by `python -m benchmarks.speed.whole`, at the sizes that ship. At best are the products, those of "
        f"attention and adapters with them, at {rate / 1e9:.0f} × 10⁹ bfloat16 operations a second on "
        f"{torch.get_num_threads()} threads, the highest of {len(rates)} measurements before, between and after the "
        f"stages (the lowest: {min(rates) / 1e9:.0f}); what lies between products, sampling and Inspect come on top. "
        f"This processor has {'' if attending.FUSES else 'no '}matrix units (AMX). Before is a run at the same sizes "
        "on one that has, without memory by stage.", "",
        "| stage | seconds | products, 10¹² operations | at best, seconds | share | peak, GB | before, seconds |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    records = {name: run.record(name) for name in operations}
    peaks = {name: record.peak_mb / 1e3 if record else 0.0 for name, record in records.items()}
    for name, needed in [*operations.items(), ("together", sum(operations.values()))]:
        record = records.get(name)
        seconds = record.seconds if record else whole
        before = BEFORE.get(name, "") if name in operations else BEFORE_WHOLE
        lines.append(
            f"| {name} | {seconds:.0f} | {needed / 1e12:.1f} | {needed / rate:.0f} | {needed / rate / seconds:.0%} | "
            f"{peaks.get(name, max(peaks.values())):.1f} | {before} |"
        )
    least = sum(operations.values()) / rate
    took = f"it took {whole:.0f}"
    if least > WANTED:
        took += f", and the products alone would take {least:.0f} at this machine's best, which forbids it"
    lines += ["", f"Wanted are {WANTED} seconds: {took}."]
    (Path(__file__).parent.parent / "CAPTAIN.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
