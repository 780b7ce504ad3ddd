"""A batch of rows as its distinct tokens, and the lines in which they are attended to.

Axes: B lines, L tokens of a line, N distinct tokens of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

LOOKS = 10_000  # pairs of places, one looking at the other in vain, that cost less than one more group of lines


@dataclass
class Lines:
    """Lines that are attended to together, as long as the longest of them."""

    index_B_L: torch.Tensor  # where their tokens are; nought behind a line's end
    apart: torch.Tensor | None  # (B, 1, L, L), true where a place does not look at one before it


class Batch:
    """Rows of tokens as their distinct tokens, those with the same past being one, and where each row has them.

    What is attended to together is a line: a row, or, where it `folds`, several that part near their ends (options to a
    question), the end of each after that of the one before, which it does not look at. Where it `splits`, lines of
    other lengths are attended to apart; else all together, in their order.
    """

    def __init__(
        self, rows: Sequence[Sequence[int]], before: int, device: Any, splits: bool = False, folds: bool = False
    ) -> None:
        found: dict[tuple[int, int], int] = {}  # (the token before in its row, itself) to its place
        token: list[int] = []
        position: list[int] = []
        self.places: list[list[int]] = []
        for row in rows:
            places, last = [], -1
            for n, one in enumerate(row):
                place = found.setdefault((last, one), len(token))
                if place == len(token):
                    token.append(one)
                    position.append(before + n)
                places.append(place)
                last = place
            self.places.append(places)

        def tensor(values: Any) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.long, device=device)

        every = _folded(self.places) if folds else [[(0, places)] for places in self.places]
        laid = [[place for start, places in line for place in places[start:]] for line in every]
        self.lines: list[Lines] = []
        self.slices: list[slice] = []  # of all lines one after the other, M places, where those of each are
        first: dict[int, int] = {}  # of each place, the first time that a line has it
        again: list[tuple[int, int]] = []  # the other times, and the place
        end = 0
        for some in _alike([*map(len, laid)], before) if splits else [[*range(len(laid))]]:
            width, start = max(len(laid[r]) for r in some), end
            for r in some:
                for n, place in enumerate(laid[r], end):
                    if first.setdefault(place, n) != n:
                        again.append((n, place))
                end += width
            self.slices.append(slice(start, end))
            index_B_L = tensor([laid[r] + [0] * (width - len(laid[r])) for r in some])
            self.lines.append(Lines(index_B_L, _apart([every[r] for r in some], width, device)))
        self.token_N, self.position_N = tensor(token), tensor(position)
        self.first_N = tensor([first[place] for place in range(len(token))])
        self.again_A, self.again_place_A = (tensor([pair[n] for pair in again]) for n in range(2))
        # nothing is shared and nothing padded, and lines are together and in the tokens' order
        self.whole = len(self.lines) == 1 and end == len(token) and [p for line in laid for p in line] == [*range(end)]

    def spread(self, values_N: torch.Tensor, lines: Lines) -> torch.Tensor:
        """From distinct tokens to lines."""
        if not self.whole:
            values_N = values_N.index_select(0, lines.index_B_L.flatten())
        return values_N.view(*lines.index_B_L.shape, *values_N.shape[1:])

    def gather(self, values: Sequence[torch.Tensor], wanted: torch.Tensor | None = None) -> torch.Tensor:
        """From all lines, a tensor (B, L, …) for each of `lines`, back to distinct tokens, or to those wanted."""
        flat = [values_B_L.flatten(0, 1) for values_B_L in values]
        flat_N = flat[0] if len(flat) == 1 else torch.cat(flat)
        if wanted is not None:
            return flat_N.index_select(0, self.first_N[wanted])
        return flat_N if self.whole else flat_N.index_select(0, self.first_N)

    def spread_back(self, values_M: torch.Tensor) -> torch.Tensor:
        """The way back of all lines' `spread`: of what several of them have, the sum."""
        if self.whole:
            return values_M
        values_N = values_M.index_select(0, self.first_N)
        if len(self.again_A):
            values_N.index_add_(0, self.again_place_A, values_M.index_select(0, self.again_A))
        return values_N

    def gather_back(self, values_N: torch.Tensor, wanted: torch.Tensor | None = None) -> torch.Tensor:
        """The way back of `gather`: noughts at what was not taken."""
        if self.whole and wanted is None:
            return values_N
        values_M = values_N.new_zeros(self.slices[-1].stop, *values_N.shape[1:])
        return values_M.index_copy_(0, self.first_N if wanted is None else self.first_N[wanted], values_N)


def _alike(lengths: Sequence[int], before: int) -> list[list[int]]:
    """Lines by their number in groups of about one length: in each, little is attended to that is no token."""
    groups: list[list[int]] = []
    looks = 0  # of the last group's lines, at what is there
    for n in sorted(range(len(lengths)), key=lambda n: lengths[n]):
        mine = lengths[n] * (before + lengths[n])
        if not groups or len(groups[-1]) * mine - looks > LOOKS:
            groups.append([])
            looks = 0
        groups[-1].append(n)
        looks += mine
    return groups


def _apart(lines: Sequence[list[tuple[int, list[int]]]], width: int, device: Any) -> torch.Tensor | None:
    """See `Lines`; None where each of them is one row."""
    if all(len(line) == 1 for line in lines):
        return None
    apart = torch.zeros(len(lines), 1, width, width, dtype=torch.bool)
    for r, line in enumerate(lines):
        end = len(line[0][1])
        for start, places in line[1:]:
            tail = len(places) - start
            apart[r, 0, end : end + tail, start:end] = True
            end += tail
    return apart.to(device)


def _folded(rows: list[list[int]]) -> list[list[tuple[int, list[int]]]]:
    """Rows of places in lines: the whole of a first row, then others from where they part from it.

    A row goes into the line of the one before it, in order, where attending to the line is less than to both.
    """
    lines: list[list[tuple[int, list[int]]]] = []
    length = 0
    for row in sorted(rows):
        if lines:
            first = lines[-1][0][1]
            start = next((n for n, (a, b) in enumerate(zip(first, row, strict=False)) if a != b), len(first))
            if start < len(row) and (length + len(row) - start) ** 2 <= length**2 + len(row) ** 2:
                lines[-1].append((start, row))
                length += len(row) - start
                continue
        lines.append([(0, row)])
        length = len(row)
    return lines
