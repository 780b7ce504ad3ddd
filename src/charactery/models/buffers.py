"""A key-value cache that writes into buffers set aside once.

transformers' dynamic cache copies everything it holds on every step (torch.cat); on a CPU that copying is a
third of a decoding step at 50 rows of 300 tokens.
"""

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer


class _BufferLayer(DynamicLayer):  # type: ignore[misc]
    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.length = room, 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        rows, heads, _, width = key_states.shape
        self._keys = key_states.new_empty(rows, heads, self.room, width)
        self._values = value_states.new_empty(rows, heads, self.room, value_states.shape[-1])
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[-2]
        assert end <= self.room, f"cache of {self.room} positions asked to hold {end}"
        self._keys[:, :, self.length : end] = key_states
        self._values[:, :, self.length : end] = value_states
        self.length = end
        self.keys, self.values = self._keys[:, :, :end], self._values[:, :, :end]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.length

    def spread(self, rows: int) -> None:
        """Copy the one row held to `rows` rows."""
        self._keys, self._values = (t.expand(rows, -1, -1, -1).contiguous() for t in (self._keys, self._values))

    def keep(self, rows: torch.Tensor) -> None:
        """Keep these rows only."""
        self._keys, self._values = self._keys[rows], self._values[rows]
        self.keys, self.values = self._keys[:, :, : self.length], self._values[:, :, : self.length]


class BufferCache(Cache):  # type: ignore[misc]
    """A cache for `layers` layers with room for `room` positions."""

    def __init__(self, layers: int, room: int) -> None:
        super().__init__(layers=[_BufferLayer(room) for _ in range(layers)])

    def spread(self, rows: int) -> None:
        """Copy a shared prefix, computed as one row, to every row of a batch."""
        for layer in self.layers:
            layer.spread(rows)

    def keep(self, rows: torch.Tensor) -> None:
        """Drop finished rows; `rows` are the indices that stay."""
        for layer in self.layers:
            layer.keep(rows)
