"""What a page shows, as data for its templates."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten

from charactery.conversations import Glimpse, Node

ENDED = {None: "half an answer", "stopped": "stopped", "length": "cut off", "error": "broken off"}


@dataclass(frozen=True)
class TurnView:
    """A turn on the page: which of its brothers it is, and the one before and after it."""

    node: Node
    ended: str
    place: int
    brothers: tuple[str, ...]

    @property
    def before(self) -> str | None:
        """The brother before it."""
        return self.brothers[self.place - 1] if self.place else None

    @property
    def after(self) -> str | None:
        """The brother after it."""
        return self.brothers[self.place + 1] if self.place + 1 < len(self.brothers) else None


@dataclass(frozen=True)
class Line:
    """A line of the tree: a turn on the way, or a branch beside it with how many turns hang on it."""

    glimpse: Glimpse
    here: bool
    branch: bool
    below: int

    @property
    def begins(self) -> str:
        """Its first words."""
        return shorten(self.glimpse.begins, 48, placeholder="…") or "(nothing)"


def path_view(path: Sequence[Node], glimpses: Sequence[Glimpse]) -> list[TurnView]:
    """The turns of a path, each among its brothers."""
    kin: dict[str | None, list[str]] = {}
    for glimpse in glimpses:
        kin.setdefault(glimpse.parent, []).append(glimpse.id)
    return [
        TurnView(node, ENDED.get(node.ending, ""), kin[node.parent].index(node.id), tuple(kin[node.parent]))
        for node in path
    ]


def tree_view(glimpses: Sequence[Glimpse], at: str | None) -> list[Line]:
    """The way to `at`, and at each fork the branches beside it, each in a line; what follows them is counted."""
    parents = {glimpse.id: glimpse.parent for glimpse in glimpses}
    below: Counter[str | None] = Counter()
    for glimpse in reversed(glimpses):  # children stand after their parents
        below[glimpse.parent] += 1 + below[glimpse.id]
    way: set[str | None] = set()
    here = at
    while here is not None:
        way.add(here)
        here = parents.get(here)
    children: dict[str | None, list[Glimpse]] = {}
    for glimpse in glimpses:
        children.setdefault(glimpse.parent, []).append(glimpse)
    lines: list[Line] = []
    parent: str | None = None
    while parent in children:
        onward = next((g for g in children[parent] if g.id in way), None)
        for glimpse in children[parent]:
            if glimpse is not onward:
                lines.append(Line(glimpse, False, True, below[glimpse.id]))
        if onward is None:
            break
        lines.append(Line(onward, onward.id == at, False, below[onward.id]))
        parent = onward.id
    return lines
