"""A decoder of the Llama family in few operations: the same weights and numbers as transformers' module, sooner.

transformers' code is made to be read and changed, a model at a time; on a processor its many small operations take as
long as the matrix products. Here siblings that read one input (queries, keys and values; gate and up) are one product,
an adapter is added to the weights beforehand, weights are laid out once as the processor wants them, tokens that rows
share are computed once, and no padding goes through a product.
`tests/test_models_decoder.py` holds it against transformers' own.

Axes: B rows, L tokens of a row, N distinct tokens of a batch, P tokens that all rows share, K keys, G groups of heads
that share keys, H heads of a group, D width of a head, C width of the network. Where parts of the rows share other
tokens: S parts, of N rows.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from charactery.models.gradients import Product, attended, causal, gate, gated, norm, normed, turn, turned
from charactery.models.lines import Batch, Lines
from charactery.models.products import (
    Onto,
    bare,
    beside,
    both_ways,
    learning,
    merges,
    packed,
    packed_gated,
    packed_onto,
)

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
STRIDE = 16  # keys are read in multiples of it: the room for more is made by copying them
ONCE = 8  # places in what rows share that cost as much as one of a row's own
# torch's fused attention of single places consists of products that matrix units alone do fast: on a processor without
# them it takes ten times as long as plain products, in bfloat16 (in float32 a quarter longer)
FUSES = torch.cpu._is_amx_tile_supported()
LONG = 1024  # places of a line up to which what is before it is attended to in one go with it


def decodes(config: Any) -> bool:
    """Whether a model is one that `Decoder` knows: full attention in every layer, rotary positions, gated SiLU."""
    windows = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    rotary = getattr(config, "rope_parameters", None) or {}
    return (
        config.model_type in FAMILIES
        and getattr(config, "quantization_config", None) is None  # its weights are not what is multiplied
        and config.hidden_act == "silu"
        and windows is None
        and rotary.get("rope_type") != "longrope"  # turned by the longest row that is read along
        and {*(getattr(config, "layer_types", None) or ["full_attention"])} == {"full_attention"}
    )


def bytes_held(config: Any, dtype: torch.dtype) -> int:
    """Bytes of the keys and values of one token, of a model that `Decoder` knows."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * config.num_key_value_heads * width * dtype.itemsize)


def adds_plainly(network: Any, adapter: str) -> bool:
    """Whether one of the adapters that PEFT has put on a network is nothing but a product beside each product."""
    config = network.peft_config[adapter]
    others = ("lora_bias", "modules_to_save", "trainable_token_indices", "target_parameters", "layer_replication")
    return (
        str(getattr(config.peft_type, "value", config.peft_type)) == "LORA"
        and config.bias == "none"
        and not any(getattr(config, name, None) for name in others)
        # DoRA, KaSA and the like have forwards of their own; of embeddings, rows are looked up and not multiplied
        and not any(
            adapter in getattr(module, name, ())
            for module in network.modules()
            for name in ("lora_variant", "lora_embedding_A")
        )
    )


@dataclass
class _Layer:
    norm: Product
    query_key_value: Product
    head_norms: tuple[Product, ...]  # Qwen3's, of queries and of keys
    out: Onto
    norm_after: Product
    mlp: Onto


class Keys(list[tuple[torch.Tensor, torch.Tensor]]):
    """By layer: keys and values, both (B, G, K, D)."""


class Parts:
    """Which rows start with what: S parts of the rows, each given as many places as the largest has rows, N."""

    def __init__(self, part_B: torch.Tensor, parts: int) -> None:
        row_B = torch.arange(len(part_B), device=part_B.device)
        mine_B_S = part_B[:, None] == torch.arange(parts, device=part_B.device)
        self.part_B, self.rank_B = part_B, mine_B_S.cumsum(0)[row_B, part_B] - 1
        # at a place that no row has, the first row is read, and what comes of it by nobody
        self.row_S_N = part_B.new_zeros(parts, int(mine_B_S.sum(0).max()))
        self.row_S_N[part_B, self.rank_B] = row_B

    def apart(self, x: torch.Tensor) -> torch.Tensor:
        """What is of each row, (B, …), by part: (S, N, …)."""
        return x[self.row_S_N]

    def together(self, x: torch.Tensor) -> torch.Tensor:
        """What is by part, as the rows are."""
        return x[self.part_B, self.rank_B]


@dataclass
class Shared:
    """Keys and values that rows start with, all of them with the same or one part with these and another with those."""

    key: torch.Tensor  # (S, G, P, D)
    value: torch.Tensor
    mask: torch.Tensor | None = None  # (S, 1, 1, P), over what pads the shorter
    parts: Parts | None = None

    def apart(self, x: torch.Tensor) -> torch.Tensor:
        """What is of each row, (B, …), by part: (S, N, …)."""
        return self.parts.apart(x) if self.parts else x[None]

    def together(self, x: torch.Tensor) -> torch.Tensor:
        """What is by part, as the rows are."""
        return self.parts.together(x) if self.parts else x[0]


class State:
    """Keys and values of rows that go on, and of what they share, with room for the tokens to come."""

    def __init__(self, shared: Keys, own: Keys, row_B: torch.Tensor, lengths: Sequence[int], room: int) -> None:
        """`own` holds distinct rows, of which the B rows with these lengths are `row_B`."""
        key, rows = own[0][0], len(row_B)
        width = key.shape[2]
        self.shared: Sequence[tuple[torch.Tensor, torch.Tensor]] = shared
        self.shared_mask: torch.Tensor | None = None
        self.parts: Parts | None = None
        self.rows, self.width = rows, width
        # as long as need be and no longer: of anything but a whole tensor a card's product copies what it reads
        room_now = -(-(width + 1) // STRIDE) * STRIDE
        self.held = [_longer(torch.stack([part[row_B] for part in layer]), room_now) for layer in own]
        self.before = shared[0][0].shape[2] if shared else 0
        length_B = torch.tensor(lengths, device=key.device)
        self.position_B = length_B + self.before
        # shorter rows end in what is no token, and all of them in what is none yet
        self.mask_B_1_1_K = _hidden(length_B, width + room + STRIDE, key.dtype)

    def join(self, others: Sequence["State"]) -> None:
        """Take in the rows of others, which are spent. None has gone on yet; all begin with something, or none does."""
        states = [self, *others]
        if self.shared:
            counts = [state.before for state in states]
            longest, device = max(counts), self.position_B.device
            if min(counts) < longest:
                self.shared_mask = _hidden(torch.tensor(counts, device=device), longest, self.mask_B_1_1_K.dtype)
            self.shared = [
                (_all([key for key, _ in layer], longest), _all([value for _, value in layer], longest))
                for layer in zip(*(state.shared for state in states), strict=True)
            ]
            part_B = [part for part, state in enumerate(states) for _ in range(state.rows)]
            self.parts = Parts(torch.tensor(part_B, device=device), len(states))
        self.width, room = max((state.width, state.held[0].shape[3]) for state in states)
        # a layer's at a time: what was held before goes as the new is made
        self.held = [_all([state.held.pop(0) for state in states], room, 1) for _ in range(len(self.held))]
        masks = [state.mask_B_1_1_K.transpose(2, 3) for state in states]
        self.mask_B_1_1_K = _all(masks, max(mask.shape[2] for mask in masks), value=-math.inf).transpose(2, 3)
        self.position_B = torch.cat([state.position_B for state in states])
        self.rows = len(self.position_B)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows alone, in this order. Only those that change place are copied."""
        count = len(rows)
        moved = (rows != torch.arange(count, device=rows.device)).nonzero()[:, 0]
        for held in self.held:
            held[:, moved] = held[:, rows[moved]]
        self.position_B = self.position_B[rows]
        self.mask_B_1_1_K = self.mask_B_1_1_K[rows]
        if self.parts and count:
            used, part_B = torch.unique(self.parts.part_B[rows], return_inverse=True)
            if len(used) < len(self.parts.row_S_N):
                self.shared = [(key[used], value[used]) for key, value in self.shared]
                self.shared_mask = self.shared_mask[used] if self.shared_mask is not None else None
            self.parts = Parts(part_B, len(used))
        self.rows = count

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Take in the next key and value of every row, (B, G, D), and attend with a query (B, G * H, D).

        Returns (B, G * H * D).
        """
        rows = len(query)
        if self.width == self.held[layer].shape[3]:
            self.held[layer] = functional.pad(self.held[layer][:, :rows], (0, 0, 0, STRIDE))
        keys, values = self.held[layer][:, :rows]
        # in one go: each row's are in a page of their own, which takes longer to find than to write
        self.held[layer][:, :rows, :, self.width] = torch.stack([key, value])
        mask = self.mask_B_1_1_K[..., : keys.shape[2]]
        shared = Shared(*self.shared[layer], self.shared_mask, self.parts) if self.shared else None
        attend = partial(_fused, attn_mask=mask) if query.is_cpu and FUSES else partial(_by_products, mask=mask)
        return attend(query[:, :, None], keys, values, shared).reshape(rows, -1)


def _hidden(length_B: torch.Tensor, places: int, dtype: torch.dtype) -> torch.Tensor:
    """What is added to scores, (B, 1, 1, K), so that nothing after these lengths is looked at."""
    hidden_B_K = torch.arange(places, device=length_B.device) >= length_B[:, None]
    return torch.zeros_like(hidden_B_K, dtype=dtype).masked_fill_(hidden_B_K, -math.inf)[:, None, None]


def _pads(states: Sequence[State]) -> int:
    """How many places would be no token's, were these one: keys that none has, and places, ONCE shared ones as one."""
    rows, longest, widest = (max(counts) for counts in zip(*((s.rows, s.before, s.width) for s in states), strict=True))
    own = sum(s.rows * (widest - s.width) for s in states)
    keys = sum(longest - s.before for s in states)
    return int(own + keys + sum(rows * longest - s.rows * s.before for s in states) // ONCE)


def _longer(t: torch.Tensor, places: int, value: float = 0) -> torch.Tensor:
    """With as many places in the last dimension but one."""
    return functional.pad(t, (0, 0, 0, places - t.shape[-2]), value=value) if t.shape[-2] < places else t


def _all(tensors: Sequence[torch.Tensor], places: int, dim: int = 0, value: float = 0) -> torch.Tensor:
    """One after the other, each with as many places in the last dimension but one."""
    return torch.cat([_longer(t, places, value) for t in tensors], dim)


def _fused(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, shared: Shared | None, **how: Any
) -> torch.Tensor:
    """Attention of (B, G * H, L, D) to (B, G, K, D) and to what is shared, on a processor.

    Each of the two is attended to by itself, and they are added up in the shares that their weights have.
    """
    # torch's public call keeps the sums to itself
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
    own, total = kernel(query, key, value, **how)
    if not shared:
        return own  # type: ignore[no-any-return]
    by_part = shared.apart(query)  # (S, N, G * H, L, D)
    lines = by_part.transpose(1, 2).flatten(2, 3)
    apart = kernel(lines, shared.key, shared.value, attn_mask=shared.mask)
    before, total_before = (
        shared.together(t.view(*lines.shape[:2], *by_part.shape[1::2], -1).transpose(1, 2)) for t in apart
    )
    more = total_before - total[..., None]
    share, share_before = torch.sigmoid(-more).to(own.dtype), torch.sigmoid(more).to(own.dtype)  # small ones stay exact
    return torch.addcmul(own * share, before, share_before)


def _by_products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, shared: Shared | None, mask: torch.Tensor
) -> torch.Tensor:
    """The same of one place a row, without fast code: a card's knows not both of masks and of heads that share keys."""
    rows, groups = key.shape[:2]
    query_B_G_H_D = query.view(rows, groups, -1, query.shape[-1]) * query.shape[-1] ** -0.5
    score_B_G_H_K = query_B_G_H_D @ key.transpose(2, 3) + mask
    if not shared:
        return (torch.softmax(score_B_G_H_K, -1) @ value).view(query.shape)
    by_part = shared.apart(query_B_G_H_D).transpose(1, 2)  # (S, G, N, H, D)
    score_S_G_N_P = by_part.flatten(2, 3) @ shared.key.transpose(2, 3)
    if shared.mask is not None:
        score_S_G_N_P += shared.mask
    score_B_G_H_P = shared.together(score_S_G_N_P.view(*by_part.shape[:-1], -1).transpose(1, 2))
    weight = torch.softmax(torch.cat([score_B_G_H_P, score_B_G_H_K], -1), -1)
    before, own = weight[..., : score_B_G_H_P.shape[-1]], weight[..., score_B_G_H_P.shape[-1] :]
    heard = shared.apart(before).transpose(1, 2).flatten(2, 3) @ shared.value
    return (own @ value + shared.together(heard.view(by_part.shape).transpose(1, 2))).view(query.shape)


class Decoder:
    """One network with one adapter, or none, ready to read. Built under `LocalModel.adapted`."""

    pads_anywhere = True  # what is no token is masked, wherever it stands
    padding = 8000  # places without a token that cost less, in a step, than attending to one more group
    idle = 16  # ended rows are dropped once they are one in so many: others are copied to their places

    def __init__(self, network: Any, adapter: str | None = None, learns: bool = False) -> None:
        config = network.config
        self.width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.groups, self.heads = config.num_key_value_heads, config.num_attention_heads // config.num_key_value_heads
        body = network.model
        packs = merges(network)

        def product(*modules: Any) -> Product:
            if learns:
                return learning(modules, packs)
            return packed(modules, adapter) if packs else beside(modules, adapter)

        on_processor = network.device.type == "cpu"  # elsewhere torch has one call for the norm, and one back
        apply = norm if learns and on_processor else normed
        self.turn: Callable[..., torch.Tensor] = turn if learns else turned

        def onto(module: Any) -> Onto:
            if packs and not learns:
                return packed_onto(module, adapter)
            apart = product(module)
            return lambda x, before: before + apart(x)

        def between(mlp: Any) -> Onto:
            if packs and not learns:
                return packed_gated(mlp, adapter)
            gate_up, down, through = product(mlp.gate_proj, mlp.up_proj), onto(mlp.down_proj), gate if learns else gated
            return lambda x, before: down(through(gate_up(x)), before)

        def weighted(module: Any) -> Product:
            module = bare(module)
            weight, epsilon = module.weight, module.variance_epsilon
            return lambda x: apply(x, weight, epsilon)

        self.layers = [
            _Layer(
                weighted(layer.input_layernorm),
                product(layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj),
                (weighted(layer.self_attn.q_norm), weighted(layer.self_attn.k_norm))
                if config.model_type == "qwen3"
                else (),
                onto(layer.self_attn.o_proj),
                weighted(layer.post_attention_layernorm),
                between(layer.mlp),
            )
            for layer in body.layers
        ]
        self.device, self.learns = network.device, learns
        self.embed, self.rotary, self.last_norm = bare(body.embed_tokens), body.rotary_emb, weighted(body.norm)
        if learns:
            self.head, self.head_back = both_ways([network.get_output_embeddings().weight], packs)
        else:
            self.head = product(network.get_output_embeddings())
        self._shared: tuple[tuple[int, ...], Keys] = (), Keys()

    def begin(self, shared: Sequence[int], rows: Sequence[Sequence[int]], room: int) -> tuple[torch.Tensor, State]:
        """Logits after each row, (B, V), and a State to go on from for `room` tokens; rows start with `shared`."""
        unique = list(dict.fromkeys(map(tuple, rows)))  # several answers to a prompt: it is read once
        place = {row: n for n, row in enumerate(unique)}
        row_B = self._tensor([place[tuple(row)] for row in rows])
        batch = Batch(unique, len(shared), self.device)
        before, own = self._before(shared), Keys()
        last_B_C = self._through(batch, before, own, [places[-1] for places in batch.places])
        return self.head(last_B_C)[row_B], State(before, own, row_B, [len(row) for row in rows], room)

    def joined(self, states: Sequence[State]) -> list[State]:
        """States that have not gone on yet in fewer ones, their rows in the same order.

        Neighbours are joined where attending to what pads them costs less than attending to each by itself.
        """
        runs: list[list[State]] = []
        for state in states:
            last = runs[-1] if runs else []
            both = [*last, state]
            if last and bool(last[0].shared) == bool(state.shared) and _pads(both) - _pads(last) <= self.padding:
                last.append(state)
            else:
                runs.append([state])
        for first, *others in runs:
            if others:
                first.join(others)
        return [first for first, *_ in runs]

    def hidden(
        self, shared: Sequence[int], rows: Sequence[Sequence[int]], starts: Sequence[int], counts: Sequence[int]
    ) -> torch.Tensor:
        """What the last layer says of `counts` tokens of each row from `starts` on, one after the other, (N, C)."""
        unique = list(dict.fromkeys(map(tuple, rows)))  # options of one token to a question: attended to once
        # a group of lines more is a dozen calls, which cost a graphics card more than padding does
        splits = self.device.type == "cpu"
        batch = Batch(unique, len(shared), self.device, splits, folds=not self.learns)
        places = dict(zip(unique, batch.places, strict=True))
        asked = [p for row, s, n in zip(rows, starts, counts, strict=True) for p in places[tuple(row)][s : s + n]]
        wanted = {place: n for n, place in enumerate(dict.fromkeys(asked))}
        hidden_N_C = self._through(batch, self._before(shared), None, [*wanted])
        return hidden_N_C.index_select(0, self._tensor([wanted[place] for place in asked]))

    def _tensor(self, values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)

    def _before(self, shared: Sequence[int]) -> "Keys":
        """Keys and values of what rows share; kept for the next batch, which often shares the same."""
        if tuple(shared) != self._shared[0]:
            keys = Keys()
            if shared:
                self._through(Batch([shared], 0, self.device), Keys(), keys, [])
            self._shared = tuple(shared), keys
        return self._shared[1]

    def _through(self, batch: Batch, before: Keys, keep: Keys | None, wanted: Sequence[int]) -> torch.Tensor:
        """What the last layer says at the wanted places, (N, C)."""
        x_N_C = self.embed(batch.token_N)
        cos_N_1_D, sin_N_1_D = self._turns(x_N_C, batch.position_N)
        queries = self.groups * self.heads
        assert not (before and self.learns and torch.is_grad_enabled()), "no gradients flow through what rows share"
        # without gradients, too: a reference that reads by other code would differ from what it is the reference of
        back = self.learns and self.device.type == "cpu" and not before and keep is None
        masks = [None if back else self._mask(lines, before, x_N_C.dtype) for lines in batch.lines]
        for n, layer in enumerate(self.layers):
            mixed_N_S_D = self._mixed(layer, x_N_C)
            here = None
            if n == len(self.layers) - 1:  # nothing reads the other places any more
                here = self._tensor(wanted)
                x_N_C = x_N_C.index_select(0, here)
            if back:
                heard_N_C = attended(mixed_N_S_D, cos_N_1_D, sin_N_1_D, batch, queries, here)
            else:
                parts = self._turned(mixed_N_S_D, cos_N_1_D, sin_N_1_D)
                outs = []
                for lines, mask in zip(batch.lines, masks, strict=True):
                    both, value = (batch.spread(part, lines).transpose(1, 2) for part in parts)
                    query, key = both[:, :queries], both[:, queries:]
                    if keep is not None:
                        keep.append((key, value))
                    out_B_S_L_D = self._attend(query, key, value, mask, before[n] if before else None)
                    outs.append(out_B_S_L_D.transpose(1, 2))
                heard_N_C = batch.gather(outs, here).flatten(1)
            x_N_C = self._after(layer, x_N_C, heard_N_C)
        normed_N_C: torch.Tensor = self.last_norm(x_N_C)
        return normed_N_C

    def _mask(self, lines: Lines, before: Keys, dtype: torch.dtype) -> torch.Tensor | None:
        """What is added to the scores of lines, (L, P + L) or (B, 1, L, P + L), if it hides more than what lies ahead.

        On a processor there is none, either, where what is before is attended to by itself: where it is many places,
        which would be copied to every line, or lines are long, of which a mask is the square; nor where `causal` reads.
        """
        length, shared = lines.index_B_L.shape[1], before[0][0].shape[2] if before else 0
        by_itself = self.device.type == "cpu" and (length <= shared or length > LONG or not FUSES)
        if lines.apart is None and (by_itself or not shared):
            return None
        ahead = torch.full((length, shared + length), float("-inf"), dtype=dtype, device=lines.index_B_L.device)
        mask = ahead.triu_(shared + 1)
        if lines.apart is None:
            return mask
        return mask.masked_fill(functional.pad(lines.apart, (shared, 0)), float("-inf"))

    def _attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        before: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> torch.Tensor:
        """Causal attention, (B, G * H, L, D). What pads a row comes after its tokens, so none of them looks at it."""
        on_processor = self.device.type == "cpu"
        if on_processor and mask is None and not FUSES:
            return causal(query, key, value, before or ())[0]
        if on_processor and mask is None:
            return _fused(query, key, value, Shared(*before) if before else None, is_causal=True)
        if before:
            key, value = (
                torch.cat([old.expand(len(new), -1, -1, -1), new], 2)
                for old, new in zip(before, (key, value), strict=True)
            )
        if on_processor:
            return _fused(query, key, value, None, attn_mask=mask)
        if mask is None:
            return functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=self.heads > 1)
        # no fast code knows both of masks and of heads that share keys: here such heads are further places of one head
        places = query.reshape(len(query), self.groups, -1, self.width)
        mask = torch.cat([mask] * self.heads, -2)
        return functional.scaled_dot_product_attention(places, key, value, mask).reshape(query.shape)

    def step(self, token_B: torch.Tensor, states: Sequence[State]) -> torch.Tensor:
        """Logits after one more token of every row of these states, (B, V): one product for all of them."""
        x_B_C = self.embed(token_B)
        groups, heads = self.groups, self.heads
        counts = [state.rows for state in states]
        cos_B_1_D, sin_B_1_D = self._turns(x_B_C, torch.cat([state.position_B for state in states]))
        for state in states:
            state.mask_B_1_1_K[..., state.width] = 0
        for n, layer in enumerate(self.layers):
            turned_B_S_D, value_B_G_D = self._turned(self._mixed(layer, x_B_C), cos_B_1_D, sin_B_1_D)
            query_B_S_D, key_B_G_D = turned_B_S_D[:, : groups * heads], turned_B_S_D[:, groups * heads :]
            parts = (torch.split(whole, counts) for whole in (query_B_S_D, key_B_G_D, value_B_G_D))
            heard = [state.attend(n, *part) for state, *part in zip(states, *parts, strict=True)]
            x_B_C = self._after(layer, x_B_C, torch.cat(heard) if len(heard) > 1 else heard[0])
        for state in states:
            state.width, state.position_B = state.width + 1, state.position_B + 1
        return self.head(self.last_norm(x_B_C))

    def _turns(self, x: torch.Tensor, position_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of the rotary positions, the first half of the sines negated: see `turned`."""
        cos, sin = self.rotary(x, position_N[None])
        low, high = sin[0, :, None].chunk(2, -1)
        return cos[0, :, None], torch.cat([-low, high], -1)

    def _mixed(self, layer: _Layer, x_N_C: torch.Tensor) -> torch.Tensor:
        """Queries, keys and values side by side, (N, G * H + G + G, D)."""
        mixed_N_S_D = layer.query_key_value(layer.norm(x_N_C)).view(len(x_N_C), -1, self.width)
        if not layer.head_norms:
            return mixed_N_S_D
        query, key, value = torch.split(mixed_N_S_D, [self.groups * self.heads, self.groups, self.groups], 1)
        norm_query, norm_key = layer.head_norms
        return torch.cat([norm_query(query), norm_key(key), value], 1)

    def _turned(
        self, mixed_N_S_D: torch.Tensor, cos_N_1_D: torch.Tensor, sin_N_1_D: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries and keys turned to their positions, (N, G * H + G, D), and values, (N, G, D)."""
        return self.turn(mixed_N_S_D[:, : -self.groups], cos_N_1_D, sin_N_1_D), mixed_N_S_D[:, -self.groups :]

    def _after(self, layer: _Layer, x_N_C: torch.Tensor, heard_N_C: torch.Tensor) -> torch.Tensor:
        """What follows attention in a layer."""
        x_N_C = layer.out(heard_N_C, x_N_C)
        return layer.mlp(layer.norm_after(x_N_C), x_N_C)
