"""Charactery's own lines: one for a conversation, a turn, a mark or a vote, each by itself: a bad one costs little."""

from collections.abc import Iterator
from typing import Any

from charactery.conversations.formats.facts import read_mark, read_turn_row, read_vote, seconds, text_of, turn_row
from charactery.conversations.tree import Mark, Node, Tree, Vote
from charactery.runs import Row

TYPES = ("conversation", "turn", "mark", "vote")


def looks_like(value: Any) -> bool:
    """Whether a JSON value is one of our lines."""
    return isinstance(value, dict) and value.get("type") in TYPES and "id" in value


def write(tree: Tree) -> tuple[list[Row], int]:
    """The lines of a conversation, and how many of its turns they carry: all."""
    head: Row = {"type": "conversation", "id": tree.id, "title": tree.title, "time": tree.time, "cursors": tree.cursors}
    turns = [
        {"type": "turn", "id": tree.id, "turn": n.id, "parent": n.parent, "role": n.role, "text": n.text, **turn_row(n)}
        for n in tree.nodes
    ]
    marks = [
        {"type": "mark", "id": tree.id, "turn": m.node, "kind": m.kind, "text": m.text, "time": m.time}
        for m in tree.marks
    ]
    votes = [{**vars(v), "type": "vote", "id": tree.id, "vote": v.id} for v in tree.votes]
    return [head, *turns, *marks, *votes], len(tree.nodes)


class Reader:
    """Lines become trees. Each line that cannot be used is told to `fault` with the reason."""

    def __init__(self) -> None:
        self.heads: dict[str, Row] = {}
        self.turns: dict[str, dict[str, Node]] = {}
        self.marks: dict[str, list[Mark]] = {}
        self.votes: dict[str, list[Vote]] = {}

    def line(self, row: Row) -> None:
        """Take a line. Raises ValueError, KeyError or TypeError for one that cannot be used."""
        if not looks_like(row):
            raise ValueError(f"is no line of a conversation: its `type` is {row.get('type')!r}")
        id = text_of(row["id"], "id")
        if row["type"] == "conversation":
            cursors = {text_of(k, "cursor"): text_of(v, "cursor") for k, v in row.get("cursors", {}).items()}
            head = {"title": text_of(row["title"], "title"), "time": seconds(row["time"]), "cursors": cursors}
            self.heads[id] = head
            return
        turns = self.turns.setdefault(id, {})
        if row["type"] == "mark":
            found = read_mark({**row, "node": row["turn"]})
            if found.node not in turns:
                raise ValueError("is on a turn that is not in the file, or was set aside")
            self.marks.setdefault(id, []).append(found)
            return
        if row["type"] == "vote":
            voted = read_vote({**row, "id": row["vote"]})
            if not {voted.first, voted.second} <= turns.keys():
                raise ValueError("is on a turn that is not in the file, or was set aside")
            self.votes.setdefault(id, []).append(voted)
            return
        parent = row["parent"]
        if parent is not None and parent not in turns:
            raise ValueError("follows a turn that is not in the file, or was set aside")
        own = text_of(row["turn"], "turn")
        if own in turns:
            raise ValueError(f"is a second turn {own}")
        node = Node(own, parent, text_of(row["role"], "role"), text_of(row["text"], "text"), 0.0)
        turns[own] = read_turn_row(node, row)

    def trees(self) -> Iterator[Tree]:
        """What the lines held."""
        for id in dict.fromkeys([*self.heads, *self.turns]):
            nodes = self.turns.get(id, {})
            began = min((node.time for node in nodes.values()), default=0.0)
            head = self.heads.get(id, {"title": "", "time": began, "cursors": {}})
            cursors = {name: node for name, node in head["cursors"].items() if node in nodes}
            marks, votes = tuple(self.marks.get(id, [])), tuple(self.votes.get(id, []))
            yield Tree(id, head["title"], head["time"], tuple(nodes.values()), cursors, marks, votes)
