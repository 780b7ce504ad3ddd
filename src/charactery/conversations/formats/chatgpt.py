"""ChatGPT's data export, `conversations.json`: a list of conversations, each a `mapping` of turns by id."""

from typing import Any

from charactery.conversations.formats.facts import (
    KEY,
    current_line,
    moment,
    own_id,
    text_of,
    tree_facts,
    turn_facts,
    with_facts,
    with_tree_facts,
)
from charactery.conversations.schema import ROLES
from charactery.conversations.tree import Node, Tree, parents_first
from charactery.runs import Row

HIDDEN = frozenset(("user_editable_context", "model_editable_context", "thoughts", "reasoning_recap"))


def looks_like(value: Any) -> bool:
    """Whether a JSON value is such a conversation."""
    return isinstance(value, dict) and "mapping" in value


def read(value: Row) -> Tree:
    """One conversation. Turns that the program does not show (its own notes, empty ones) are passed over."""
    raw = value.get("conversation_id") or value.get("id") or [value.get("title"), value.get("create_time")]
    id = own_id(raw, "chatgpt")
    began = moment(value.get("create_time"))
    places = value["mapping"]
    if not isinstance(places, dict):
        raise ValueError("mapping should be an object in braces")
    shown = {key: text for key, place in places.items() if (text := _shown(place.get("message"))) is not None}
    nodes, facts = [], {}
    for key in _in_order(places):
        if key not in shown:
            continue
        message, own = places[key]["message"], own_id(key, id)
        parent = _parent(places, shown, places[key].get("parent"))
        made_by = (message.get("metadata") or {}).get("model_slug")
        nodes.append(Node(
            own, own_id(parent, id) if parent is not None else None, message["author"]["role"], shown[key],
            moment(message.get("create_time"), began), None if message.get("status") == "in_progress" else "end",
            text_of(made_by or "", "model_slug"),
        ))  # fmt: skip
        facts[own] = (message.get("metadata") or {}).get(KEY)
    turns = with_facts(parents_first(nodes), facts)
    here = _parent(places, shown, value.get("current_node"))
    cursors = {"main": own_id(here, id)} if here is not None and KEY not in value else {}
    tree = Tree(id, text_of(value.get("title") or "", "title"), began, tuple(turns), cursors)
    return with_tree_facts(tree, value.get(KEY))


def _in_order(places: Row) -> list[str]:
    """The ids as they stand, brothers in the order their parent has them in."""
    rank = {child: n for place in places.values() for n, child in enumerate(place.get("children") or [])}
    order = list(places)
    spots: dict[Any, list[int]] = {}
    for n, key in enumerate(order):
        spots.setdefault(places[key].get("parent"), []).append(n)
    for mine in spots.values():
        for n, key in zip(mine, sorted((order[n] for n in mine), key=lambda key: rank.get(key, 0)), strict=True):
            order[n] = key
    return order


def _parent(places: Row, shown: dict[str, str], key: Any) -> str | None:
    """The nearest turn at or above `key` that is shown. Raises ValueError for a ring."""
    steps = 0
    while key is not None and key not in shown:
        steps += 1
        if key not in places or steps > len(places):
            raise ValueError(f"the turn {key!r} is not in the mapping, or follows itself")
        key = places[key].get("parent")
    return None if key is None else str(key)


def _shown(message: Any) -> str | None:
    """What a message shows, or None where it is not shown."""
    if not message:
        return None
    content = message.get("content") or {}
    kind, role = content.get("content_type"), message["author"]["role"]
    kept = KEY in (message.get("metadata") or {})
    hidden = (message.get("metadata") or {}).get("is_visually_hidden_from_conversation")
    if kind in HIDDEN or hidden or role not in ROLES:
        return None
    if "parts" in content:
        parts = [part if isinstance(part, str) else _named(part) for part in content["parts"]]
        text = "\n".join(part for part in parts if part or len(parts) == 1)
    else:
        text = text_of(content.get("text") or content.get("result") or _named(content), "text")
    return text if text or kept or role == "user" else None


def _named(part: Any) -> str:
    """A picture or file, by what it is."""
    if isinstance(part, dict):
        return str(part["text"]) if isinstance(part.get("text"), str) else f"[{part.get('content_type', 'attachment')}]"
    return "" if part is None else f"[{part}]"


def write(tree: Tree) -> tuple[Row, int]:
    """One conversation, and how many of its turns it carries: all."""
    top = own_id("root", tree.id)
    children: dict[str, list[str]] = {top: []}
    for node in tree.nodes:
        children.setdefault(node.parent or top, []).append(node.id)
    places: Row = {top: {"id": top, "message": None, "parent": None, "children": children[top]}}
    for node in tree.nodes:
        places[node.id] = {
            "id": node.id, "message": _message(node), "parent": node.parent or top,
            "children": children.get(node.id, []),
        }  # fmt: skip
    line = current_line(tree)
    last = max((node.time for node in tree.nodes), default=tree.time)
    return {
        "title": tree.title, "create_time": tree.time, "update_time": last,
        "mapping": places, "moderation_results": [], "current_node": line[-1].id if line else top,
        "conversation_id": tree.id, "id": tree.id, KEY: tree_facts(tree),
    }, len(tree.nodes)  # fmt: skip


def _message(node: Node) -> Row:
    made_by = {"model_slug": node.subject} if node.subject else {}
    return {
        "id": node.id, "author": {"role": node.role, "name": None, "metadata": {}}, "create_time": node.time,
        "update_time": None, "content": {"content_type": "text", "parts": [node.text]},
        "status": "in_progress" if node.ending is None else "finished_successfully",
        "end_turn": node.ending == "end", "weight": 1.0, "metadata": {**made_by, KEY: turn_facts(node)},
        "recipient": "all", "channel": None,
    }  # fmt: skip
