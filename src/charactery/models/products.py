"""Products with the weights of a network, laid out once as the processor wants them, adapters added or beside.

Axes: N tokens, C width of the network, R rank of an adapter.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch.nn import functional

from charactery.models.gradients import Product, adapted

Onto = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # of what is read, and of what it is added to
ROWS = 64  # rows that weights are laid out for
PACKED = 1_000_000_000  # parameters up to which weights are laid out anew beside the old ones: twice the memory


def merges(network: Any) -> bool:
    """Whether a Decoder holds its weights by itself, an adapter merged, laid out as the processor wants them."""
    return bool(
        network.device.type == "cpu"
        and network.dtype == torch.bfloat16
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        and network.num_parameters() <= PACKED
    )


def bare(module: Any) -> Any:
    """The layer itself, out of what PEFT may have put around it."""
    return getattr(module, "original_module", getattr(module, "base_layer", module))


def _bias(modules: Sequence[Any]) -> torch.Tensor | None:
    biases = [bare(module).bias for module in modules]
    return torch.cat(biases) if biases[0] is not None else None


def laid_out(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Callable[..., torch.Tensor]:
    """The product with a weight, copied into the layout that the processor multiplies in.

    What comes of it can go through one operation more before it is rounded and written: "swish", or "add" or "mul" with
    another tensor.
    """
    held = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS)
    of_one, of_two = torch.ops.mkldnn._linear_pointwise.default, torch.ops.mkldnn._linear_pointwise.binary

    def product(x: torch.Tensor, then: str = "none", other: torch.Tensor | None = None) -> torch.Tensor:
        if other is None:
            return of_one(x, held, bias, then, [], "")  # type: ignore[no-any-return]
        return of_two(x, other, held, bias, then)  # type: ignore[no-any-return]

    return product


def packed(modules: Sequence[Any], adapter: str | None) -> Callable[..., torch.Tensor]:
    """The product with the weights of several modules, adapter added, in the processor's layout."""
    return laid_out(torch.cat([_merged(module, adapter) for module in modules]), _bias(modules))


def packed_onto(module: Any, adapter: str | None) -> Onto:
    """The product with one module's weights, added to what was there."""
    product = packed([module], adapter)
    return lambda x, before: product(x, "add", before)


def packed_gated(mlp: Any, adapter: str | None) -> Onto:
    """The whole of a gated network between two norms, added to what was there."""
    gate, up, down = (packed([module], adapter) for module in (mlp.gate_proj, mlp.up_proj, mlp.down_proj))
    return lambda x, before: down(up(x, "mul", gate(x, "swish")), "add", before)


def _merged(module: Any, adapter: str | None) -> torch.Tensor:
    weight: torch.Tensor = bare(module).weight
    if adapter is None or adapter not in getattr(module, "lora_A", {}):
        return weight
    up, down = module.lora_B[adapter].weight.float(), module.lora_A[adapter].weight.float()
    merged: torch.Tensor = weight.float() + module.scaling[adapter] * (up @ down)
    return merged.to(weight.dtype)


def beside(modules: Sequence[Any], adapter: str | None) -> Product:
    """The same without a second copy of the weights, the adapter beside them."""
    weight, bias = _in_one([bare(module).weight for module in modules]), _bias(modules)
    on = [
        (m, here) for m, here in zip(modules, columns_of(modules), strict=True) if adapter in getattr(m, "lora_A", {})
    ]
    if not on:
        return lambda x: functional.linear(x, weight, bias)
    down = torch.cat([m.lora_A[adapter].weight for m, _ in on]).to(weight.dtype)
    ups = [(m.scaling[adapter] * m.lora_B[adapter].weight).to(weight.dtype) for m, _ in on]

    def product(x: torch.Tensor) -> torch.Tensor:
        out, heard = functional.linear(x, weight, bias), functional.linear(x, down)
        for (_, here), up, part in zip(on, ups, torch.split(heard, [up.shape[1] for up in ups], 1), strict=True):
            out[:, here].addmm_(part, up.t())
        return out

    return product


@torch.inference_mode(False)  # the weights may have to learn from, later
@torch.no_grad()
def _in_one(weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """Weights one below the other, in one tensor whose parts they are from then on: there is no second copy."""
    first, place = weights[0], weights[0].storage_offset()
    for weight in weights:
        here = weight.untyped_storage().data_ptr(), weight.storage_offset(), weight.is_contiguous()
        if here != (first.untyped_storage().data_ptr(), place, True):
            break
        place += weight.numel()
    else:
        return first.detach().as_strided((sum(map(len, weights)), first.shape[1]), (first.shape[1], 1))
    whole = torch.cat([*weights])
    for weight, part in zip(weights, torch.split(whole, [*map(len, weights)]), strict=True):
        weight.data = part
    return whole


def columns_of(modules: Sequence[Any]) -> list[slice]:
    """Where each module's part of their common product is."""
    widths = [bare(module).out_features for module in modules]
    return [slice(end - width, end) for end, width in zip(accumulate(widths), widths, strict=True)]


def learning(modules: Sequence[Any], packs: bool) -> Product:
    """The product of a frozen base with whatever adapter is on beside it, which learns."""
    bias, (there, back) = _bias(modules), both_ways([bare(module).weight for module in modules], packs)

    def product(x: torch.Tensor) -> torch.Tensor:
        out = adapted(x, there, back, *_together(modules, x.dtype))
        return out if bias is None else out + bias

    return product


def _together(modules: Sequence[Any], dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """The adapters that are on as one: what comes first (R, C), and after it (S, R), the scales in it. Noughts beside
    each module's own columns cost less than a product for each. Empty where none is on."""
    on = [(module, _adapter_on(module)) for module in modules]
    downs = [m.lora_A[name].weight for m, name in on if name]
    if not downs:
        return ()
    ups = [m.scaling[name] * m.lora_B[name].weight if name else bare(m).weight[:, :0] for m, name in on]
    up: torch.Tensor = torch.block_diag(*ups)  # type: ignore[no-untyped-call]
    return torch.cat(downs).to(dtype), up.to(dtype)


def both_ways(weights: Sequence[torch.Tensor], packs: bool) -> tuple[Product, Product]:
    """The product with several weights, and with their transpose."""
    if packs:
        return laid_out(torch.cat([*weights])), laid_out(torch.cat([*weights]).t())
    weight = _in_one(weights)
    return lambda x: functional.linear(x, weight), lambda grad: grad @ weight


def _adapter_on(module: Any) -> str | None:
    """The adapter that is on in one of PEFT's layers; None for a bare layer, too."""
    if getattr(module, "disable_adapters", True):
        return None
    return next((name for name in module.active_adapters if name in module.lora_A), None)
