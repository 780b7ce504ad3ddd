"""Any causal network that transformers loads, read through its own code."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from charactery.errors import ModelNotFound
from charactery.models.attention import reading
from charactery.models.buffers import BufferCache

STATES = "cache_params"  # what Mamba calls its cache


class State:
    """A cache and what goes with it, of rows that go on."""

    def __init__(self, cache: Cache, mask_B_K: torch.Tensor, position_B_1: torch.Tensor) -> None:
        self.cache, self.mask_B_K, self.position_B_1 = cache, mask_B_K, position_B_1

    @property
    def rows(self) -> int:
        """How many go on."""
        return len(self.mask_B_K)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows alone, in this order; a row may be named more than once."""
        self.mask_B_K, self.position_B_1 = self.mask_B_K[rows], self.position_B_1[rows]
        self.cache.reorder_cache(rows)


class Network:
    """A network as it is, adapter and all. `layers` is None where its rows cannot share what they start with."""

    padding = 20_000  # places without a token that cost less, in a step, than putting a group through on its own
    idle = 8  # ended rows are dropped once they are one in so many: dropping copies the whole cache

    def __init__(self, network: Any, bare: Any, body: Any, layers: int | None, shares: bool, pad: int) -> None:
        self.network, self.body, self.layers, self.shares, self.pad = network, body, layers, shares, pad
        self.config, self.device = bare.config, bare.device
        self.whole = answers_whole(bare)
        self.cached_as = _cached_as(bare)
        self.pads_anywhere = pads_anywhere(self.config)
        self.output = torch.nn.Identity() if self.whole else bare.get_output_embeddings()

    def begin(self, shared: Sequence[int], rows: Sequence[Sequence[int]], room: int) -> tuple[torch.Tensor, State]:
        """Logits after each row, (B, V), and a State to go on from for `room` tokens; rows start with `shared`."""
        unique = list(dict.fromkeys(map(tuple, rows)))  # several answers to a prompt: it is read once
        place = {row: n for n, row in enumerate(unique)}
        width = max(map(len, rows))
        cache = self._started(shared, len(unique), len(shared) + width + room)
        # padded on the left: a recurrent state has no place for padding after a prompt
        real_B_L = self._ids([[0] * (width - len(row)) + [1] * len(row) for row in unique])
        mask_B_K = torch.cat([real_B_L.new_ones(len(unique), len(shared)), real_B_L], dim=1)
        position_B_L = len(shared) + (real_B_L.cumsum(1) - 1).clamp(min=0)
        ids_B_L = self._ids([[self.pad] * (width - len(row)) + list(row) for row in unique])
        logits_B_V = self._next(ids_B_L, mask_B_K, position_B_L, cache)
        state = State(cache, mask_B_K, position_B_L[:, -1:])
        if len(unique) < len(rows):
            row_R = torch.tensor([place[tuple(row)] for row in rows], device=self.device)
            logits_B_V = logits_B_V[row_R]
            state.keep(row_R)
        return logits_B_V, state

    def joined(self, states: Sequence[State]) -> list[State]:
        """As they are: each has a cache of its own."""
        return list(states)

    def step(self, token_B: torch.Tensor, states: Sequence[State]) -> torch.Tensor:
        """Logits after one more token of every row of these states, (B, V)."""
        logits = []
        for token, state in zip(torch.split(token_B, [state.rows for state in states]), states, strict=True):
            state.position_B_1 = state.position_B_1 + 1
            state.mask_B_K = torch.cat([state.mask_B_K, state.mask_B_K.new_ones(len(token), 1)], dim=1)
            logits.append(self._next(token[:, None], state.mask_B_K, state.position_B_1, state.cache))
        return torch.cat(logits)

    def hidden(
        self, shared: Sequence[int], rows: Sequence[Sequence[int]], starts: Sequence[int], counts: Sequence[int]
    ) -> torch.Tensor:
        """What the last layer says of `counts` tokens of each row from `starts` on, one after the other, (N, C)."""
        width = max(map(len, rows))
        cache = self._started(shared, len(rows), len(shared) + width)
        body = self.network if self.whole else self.body
        with reading(cache):
            hidden_B_L_C = body(
                input_ids=self._ids([[*row, *[self.pad] * (width - len(row))] for row in rows]),
                attention_mask=self._ids([[1] * (len(shared) + len(r)) + [0] * (width - len(r)) for r in rows]),
                position_ids=torch.arange(len(shared), len(shared) + width, device=self.device).expand(len(rows), -1),
                use_cache=True,
                **{self.cached_as: cache},
            )[0]
        return torch.cat([hidden_B_L_C[r, s : s + n] for r, (s, n) in enumerate(zip(starts, counts, strict=True))])

    def head(self, hidden_N_C: torch.Tensor) -> torch.Tensor:
        """Logits, (N, V)."""
        logits_N_V: torch.Tensor = self.output(hidden_N_C)
        return logits_N_V

    def _started(self, shared: Sequence[int], rows: int, room: int) -> Cache:
        """A cache for `rows` rows that start with these tokens, computed once for all of them."""
        if self.layers is None:
            return DynamicCache(config=self.config)
        cache = BufferCache(self.layers, room)
        if shared:
            self.body(input_ids=self._ids([list(shared)]), use_cache=True, **{self.cached_as: cache})
            if self.shares:
                cache.set_apart()
            else:
                cache.spread(rows)
        return cache

    def _next(self, ids: torch.Tensor, mask: torch.Tensor, position: torch.Tensor, cache: Cache) -> torch.Tensor:
        """Logits at the last position. Given the strided slice that `logits_to_keep` makes, torch copies the head's
        weights for every row (3 GB at 60 rows of SmolLM2), so the slice is made two-dimensional first."""
        inputs: dict[str, Any] = {
            "input_ids": ids, "attention_mask": mask, "position_ids": position, "use_cache": True,
            self.cached_as: cache,
        }  # fmt: skip
        if self.cached_as == STATES and ids.shape[1] == 1:
            del inputs["attention_mask"]  # a state holds no padding, and Mamba would lay all the mask over one token
        with reading(cache):
            if self.whole:
                logits_B_V: torch.Tensor = self.network(**inputs, logits_to_keep=1).logits[:, -1]
                return logits_B_V
            return self.head(self.body(**inputs)[0][:, -1])

    def _ids(self, rows: list[list[int]]) -> torch.Tensor:
        return torch.tensor(rows, dtype=torch.long, device=self.device)


def answers_whole(network: Any) -> bool:
    """Whether only a model's own forward knows what comes after its last layer.

    So it is where logits are scaled or capped (Gemma 2, Granite, Cohere, RecurrentGemma, xLSTM), and where the network
    has no body of its own within it (Llama 4).
    """
    names = (
        "final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier",
        "logits_soft_cap", "output_logit_soft_cap",
    )  # fmt: skip
    config = network.config.get_text_config()
    return network.base_model is network or any(getattr(config, name, None) not in (None, 1) for name in names)


def pads_anywhere(config: Any) -> bool:
    """Whether places without a token may stand between others: positions are told, and nothing counts places.

    A sliding window counts them, and so does attention by distance (ALiBi).
    """
    kinds = {type(layer) for layer in DynamicCache(config=config).layers}
    alibi = getattr(config, "alibi", False) or getattr(getattr(config, "attn_config", None), "alibi", False)
    return kinds <= {DynamicLayer} and not alibi and config.model_type != "bloom"


def _cached_as(network: Any) -> str:
    """What the network's forward calls its cache. Raises ModelNotFound where it takes none that is known."""
    takes = inspect.signature(network.base_model.forward).parameters
    for name in ("past_key_values", STATES):
        if name in takes and network.config.model_type != "xlstm":  # whose cache is of its own making
            return name
    raise ModelNotFound(
        f"{type(network).__name__} keeps what it has read in a way that is not known here; it can be trained by other "
        "means and behind a server, but not read by Charactery"
    )
