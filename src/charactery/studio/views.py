"""What a page shows, as data for its templates."""

import math
import uuid
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from fastapi import Request

from charactery.conversations import Glimpse, Mark, Node
from charactery.conversations.votes import Tally
from charactery.errors import CharacteryError
from charactery.models.subject import parse_subject, without_strength
from charactery.share.markup import markup, markup_beside
from charactery.share.transcript import ENDED

STRONG = 2  # the end of the slider for strength; what is written after a Subject goes further
FOLD, LARGE = 8, 500  # branches at a fork that have a line each; lines from which on a tree is large
WIDEST = 0.5  # nats a token that the longest bar of a trait stands for, unless there are larger ones


def shell(request: Request) -> dict[str, Any]:
    """What every page needs: the key for what it changes, and the number of its stream of events."""
    return {"key": request.state.key, "page": str(uuid.uuid4())}


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
class HowView:
    """What the fields say by which the next answer is drawn."""

    subject: str
    strength: float = 1.0
    temperature: float = 0.7
    max_tokens: int = 256


def how_of(path: Sequence[Node], first: str, known: Collection[str]) -> HowView:
    """As the last answer of a path was drawn; where there is none, by the Subject `first`.

    An imported talk may name anybody: who is neither known nor at hand is not asked unless somebody writes the name.
    """
    node = next((node for node in reversed(path) if node.role == "assistant" and node.subject), None)
    if node is None:
        return HowView(first)
    name, strength = without_strength(node.subject)
    if name not in known and not _at_hand(name):
        return HowView(first)
    if not 0 <= strength <= STRONG or abs(20 * strength - round(20 * strength)) > 1e-9:  # where no slider goes
        name, strength = node.subject, 1.0
    drawn = {key: value for key, value in (node.sampler or {}).items() if isinstance(value, int | float)}
    temperature, longest = drawn.get("temperature", -1), drawn.get("max_tokens", 0)  # an imported file may say anything
    return HowView(
        name, strength, temperature if 0 <= temperature <= 5 else HowView.temperature,
        int(longest) if 1 <= longest <= 8192 else HowView.max_tokens,
    )  # fmt: skip


def _at_hand(name: str) -> bool:
    try:
        return parse_subject(name).at_hand
    except CharacteryError:
        return False


@dataclass(frozen=True)
class Column:
    """An answer beside others: under whose name, or which letter, and what it says, as HTML."""

    node: Node
    name: str
    ended: str
    html: str


@dataclass(frozen=True)
class Bar:
    """A tally as it is drawn: names, votes for the first and in all, and the interval in hundredths of the width."""

    first: str
    second: str
    won: int
    n: int
    neither: int
    share: float | None
    low: float
    high: float


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


@dataclass(frozen=True)
class Fold:
    """The branches beside the way, in one line: how many, and the turn they hang on (None: where talks begin)."""

    parent: str | None
    count: int


def tree_view(glimpses: Sequence[Glimpse], at: str | None, unfolded: str | None = "") -> list[Line | Fold]:
    """The way to `at`, and at each fork the branches beside it, each in a line; what follows them is counted.

    Many at one fork are folded, and in a large tree all are. Given `unfolded`, only the branches on that turn.
    """
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

    def beside(parent: str | None) -> list[Line]:
        return [Line(g, False, True, below[g.id]) for g in children.get(parent, []) if g.id not in way]

    if unfolded != "":
        return [*beside(unfolded)]
    forks: list[str | None] = [None]  # where the way comes by, and last where it ends
    while onward := next((g for g in children.get(forks[-1], []) if g.id in way), None):
        forks.append(onward.id)
    most = FOLD if sum(len(children.get(fork, [])) for fork in forks) <= LARGE else 1
    lines: list[Line | Fold] = []
    on_way = {glimpse.id: glimpse for glimpse in glimpses if glimpse.id in way}
    for fork, onward_id in zip(forks, [*forks[1:], None], strict=True):
        branches = beside(fork)
        folded = len(branches) > most and onward_id is not None  # at the end they are where one may go on
        lines += [Fold(fork, len(branches))] if folded else branches
        if onward_id is not None:
            lines.append(Line(on_way[onward_id], onward_id == at, False, below[onward_id]))
    return lines


@dataclass(frozen=True)
class Marked:
    """A turn that somebody marked: its first words, and what lies on it."""

    id: str
    begins: str
    bookmark: bool
    notes: tuple[str, ...]
    tags: tuple[str, ...]


def marked_view(marks: Sequence[Mark], glimpses: Sequence[Glimpse]) -> dict[str, Marked]:
    """The marked turns by their ids, in the order of the tree."""
    on: dict[str, list[Mark]] = {}
    for mark in marks:
        on.setdefault(mark.node, []).append(mark)

    def texts(id: str, kind: str) -> tuple[str, ...]:
        return tuple(mark.text for mark in on[id] if mark.kind == kind)

    return {
        glimpse.id: Marked(
            glimpse.id, shorten(glimpse.begins, 48, placeholder="…") or "(nothing)",
            bool(texts(glimpse.id, "bookmark")), texts(glimpse.id, "note"), texts(glimpse.id, "tag"),
        )
        for glimpse in glimpses if glimpse.id in on
    }  # fmt: skip


def column_views(nodes: Sequence[Node], compared: bool, blind: bool) -> list[Column]:
    """Answers side by side; `compared` with the words that differ marked, `blind` under letters in place of names."""
    texts = [node.text for node in nodes]
    htmls = markup_beside(texts) if compared and nodes else map(markup, texts)
    names = letters(len(nodes)) if blind else [node.subject or node.role for node in nodes]
    rows = zip(nodes, names, htmls, strict=True)
    return [Column(node, name, ENDED.get(node.ending, ""), html) for node, name, html in rows]


def excerpt(text: str, words: str, letters: int = 90) -> tuple[str, str, str]:
    """A piece of a text about where the words are, large or small: what is before them, they, and what follows."""
    places = [place for place, letter in enumerate(text) for _ in letter.casefold()]  # a letter may fold to two
    at = text.casefold().find(words.casefold())
    if at < 0:
        return "", "", text[:letters]
    start, end = places[at], places[at + len(words.casefold()) - 1] + 1
    begin = max(0, start - letters // 3)
    before, after = text[begin:start], text[end : end + letters]
    return f"{'…' if begin else ''}{before}", text[start:end], f"{after}{'…' if end + letters < len(text) else ''}"


def letters(n: int) -> list[str]:
    """The names of n columns that have none."""
    return [chr(ord("A") + k) for k in range(n)]


def bars(tallies: Sequence[Tally], among: Sequence[str] | None = None) -> list[Bar]:
    """Tallies to draw; only those between Subjects of these names, where they are given.

    Where one name stands for several weights, the hash tells them apart.
    """
    who = {subject for tally in tallies for subject in (tally.first, tally.second)}
    names = Counter(name for name, _ in who)
    shown = {(name, hash): name if names[name] == 1 else f"{name} ({hash[:8]})" for name, hash in who}
    told = []
    for tally in tallies:
        if among is not None and not {tally.first[0], tally.second[0]} <= set(among):
            continue
        share, one, other = tally.share, shown[tally.first], shown[tally.second]
        won, low, high = (share.value or 0) * share.n, share.low or 0, 1 if share.high is None else share.high
        told.append(Bar(one, other, round(won), share.n, share.missing, share.value, 100 * low, 100 * high))
    return told


@dataclass(frozen=True)
class TraitBar:
    """A trait in one answer: nats a token, None where the answer is empty, and its bar in hundredths of the width."""

    trait: str
    nats: float | None
    left: float
    width: float


def trait_bars(read: Sequence[tuple[str, Sequence[float]]]) -> list[list[TraitBar]]:
    """The traits of each answer on one scale with nought in the middle, of each trait's figures in all answers."""
    widest = max([WIDEST, *(abs(value) for _, values in read for value in values if not math.isnan(value))])

    def bar(trait: str, value: float) -> TraitBar:
        if math.isnan(value):
            return TraitBar(trait, None, 50, 0)
        width = 50 * abs(value) / widest
        return TraitBar(trait, value, 50 - width if value < 0 else 50, width)

    columns = zip(*(values for _, values in read), strict=True)
    return [[bar(trait, value) for (trait, _), value in zip(read, column, strict=True)] for column in columns]
