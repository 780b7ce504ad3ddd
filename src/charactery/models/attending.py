"""What rows have read and attend to: keys and values of their own, and those that they share, held once.

Axes: B rows, L tokens of a row, P tokens that rows share, K keys, G groups of heads that share keys, H heads of a
group, D width of a head. Where parts of the rows share other tokens: S parts, each with N places for its rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from charactery.models.gradients import causal
from charactery.models.lines import Lines

STRIDE = 16  # keys are read in multiples of it: the room for more is made by copying them
ONCE = 8  # places in what rows share that cost as much as one of a row's own
# torch's fused attention consists of a product a row and head, which matrix units alone do fast. Without them it takes
# ten times as long as products for single places in bfloat16, a third longer in float32, up to twice for whole rows
FUSES = torch.cpu._is_amx_tile_supported()
SHORT = 16  # places of a line below which it is the faster, even so, where there is something before them
COPIED = 1 << 22  # numbers that are copied at once from what is before: 8 MB in bfloat16
LONG = 1024  # places of a line up to which what is before it is attended to in one go with it


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
        attend = partial(fused, attn_mask=mask) if query.is_cpu and FUSES else partial(by_products, mask=mask)
        return attend(query[:, :, None], keys, values, shared).reshape(rows, -1)


def _hidden(length_B: torch.Tensor, places: int, dtype: torch.dtype) -> torch.Tensor:
    """What is added to scores, (B, 1, 1, K), so that nothing after these lengths is looked at."""
    hidden_B_K = torch.arange(places, device=length_B.device) >= length_B[:, None]
    return torch.zeros_like(hidden_B_K, dtype=dtype).masked_fill_(hidden_B_K, -math.inf)[:, None, None]


def pads(states: Sequence[State]) -> int:
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


def fused(
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


def by_products(
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


def mask_of(lines: Lines, before: Keys, dtype: torch.dtype, on_processor: bool) -> torch.Tensor | None:
    """What is added to the scores of lines, (L, P + L) or (B, 1, L, P + L), if it hides more than what lies ahead.

    On a processor there is none, either, where what is before is attended to by itself: where it is many places, which
    would be copied to every line, or lines are long, of which a mask is the square; nor without matrix units.
    """
    length, shared = lines.index_B_L.shape[1], before[0][0].shape[2] if before else 0
    by_itself = on_processor and (length <= shared or length > LONG or not FUSES)
    if lines.apart is None and (by_itself or not shared):
        return None
    ahead = torch.full((length, shared + length), -math.inf, dtype=dtype, device=lines.index_B_L.device)
    mask = ahead.triu_(shared + 1)
    if lines.apart is None:
        return mask
    return mask.masked_fill(functional.pad(lines.apart, (shared, 0)), -math.inf)


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None,
    before: tuple[torch.Tensor, torch.Tensor] | None, on_processor: bool,
) -> torch.Tensor:  # fmt: skip
    """Causal attention of lines, (B, G * H, L, D), with the mask of `mask_of`.

    What pads a row comes after its tokens, so none of them looks at it.
    """
    if on_processor and mask is None:
        if not FUSES and (not before or query.shape[2] >= SHORT):
            # what is before is copied to every row, so of a few rows at a time
            few = max(1, COPIED // before[0][0].numel()) if before else max(1, len(query))
            some = zip(*(torch.split(t, few) for t in (query, key, value)), strict=True)
            parts = [causal(q, k, v, before or ())[0] for q, k, v in some]
            return parts[0] if len(parts) == 1 else torch.cat(parts)
        return fused(query, key, value, Shared(*before) if before else None, is_causal=True)
    if before:
        key, value = (
            torch.cat([old.expand(len(new), -1, -1, -1), new], 2) for old, new in zip(before, (key, value), strict=True)
        )
    if on_processor:
        return fused(query, key, value, None, attn_mask=mask)
    groups, heads = key.shape[1], query.shape[1] // key.shape[1]
    if mask is None:
        return functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=heads > 1)
    # no fast code knows both of masks and of heads that share keys: here such heads are further places of one head
    places = query.reshape(len(query), groups, -1, query.shape[-1])
    mask = torch.cat([mask] * heads, -2)
    return functional.scaled_dot_product_attention(places, key, value, mask).reshape(query.shape)
