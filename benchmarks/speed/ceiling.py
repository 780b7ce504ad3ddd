"""What this machine gives at best: matrix products at the model's shapes, and reading memory."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional

ROWS = 1024
LEAST = 256  # rows of the vocabulary's product, whose result is as large as those of a hundred others
SHAPES = {  # columns, rows, and how often in one pass through the model
    "queries, keys, values": (960, 576, 30),
    "out of attention": (576, 576, 30),
    "gate and up": (3072, 576, 30),
    "down": (576, 1536, 30),
    "vocabulary": (49152, 576, 1),
}


def synchronize(device: str) -> None:
    """Wait for what a card has been given to do."""
    if device == "cuda":
        torch.cuda.synchronize()


def best(work: Callable[[], object], rounds: int = 7, device: str = "cpu") -> float:
    work()
    times = []
    for _ in range(rounds):
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times)


def shapes_of(config: Any) -> dict[str, tuple[int, int, int]]:
    """The products of a Llama, as `SHAPES`."""
    width, middle, head, layers = (
        config.hidden_size,
        config.intermediate_size,
        config.head_dim,
        config.num_hidden_layers,
    )
    mixed = (config.num_attention_heads + 2 * config.num_key_value_heads) * head
    return {
        "queries, keys, values": (mixed, width, layers),
        "out of attention": (width, config.num_attention_heads * head, layers),
        "gate and up": (2 * middle, width, layers), "down": (width, middle, layers),
        "vocabulary": (config.vocab_size, width, 1),
    }  # fmt: skip


def ceiling(device: str = "cpu", shapes: Mapping[str, tuple[int, int, int]] = SHAPES) -> dict[str, float]:
    """Operations a second in float32 and bfloat16, over the shapes as often as a model has them, and bytes a second."""
    found: dict[str, float] = {}
    for dtype in (torch.float32, torch.bfloat16):
        operations = seconds = 0.0
        for name, (out, width, times) in shapes.items():
            rows = (LEAST if name == "vocabulary" else ROWS) * (1 if device == "cpu" else 8)
            x, weight = (torch.randn(n, width, dtype=dtype, device=device) for n in (rows, out))
            if device == "cpu" and dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported():
                held = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
                took = best(lambda x=x, w=held: torch.ops.mkldnn._linear_pointwise(x, w, None, "none", [], ""))
            else:
                took = best(lambda x=x, w=weight: functional.linear(x, w), device=device)
            seconds += times * took / rows  # of a token
            operations += 2.0 * times * out * width
        found[f"{str(dtype).removeprefix('torch.')} operations/s"] = operations / seconds
    if device == "cpu":
        block = torch.ones(1 << 26, dtype=torch.float64)  # 512 MB, more than any cache
        found["bytes/s"] = block.nbytes / best(lambda: block.sum())
    else:
        one, other = (torch.ones(1 << 30, dtype=torch.bfloat16, device=device) for _ in range(2))
        found["bytes/s"] = 2 * one.nbytes / best(lambda: other.copy_(one), device=device)  # read, and written
    return found
