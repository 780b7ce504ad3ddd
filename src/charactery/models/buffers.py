"""A key-value cache that writes into buffers set aside once.

transformers' dynamic cache copies everything it holds on every step (torch.cat); on a CPU that copying is a
third of a decoding step at 50 rows of 300 tokens.
"""

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer


class _BufferLayer(DynamicLayer):  # type: ignore[misc]
    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.length = room, 0
        self.prefix: tuple[torch.Tensor, torch.Tensor] | None = None

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        rows, heads, _, width = key_states.shape
        own = self.room - self.shared
        self._keys = key_states.new_empty(rows, heads, own, width)
        self._values = value_states.new_empty(rows, heads, own, value_states.shape[-1])
        self.is_initialized = True

    @property
    def shared(self) -> int:
        return self.prefix[0].shape[2] if self.prefix else 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[-2]
        assert end <= self.room, f"cache of {self.room} positions asked to hold {end}"
        here = slice(self.length - self.shared, end - self.shared)
        self._keys[:, :, here], self._values[:, :, here] = key_states, value_states
        self.length = end
        self._show()
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.length

    def set_apart(self) -> None:
        """Keep the one row held as what all rows to come share; `update` then gives their own part alone."""
        self.prefix = (self.keys, self.values)
        self.is_initialized = False

    def spread(self, rows: int) -> None:
        """Copy the one row held to `rows` rows."""
        self._keys, self._values = (t.expand(rows, -1, -1, -1).contiguous() for t in (self._keys, self._values))

    def reorder_cache(self, rows: torch.Tensor) -> None:
        """Keep these rows only, in this order; a row may be named more than once."""
        self._keys, self._values = self._keys[rows], self._values[rows]
        self._show()

    def _show(self) -> None:
        own = self.length - self.shared
        self.keys, self.values = self._keys[:, :, :own], self._values[:, :, :own]


class BufferCache(Cache):  # type: ignore[misc]
    """A cache for `layers` layers with room for `room` positions, those that rows share included."""

    def __init__(self, layers: int, room: int) -> None:
        super().__init__(layers=[_BufferLayer(room) for _ in range(layers)])

    def prefix(self, layer: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Keys and values that all rows share, of shape (1, heads, positions, width), where they are held apart."""
        held: tuple[torch.Tensor, torch.Tensor] | None = self.layers[layer].prefix
        return held

    def set_apart(self) -> None:
        """Hold a prefix, computed as one row, once for all rows to come; for `charactery.models.attention`."""
        for layer in self.layers:
            layer.set_apart()

    def spread(self, rows: int) -> None:
        """Copy a shared prefix, computed as one row, to every row of a batch."""
        for layer in self.layers:
            layer.spread(rows)


def layers_to_buffer(config: Any) -> int | None:
    """How many layers a model has where each keeps its own keys and values; None where some keep another state."""
    kinds = [type(layer) for layer in DynamicCache(config=config).layers]
    return len(kinds) if kinds and {*kinds} <= {DynamicLayer, DynamicSlidingWindowLayer} else None
