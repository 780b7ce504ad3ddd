"""What other programs' files have no place for travels along in them, under the key `charactery`, and comes back.

What it says of a turn counts only while the turn is as it was when the file was written: the facts of one that another
program changed, and of all that follow it, are left out.
"""

import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from charactery.conversations.schema import CHOICES, ENDINGS, KINDS, ROLES
from charactery.conversations.tree import Mark, Node, Prompt, Tree, Vote
from charactery.runs import Row, digest

KEY = "charactery"
LATEST = 60_000_000_000.0  # seconds; what is more is milliseconds, or nonsense
SPACE = uuid.UUID("5d0a1f0e-6f5b-4c1e-9a53-0b6f4b8f2f11")  # of ids made from other programs' ids


def own_id(raw: Any, *within: Any) -> str:
    """An id as it is, if it is a UUID; otherwise one made of it and what it is unique within."""
    try:
        return str(uuid.UUID(raw))
    except (ValueError, AttributeError, TypeError):
        return str(uuid.uuid5(SPACE, digest([str(raw), *map(str, within)])))


def text_of(value: Any, what: str) -> str:
    """A text, or ValueError saying what should be one."""
    if not isinstance(value, str):
        raise ValueError(f"{what} is {type(value).__name__}, and should be a text")
    return value


def moment(value: Any, otherwise: float = 0.0) -> float:
    """Seconds since 1970 of a number (of seconds or milliseconds) or of an ISO date; `otherwise` for anything else."""
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            return otherwise
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return otherwise
    at = value / 1000 if abs(value) > LATEST else float(value)
    return at if abs(at) < LATEST else otherwise


def iso(seconds: float) -> str:
    """A time as JavaScript writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# -- turns


def turn_row(node: Node) -> Row:
    """What is known of a turn beside its id, place, role and text; what is as usual is left out."""
    row: Row = {"time": node.time}
    if node.ending != "end":
        row["ending"] = node.ending
    row |= {key: getattr(node, key) for key in ("subject", "weights") if getattr(node, key)}
    row |= {key: getattr(node, key) for key in ("sampler", "seed") if getattr(node, key) is not None}
    if node.prompt is not None:
        row["prompt"] = {"kept": node.prompt.kept, "rest": node.prompt.rest}
    return row


def read_turn_row(node: Node, row: Row) -> Node:
    """A turn with what such a row says. Raises ValueError for what it cannot say."""
    seed, sampler, prompt, ending = row.get("seed"), row.get("sampler"), row.get("prompt"), row.get("ending", "end")
    if ending is not None and ending not in ENDINGS:
        raise ValueError(f"ending is {ending!r}, and can be {', '.join(ENDINGS)} or null")
    if node.role not in ROLES:
        raise ValueError(f"role is {node.role!r}, and can be {', '.join(ROLES)}")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or abs(seed) >= 2**63):
        raise ValueError(f"seed is {seed!r}, and should be a whole number of 63 bits")
    if sampler is not None and not isinstance(sampler, dict):
        raise ValueError("sampler should be an object in braces")
    if prompt is not None:
        kept = prompt["kept"]
        if isinstance(kept, bool) or not isinstance(kept, int) or not 0 <= kept < 2**31:
            raise ValueError("prompt has no number of letters `kept`")
        prompt = Prompt(kept, text_of(prompt["rest"], "rest of prompt"))
    return replace(
        node, time=seconds(row["time"]), ending=ending, subject=text_of(row.get("subject", ""), "subject"),
        weights=text_of(row.get("weights", ""), "weights"), prompt=prompt, sampler=sampler, seed=seed,
    )  # fmt: skip


def seconds(value: Any) -> float:
    """A time, or ValueError for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LATEST:
        raise ValueError(f"time is {value!r}, and should be a number of seconds since 1970")
    return float(value)


def turn_facts(node: Node) -> Row:
    """A turn's facts, with the mark by which an edit is seen."""
    return {"of": _seal(node), **turn_row(node)}


def _seal(node: Node) -> str:
    return digest([node.parent, node.role, node.text])


def with_facts(nodes: Iterable[Node], facts: dict[str, Any]) -> list[Node]:
    """Turns, parents first, with their facts by id where those still hold."""
    edited: set[str] = set()
    out = []
    for node in nodes:
        row = facts.get(node.id)
        if node.parent in edited or (isinstance(row, dict) and row.get("of") != _seal(node)):
            edited.add(node.id)
        out.append(read_turn_row(node, row) if isinstance(row, dict) and node.id not in edited else node)
    return out


# -- conversations


def tree_facts(tree: Tree) -> Row:
    """What lies beside a conversation's turns."""
    beside = {"marks": [vars(m) for m in tree.marks], "votes": [vars(v) for v in tree.votes]}
    return {"title": tree.title, "time": tree.time, "cursors": tree.cursors, **beside}


def with_tree_facts(tree: Tree, facts: Any) -> Tree:
    """A conversation with such facts; marks, votes and cursors on turns that are gone are left out."""
    if not isinstance(facts, dict):
        return tree
    known = tree.by_id()
    found = tuple(read_mark(row) for row in facts.get("marks", []))
    voted = tuple(read_vote(row) for row in facts.get("votes", []))
    return replace(
        tree, title=tree.title or text_of(facts.get("title", ""), "title"), time=seconds(facts.get("time", tree.time)),
        cursors={text_of(name, "cursor"): node for name, node in facts.get("cursors", {}).items() if node in known},
        marks=tuple(mark for mark in found if mark.node in known),
        votes=tuple(vote for vote in voted if vote.first in known and vote.second in known),
    )  # fmt: skip


def read_mark(row: Row) -> Mark:
    """A bookmark, note or tag. Raises ValueError for what is none."""
    if row["kind"] not in KINDS:
        raise ValueError(f"kind is {row['kind']!r}, and can be {', '.join(KINDS)}")
    return Mark(text_of(row["node"], "node"), row["kind"], text_of(row["text"], "text"), seconds(row["time"]))


def read_vote(row: Row) -> Vote:
    """A vote. Raises ValueError for what is none."""
    if row["choice"] not in CHOICES:
        raise ValueError(f"choice is {row['choice']!r}, and can be {', '.join(CHOICES)}")
    first, second = (text_of(row[key], key) for key in ("first", "second"))
    return Vote(own_id(row["id"], first, second), first, second, row["choice"], seconds(row["time"]))


# -- what formats have in common


def current_line(tree: Tree) -> list[Node]:
    """The turns to where the talk stands, and on from there by the newest answer each time."""
    newest = {node.parent: node.id for node in tree.nodes}
    here = tree.at()
    while here in newest:
        here = newest[here]
    return tree.path(here) if here else []


def lifted(tree: Tree) -> tuple[Node | None, list[Node]]:
    """The system message that everything follows, if there is one, and the turns after it, the first without parent."""
    roots = [node for node in tree.nodes if node.parent is None]
    if len(roots) != 1 or roots[0].role != "system" or not roots[0].text:
        return None, list(tree.nodes)
    top = roots[0]
    rest = [replace(n, parent=None) if n.parent == top.id else n for n in tree.nodes if n is not top]
    return top, rest


def system_facts(top: Node | None) -> Row:
    """The same message's own facts."""
    return {"system": {"id": top.id, **turn_facts(top)}} if top else {}


def lowered(text: Any, nodes: list[Node], facts: Any, conversation: str, time: float) -> tuple[list[Node], Row]:
    """A system message put back before all turns, and its facts by its id."""
    if not text:
        return nodes, {}
    kept = facts.get("system") if isinstance(facts, dict) else None
    id = own_id(kept.get("id") if isinstance(kept, dict) else "system", conversation)
    top = Node(id, None, "system", text_of(text, "system prompt"), time)
    return [top, *(n if n.parent else replace(n, parent=id) for n in nodes)], {id: kept}
