"""A conversation as data: the tree of turns, with what lies beside it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from charactery.runs import Row


@dataclass(frozen=True)
class Prompt:
    """The exact text a model read: the first `kept` letters of the prompt of the nearest turn before that has one, and
    `rest`. So a conversation of many turns takes as much room as its text, and not its square."""

    kept: int
    rest: str


@dataclass(frozen=True)
class Node:
    """One turn. `ending` is end, length (cut off), stopped (by a person), error, or None: half an answer.

    `subject` is what answered, `weights` the hash of exactly what; `sampler` and `seed` are how it was drawn. `time` is
    in seconds since 1970.
    """

    id: str
    parent: str | None
    role: str
    text: str
    time: float
    ending: str | None = "end"
    subject: str = ""
    weights: str = ""
    prompt: Prompt | None = None
    sampler: Row | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Mark:
    """A bookmark, note or tag on a turn."""

    node: str
    kind: str
    text: str
    time: float


@dataclass(frozen=True)
class Vote:
    """Which of two answers to the same turn somebody preferred, not knowing whose they were: `choice` is first, second
    or neither. `id` is a UUID."""

    id: str
    first: str
    second: str
    choice: str
    time: float


@dataclass(frozen=True)
class Tree:
    """A conversation. `nodes` stand in the order they were written, so a parent before its children."""

    id: str
    title: str
    time: float
    nodes: tuple[Node, ...]
    cursors: dict[str, str] = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()
    votes: tuple[Vote, ...] = ()

    def by_id(self) -> dict[str, Node]:
        """Its turns by their ids."""
        return {node.id: node for node in self.nodes}

    def path(self, node: str) -> list[Node]:
        """The turns from the first to `node`."""
        return path_to(node, self.by_id())

    def at(self) -> str | None:
        """Where the talk stands: the cursor `main`, or the last turn."""
        return self.cursors.get("main") or (self.nodes[-1].id if self.nodes else None)


def path_to(node: str, known: dict[str, Node]) -> list[Node]:
    """The turns from the first to `node`, out of those that are `known`."""
    path, here = [], known.get(node)
    while here is not None:
        path.append(here)
        here = known.get(here.parent) if here.parent else None
    return path[::-1]


def prompt_of(path: Sequence[Node]) -> str | None:
    """The exact text that was read for the last turn of a path from its beginning, or None where none is kept."""
    return last_prompt(path) if path and path[-1].prompt is not None else None


def last_prompt(path: Sequence[Node]) -> str:
    """The exact text that was read last on a path from its beginning, "" where none is kept."""
    text = ""
    for prompt in (node.prompt for node in path if node.prompt is not None):
        text = text[: prompt.kept] + prompt.rest
    return text


def shortened(prompt: str, before: str) -> Prompt:
    """A prompt as kept after one that was `before`."""
    kept, most = 0, min(len(prompt), len(before))
    while kept < most and prompt[kept : kept + 512] == before[kept : kept + 512]:
        kept += 512
    kept = min(kept, most)
    while kept < most and prompt[kept] == before[kept]:
        kept += 1
    return Prompt(kept, prompt[kept:])


def parents_first(nodes: Iterable[Node]) -> list[Node]:
    """Nodes in their order, a child that stands before its parent moved behind it. Raises ValueError for a ring or an
    unknown parent, saying which."""
    nodes = list(nodes)
    known, placed, out = {node.id for node in nodes}, set(), []
    waiting: dict[str, list[Node]] = {}
    for node in nodes:
        if node.parent is not None and node.parent not in known:
            raise ValueError(f"the turn {node.id} follows one that is not there ({node.parent})")
        if node.parent is not None and node.parent not in placed:
            waiting.setdefault(node.parent, []).append(node)
            continue
        ready = [node]
        while ready:
            one = ready.pop()
            placed.add(one.id)
            out.append(one)
            ready += reversed(waiting.pop(one.id, []))
    if waiting:
        raise ValueError(f"the turns after {next(iter(waiting))} follow each other in a ring")
    return out


def without_role(nodes: Sequence[Node], roles: Iterable[str]) -> tuple[list[Node], int]:
    """Nodes less those of some roles, whose children hang on what was before them; and how many those were."""
    gone: dict[str, str | None] = {}
    out = []
    for node in nodes:
        parent = gone.get(node.parent, node.parent) if node.parent else None
        if node.role in roles:
            gone[node.id] = parent
        else:
            out.append(replace(node, parent=parent))
    return out, len(gone)


def as_messages(path: Sequence[Node]) -> list[Any]:
    """A path as messages to answer: role and content. What tools said is not for the model to read again."""
    return [{"role": node.role, "content": node.text} for node in path if node.role != "tool"]
