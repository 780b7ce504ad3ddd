"""The store of everything said. Nothing in it is rewritten: an edit, or another answer, is a turn beside the old one.

A path never leaves its conversation, so what reaches a model in one is that conversation's own turns and no others'.
"""

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, literal, select, update

from charactery.conversations.database import PRIVATE, default_place, open_engine, reading, shown, writing
from charactery.conversations.schema import conversations, cursors, marks, nodes, pieces, texts, votes
from charactery.conversations.tree import Mark, Node, Prompt, Tree, Vote, last_prompt, prompt_of, shortened
from charactery.errors import BadData, CharacteryError

FLUSH = 0.2  # seconds between two writings of an answer under way


@dataclass(frozen=True)
class Summary:
    """A conversation in a line: `begins` is the first thing a person said in it, `time` that of the last turn."""

    id: str
    title: str
    begins: str
    turns: int
    time: float


@dataclass(frozen=True)
class Glimpse:
    """A turn as a tree shows it: its first letters alone."""

    id: str
    parent: str | None
    role: str
    subject: str
    ending: str | None
    begins: str


class Store:
    """Conversations in one place. Open it with `open_store`; safe in threads, and beside other processes."""

    def __init__(self, place: str) -> None:
        self.place = shown(place)
        self.engine = open_engine(place)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes."""
        with writing(self.engine, self.place) as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that reads."""
        with reading(self.engine, self.place) as connection:
            yield connection

    def close(self) -> None:
        """Let go of the database. A private store is gone with it."""
        self.engine.dispose()

    # -- writing

    def begin(self, title: str = "") -> str:
        """A new conversation; returns its id."""
        id = str(uuid.uuid4())
        with self.writing() as c:
            c.execute(insert(conversations), {"id": id, "title": storable(title), "time": time.time()})
        return id

    def knows(self, conversation: str) -> bool:
        """Whether there is such a conversation."""
        with self.reading() as c:
            wanted = select(conversations.c.id).where(conversations.c.id == conversation)
            return c.execute(wanted).first() is not None

    def title(self, conversation: str) -> str:
        """A conversation's title, "" where it has none."""
        with self.reading() as c:
            wanted = select(conversations.c.title).where(conversations.c.id == conversation)
            return c.execute(wanted).scalar() or ""

    def rename(self, conversation: str, title: str) -> None:
        """Give a conversation another title."""
        with self.writing() as c:
            c.execute(update(conversations).where(conversations.c.id == conversation).values(title=storable(title)))

    def add(self, conversation: str, parent: str | None, role: str, text: str) -> Node:
        """A whole turn after `parent`, or a first one for None."""
        node = Node(str(uuid.uuid4()), parent, role, text, time.time())
        with self.writing() as c:
            write_nodes(c, conversation, [node])
        return node

    def turn(
        self,
        conversation: str,
        parent: str | None,
        *,
        subject: str,
        weights: str = "",
        prompt: str | None = None,
        sampler: dict[str, Any] | None = None,
        seed: int | None = None,
        id: str | None = None,
    ) -> "Turn":
        """An answer to be given after `parent`. It is there from its first letter on, and half until it is finished.

        `id` is a UUID of its own, for who has to know it before.
        """
        before = last_prompt(self.path(parent)) if parent and prompt is not None else ""
        kept = None if prompt is None else shortened(prompt, before)
        id = id or str(uuid.uuid4())
        node = Node(id, parent, "assistant", "", time.time(), None, subject, weights, kept, sampler, seed)
        return Turn(self, conversation, node)

    # -- reading

    def summaries(self, most: int | None = None) -> list[Summary]:
        """The conversations, the one spoken in last first."""
        counted = (
            select(
                nodes.c.conversation, func.count().label("turns"), func.max(nodes.c.time).label("last"),
                func.min(nodes.c.number).filter(nodes.c.role == "user").label("first"),
            ).group_by(nodes.c.conversation).subquery()
        )  # fmt: skip
        first = nodes.alias()
        last = func.coalesce(counted.c.last, conversations.c.time)
        wanted = (
            select(conversations.c.id, conversations.c.title, func.substr(texts.c.text, 1, 200), counted.c.turns, last)
            .outerjoin(counted, counted.c.conversation == conversations.c.id)
            .outerjoin(first, first.c.number == counted.c.first)
            .outerjoin(texts, texts.c.node == first.c.id)
            .order_by(last.desc(), conversations.c.number.desc())
            .limit(most)
        )
        with self.reading() as c:
            rows = c.execute(wanted).all()
        return [Summary(id, title, begins or "", turns or 0, at) for id, title, begins, turns, at in rows]

    def find(self, start: str) -> tuple[str, str | None]:
        """The conversation, and the turn if it is a turn's, whose id begins so. CharacteryError for none or several."""
        with self.reading() as c:
            like = {table: table.c.id.startswith(start, autoescape=True) for table in (conversations, nodes)}
            whole = c.execute(select(conversations.c.id).where(like[conversations]).limit(2)).scalars().all()
            turns = c.execute(select(nodes.c.conversation, nodes.c.id).where(like[nodes]).limit(2)).all()
        found = [*((id, None) for id in whole), *((row[0], row[1]) for row in turns)]
        if len(found) != 1 or not start:
            what = "more than one conversation or turn begins" if len(found) > 1 else "no conversation or turn begins"
            raise CharacteryError(f"{what} with {start!r}; `charactery conversations list` shows them", self.place)
        return found[0]

    def node(self, id: str) -> Node:
        """A turn. Raises CharacteryError where there is none of that id."""
        found = self._nodes(_turns().where(nodes.c.id == id))
        if not found:
            raise CharacteryError(f"has no turn {id!r}", self.place)
        return found[0]

    def conversation_of(self, node: str) -> str | None:
        """The conversation a turn is in."""
        with self.reading() as c:
            return c.execute(select(nodes.c.conversation).where(nodes.c.id == node)).scalar()

    def path(self, node: str) -> list[Node]:
        """The turns from the first to `node`."""
        up = select(nodes.c.id, nodes.c.parent, literal(0).label("steps")).where(nodes.c.id == node).cte(recursive=True)
        up = up.union_all(select(nodes.c.id, nodes.c.parent, up.c.steps + 1).join(up, nodes.c.id == up.c.parent))
        return self._nodes(_turns().join(up, up.c.id == nodes.c.id).order_by(up.c.steps.desc()))

    def children(self, conversation: str, node: str | None) -> list[Node]:
        """The turns that follow `node`, in the order they were written; the first ones for None."""
        wanted = _turns().where(nodes.c.conversation == conversation, nodes.c.parent == node)
        return self._nodes(wanted.order_by(nodes.c.number))

    def prompt(self, node: str) -> str | None:
        """The exact text that was read for an answer, or None where none is kept."""
        return prompt_of(self.path(node))

    def glimpses(self, conversation: str, letters: int = 80) -> list[Glimpse]:
        """Every turn's first letters, a parent before its children."""
        wanted = (
            select(nodes.c.id, nodes.c.parent, nodes.c.role, nodes.c.subject, texts.c.ending,
                   func.substr(texts.c.text, 1, letters))
            .outerjoin(texts, texts.c.node == nodes.c.id)
            .where(nodes.c.conversation == conversation)
            .order_by(nodes.c.number)
        )  # fmt: skip
        with self.reading() as c:
            rows = c.execute(wanted).all()
            halves = _halves(c, [row[0] for row in rows if row[4] is None])
        return [Glimpse(*row[:5], halves.get(row[0], "")[:letters] if row[4] is None else row[5]) for row in rows]

    def tree(self, conversation: str) -> Tree:
        """A whole conversation. Raises CharacteryError where there is none of that id."""
        with self.reading() as c:
            found = c.execute(select(conversations).where(conversations.c.id == conversation)).one_or_none()
            if found is None:
                raise CharacteryError(f"has no conversation {conversation!r}", self.place)
            turns = _read(c, _turns().where(nodes.c.conversation == conversation).order_by(nodes.c.number))
            at = c.execute(select(cursors.c.name, cursors.c.node).where(cursors.c.conversation == conversation))
            beside = c.execute(
                select(marks.c.node, marks.c.kind, marks.c.text, marks.c.time)
                .join(nodes, nodes.c.id == marks.c.node)
                .where(nodes.c.conversation == conversation)
                .order_by(marks.c.number)
            )
            voted = c.execute(
                select(votes.c.id, votes.c.first, votes.c.second, votes.c.choice, votes.c.time)
                .where(votes.c.conversation == conversation)
                .order_by(votes.c.number)
            )
            return Tree(
                found.id, found.title, found.time, tuple(turns), dict(map(tuple, at)),
                tuple(Mark(*row) for row in beside), tuple(Vote(*row) for row in voted),
            )  # fmt: skip

    def _nodes(self, wanted: Select[Any]) -> list[Node]:
        with self.reading() as c:
            return _read(c, wanted)


class Turn:
    """An answer under way. Killed at any moment, what was said of it is in the store, marked as half."""

    def __init__(self, store: Store, conversation: str, node: Node) -> None:
        self.store, self.conversation, self.node = store, conversation, node
        self._begun, self._waiting, self._written = False, "", 0.0

    def say(self, text: str) -> None:
        """More of it. Letters that come close together are written together."""
        self._waiting += text
        if self._waiting and time.monotonic() - self._written >= FLUSH:
            with self.store.writing() as c:
                if not self._begun:
                    write_nodes(c, self.conversation, [self.node])
                c.execute(insert(pieces), {"node": self.node.id, "text": self._waiting})
            self._begun, self._waiting, self._written = True, "", time.monotonic()

    def finish(self, text: str, ending: str) -> Node:
        """The whole of it, and how it ended. What `say` was told is replaced."""
        whole = replace(self.node, text=text, ending=ending)
        with self.store.writing() as c:
            if self._begun:
                c.execute(insert(texts), {"node": whole.id, "text": storable(text), "ending": ending})
                c.execute(delete(pieces).where(pieces.c.node == whole.id))
            else:
                write_nodes(c, self.conversation, [whole])
        self._begun = True
        return whole


def open_store(place: Path | str | None = None) -> Store:
    """The store at a path or a postgresql:// address; by default CHARACTERY_CONVERSATIONS, else the user's own file."""
    return Store(str(place) if place is not None else default_place())


def private_store() -> Store:
    """A store in memory, which leaves nothing behind."""
    return Store(PRIVATE)


def storable(text: str) -> str:
    """The text, if every database can hold it. Raises BadData for a NUL, or half of a surrogate pair."""
    if "\0" in text:
        raise BadData("holds a NUL character, which no text should")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadData(f"holds half a character (a lone surrogate, at letter {error.start + 1})") from None
    return text


def write_nodes(c: Connection, conversation: str, turns: Iterable[Node]) -> None:
    """Write turns, parents first, in the caller's transaction."""
    headers, whole, halves = [], [], []
    for node in turns:
        headers.append({
            "id": node.id, "conversation": conversation, "parent": node.parent, "role": node.role, "time": node.time,
            "subject": storable(node.subject), "weights": storable(node.weights),
            "prompt_kept": node.prompt and node.prompt.kept,
            "prompt_rest": node.prompt and storable(node.prompt.rest),
            "sampler": None if node.sampler is None else json.dumps(node.sampler), "seed": node.seed,
        })  # fmt: skip
        if node.ending is not None:
            whole.append({"node": node.id, "text": storable(node.text), "ending": node.ending})
        elif node.text:
            halves.append({"node": node.id, "text": storable(node.text)})
    for table, rows in ((nodes, headers), (texts, whole), (pieces, halves)):
        if rows:
            c.execute(insert(table), rows)


def _turns() -> Select[Any]:
    return select(nodes, texts.c.text, texts.c.ending).outerjoin(texts, texts.c.node == nodes.c.id)


def _read(c: Connection, wanted: Select[Any]) -> list[Node]:
    rows = c.execute(wanted).all()
    halves = _halves(c, [row.id for row in rows if row.ending is None])
    return [
        Node(
            row.id, row.parent, row.role, halves.get(row.id, "") if row.ending is None else row.text, row.time,
            row.ending, row.subject, row.weights,
            None if row.prompt_kept is None else Prompt(row.prompt_kept, row.prompt_rest),
            None if row.sampler is None else json.loads(row.sampler), row.seed,
        )
        for row in rows
    ]  # fmt: skip


def _halves(c: Connection, ids: Sequence[str]) -> dict[str, str]:
    """What there is of answers that are not whole."""
    out: dict[str, str] = {}
    for start in range(0, len(ids), 500):
        wanted = select(pieces.c.node, pieces.c.text).where(pieces.c.node.in_(ids[start : start + 500]))
        for node, text in c.execute(wanted.order_by(pieces.c.number)):
            out[node] = out.get(node, "") + text
    return out
