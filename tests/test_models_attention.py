"""Attention that holds a shared prefix once gives what attention over copies of it gives."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from charactery.models.attention import _attend, reading
from charactery.models.buffers import BufferCache

SHARED, OWN, ROWS, GROUPS, HEADS, WIDTH = 7, 5, 3, 2, 6, 16
MODULE = SimpleNamespace(layer_idx=0, num_key_value_groups=HEADS // GROUPS, is_causal=True)


@pytest.mark.parametrize("length", [1, 4], ids=["a step", "several positions"])
@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)], ids=["float32", "bfloat16"])
def test_a_prefix_held_once_is_read_as_copies_are(dtype: torch.dtype, off: float, length: int) -> None:
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw).to(dtype)

    prefix = normal(1, GROUPS, SHARED, WIDTH), normal(1, GROUPS, SHARED, WIDTH)
    own = normal(ROWS, GROUPS, OWN, WIDTH), normal(ROWS, GROUPS, OWN, WIDTH)
    query = normal(ROWS, HEADS, length, WIDTH)
    mask = torch.ones(ROWS, 1, length, SHARED + OWN, dtype=torch.bool).tril(SHARED + OWN - length)
    mask[1, :, :, SHARED : SHARED + 1] = False  # a row padded on the left
    cache = BufferCache(1, SHARED + OWN)
    cache.update(*prefix, 0)
    cache.set_apart()
    key, value = cache.update(*own, 0)
    assert key.shape[2] == OWN and cache.get_seq_length() == SHARED + OWN
    whole: list[Any] = [torch.cat([p.expand(ROWS, -1, -1, -1), o], 2) for p, o in zip(prefix, own, strict=True)]
    expected, _ = sdpa_attention_forward(MODULE, query.float(), *(t.float() for t in whole), mask, scaling=0.3)
    with reading(cache):
        got, _ = _attend(MODULE, query, key, value, mask, scaling=0.3)
    torch.testing.assert_close(got.float(), expected, atol=off, rtol=0)
