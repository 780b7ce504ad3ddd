"""What this machine gives at best: matrix products at the model's shapes, and reading memory."""

import time
from collections.abc import Callable

import torch
from torch.nn import functional

ROWS = 1024
SHAPES = {
    "queries, keys, values": (960, 576),
    "gate and up": (3072, 576),
    "down": (576, 1536),
    "vocabulary": (49152, 576),
}


def best(work: Callable[[], object], rounds: int = 7) -> float:
    work()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def ceiling() -> dict[str, float]:
    """Operations a second in float32 and bfloat16, the mean over the shapes by their work, and bytes a second."""
    found: dict[str, float] = {}
    for dtype in (torch.float32, torch.bfloat16):
        operations = seconds = 0.0
        for out, width in SHAPES.values():
            x, weight = torch.randn(ROWS, width, dtype=dtype), torch.randn(out, width, dtype=dtype)
            if dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported():
                held = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
                seconds += best(lambda x=x, w=held: torch.ops.mkldnn._linear_pointwise(x, w, None, "none", [], ""))
            else:
                seconds += best(lambda x=x, w=weight: functional.linear(x, w))
            operations += 2.0 * ROWS * out * width
        found[f"{str(dtype).removeprefix('torch.')} operations/s"] = operations / seconds
    block = torch.ones(1 << 26, dtype=torch.float64)  # 512 MB, more than any cache
    found["bytes/s"] = block.nbytes / best(lambda: block.sum())
    return found
