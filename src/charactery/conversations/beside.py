"""What lies beside the tree and may change: where one stands, bookmarks, notes and tags; and search."""

import time
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, func, insert, select

from charactery.conversations.schema import KINDS, conversations, cursors, marks, nodes, texts
from charactery.conversations.store import Store, storable
from charactery.conversations.tree import Mark
from charactery.errors import CharacteryError


@dataclass(frozen=True)
class Found:
    """A turn that holds what was looked for; `text` is the turn's, or the note's on it."""

    conversation: str
    title: str
    node: str
    role: str
    text: str
    time: float


def set_cursor(store: Store, conversation: str, node: str, name: str = "main") -> None:
    """Stand at a turn."""
    with store.writing() as c:
        c.execute(delete(cursors).where(cursors.c.conversation == conversation, cursors.c.name == name))
        c.execute(insert(cursors), {"conversation": conversation, "name": name, "node": node})


def cursor(store: Store, conversation: str, name: str = "main") -> str | None:
    """The turn at which one stands; the last turn where nothing was said of it, None where there is none."""
    with store.reading() as c:
        here = select(cursors.c.node).where(cursors.c.conversation == conversation, cursors.c.name == name)
        last = select(nodes.c.id).where(nodes.c.conversation == conversation).order_by(nodes.c.number.desc()).limit(1)
        return c.execute(here).scalar() or c.execute(last).scalar()


def mark(store: Store, node: str, kind: str, text: str = "") -> None:
    """Put a bookmark, note or tag on a turn; the same one twice is one."""
    if kind not in KINDS:
        raise CharacteryError(f"there are {', '.join(KINDS)}, and no {kind!r}")
    with store.writing() as c:
        same = (marks.c.node == node, marks.c.kind == kind, marks.c.text == text)
        if c.execute(select(marks.c.number).where(*same)).first() is None:
            c.execute(insert(marks), {"node": node, "kind": kind, "text": storable(text), "time": time.time()})


def unmark(store: Store, node: str, kind: str, text: str = "") -> None:
    """Take a bookmark, note or tag off a turn."""
    with store.writing() as c:
        c.execute(delete(marks).where(marks.c.node == node, marks.c.kind == kind, marks.c.text == text))


def marks_of(store: Store, conversation: str) -> list[Mark]:
    """The bookmarks, notes and tags on a conversation's turns, the oldest first."""
    wanted = select(marks.c.node, marks.c.kind, marks.c.text, marks.c.time).join(nodes, nodes.c.id == marks.c.node)
    with store.reading() as c:
        rows = c.execute(wanted.where(nodes.c.conversation == conversation).order_by(marks.c.number)).all()
    return [Mark(*row) for row in rows]


def search(store: Store, words: str, conversation: str | None = None, most: int = 50) -> list[Found]:
    """The turns whose text, or a note or tag on them, holds the words as they stand, large or small letters alike.

    The newest first, at most `most`. Half answers are not looked through.
    """
    fold = func.folded if store.engine.dialect.name == "sqlite" else func.lower
    wanted = words.casefold() if store.engine.dialect.name == "sqlite" else words.lower()

    def holds(column: ColumnElement[str]) -> ColumnElement[bool]:
        return fold(column).contains(wanted, autoescape=True)

    columns = (nodes.c.conversation, conversations.c.title, nodes.c.id, nodes.c.role)
    said = select(*columns, texts.c.text, nodes.c.time).join(texts, texts.c.node == nodes.c.id)
    noted = select(*columns, marks.c.text, marks.c.time).join(marks, marks.c.node == nodes.c.id)
    found: list[Found] = []
    with store.reading() as c:
        for query, text, at in ((said, texts.c.text, nodes.c.time), (noted, marks.c.text, marks.c.time)):
            query = query.join(conversations, conversations.c.id == nodes.c.conversation).where(holds(text))
            if conversation is not None:
                query = query.where(nodes.c.conversation == conversation)
            found += [Found(*row) for row in c.execute(query.order_by(at.desc()).limit(most))]
    return sorted(found, key=lambda one: -one.time)[:most]
