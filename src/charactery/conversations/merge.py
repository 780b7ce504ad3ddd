"""A tree put into the store: what is there already stays as it is, what differs becomes a turn beside it."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, insert, select

from charactery.conversations.schema import conversations, cursors, marks, nodes, texts, votes
from charactery.conversations.store import Store, storable, write_nodes
from charactery.conversations.tree import Node, Prompt, Tree, prompt_of
from charactery.runs import digest


@dataclass(frozen=True)
class Added:
    """Turns of a tree: the new, those there before, and how many of the new have another text under a known id."""

    new: int = 0
    known: int = 0
    edited: int = 0

    def __add__(self, other: "Added") -> "Added":
        return Added(self.new + other.new, self.known + other.known, self.edited + other.edited)


Said = tuple[str, str | None, str, str | None]  # conversation, parent, role, text (None: half an answer)


def put(store: Store, tree: Tree) -> Added:
    """Put a tree into the store, whole or not at all; the same tree again adds nothing."""
    with store.writing() as c:
        if c.execute(select(conversations.c.id).where(conversations.c.id == tree.id)).first() is None:
            c.execute(insert(conversations), {"id": tree.id, "title": storable(tree.title), "time": tree.time})
        new, added, moved = _new_nodes(c, tree)
        write_nodes(c, tree.id, new)
        _put_beside(c, tree, moved)
    return added


def _new_nodes(c: Connection, tree: Tree) -> tuple[list[Node], Added, dict[str, str]]:
    """The turns that are not there yet, and where those went whose ids mean something else here."""
    here, known = _said(c, [node.id for node in tree.nodes]), tree.by_id()
    moved: dict[str, str] = {}
    read: dict[str | None, str | None] = {None: None}  # the nearest turn with a prompt, down to each
    new, fresh, edited = [], set[str | None](), 0
    for node in tree.nodes:
        before = read[node.parent]
        read[node.id] = before if node.prompt is None else node.id
        parent = moved.get(node.parent, node.parent) if node.parent else None
        asked = (tree.id, parent, node.role, None if node.ending is None else node.text)
        if node.id in here and here[node.id] != asked:
            other = str(uuid.uuid5(uuid.UUID(node.id), digest([tree.id, parent, node.role, node.text])))
            here |= _said(c, [other])
            edited += other not in here
            moved[node.id] = other
        id = moved.get(node.id, node.id)
        if id in here:
            continue
        here[id] = asked
        fresh.add(node.id)
        prompt = node.prompt
        if prompt is not None and before not in fresh:  # the one before it may be another here
            prompt = Prompt(0, prompt_of(_path(node, known)) or "")
        new.append(replace(node, id=id, parent=parent, prompt=prompt))
    return new, Added(len(new), len(tree.nodes) - len(new), edited), moved


def _path(node: Node, known: dict[str, Node]) -> list[Node]:
    path = [node]
    while path[-1].parent:
        path.append(known[path[-1].parent])
    return path[::-1]


def _said(c: Connection, ids: list[str]) -> dict[str, Said]:
    out: dict[str, Said] = {}
    for start in range(0, len(ids), 500):
        wanted = (
            select(nodes.c.id, nodes.c.conversation, nodes.c.parent, nodes.c.role, texts.c.text)
            .outerjoin(texts, texts.c.node == nodes.c.id)
            .where(nodes.c.id.in_(ids[start : start + 500]))
        )
        out |= {row[0]: (row[1], row[2], row[3], row[4]) for row in c.execute(wanted)}
    return out


def _put_beside(c: Connection, tree: Tree, moved: dict[str, str]) -> None:
    """What is not there yet of marks, votes and cursors' names: where somebody stands here is left alone."""
    stood = set(c.execute(select(cursors.c.name).where(cursors.c.conversation == tree.id)).scalars())
    at = [
        {"conversation": tree.id, "name": storable(name), "node": moved.get(node, node)}
        for name, node in tree.cursors.items()
        if name not in stood
    ]
    wanted = [{**vars(m), "node": moved.get(m.node, m.node), "text": storable(m.text)} for m in tree.marks]
    kept = _marked(c, {row["node"] for row in wanted})
    new = [row for row in wanted if (row["node"], row["kind"], row["text"]) not in kept]
    voted = [
        {
            **vars(v),
            "conversation": tree.id,
            "first": moved.get(v.first, v.first),
            "second": moved.get(v.second, v.second),
        }
        for v in tree.votes
    ]
    counted = _voted(c, [row["id"] for row in voted])
    cast = [row for row in voted if row["id"] not in counted]
    for table, rows in ((cursors, at), (marks, new), (votes, cast)):
        if rows:
            c.execute(insert(table), rows)


def _marked(c: Connection, ids: Iterable[str]) -> set[tuple[str, str, str]]:
    out: set[tuple[str, str, str]] = set()
    wanted = sorted(ids)
    for start in range(0, len(wanted), 500):
        query = select(marks.c.node, marks.c.kind, marks.c.text).where(marks.c.node.in_(wanted[start : start + 500]))
        out |= {(row[0], row[1], row[2]) for row in c.execute(query)}
    return out


def _voted(c: Connection, ids: Sequence[str]) -> set[str]:
    out: set[str] = set()
    for start in range(0, len(ids), 500):
        out |= set(c.execute(select(votes.c.id).where(votes.c.id.in_(ids[start : start + 500]))).scalars())
    return out
