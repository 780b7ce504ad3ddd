"""SillyTavern's chats: JSON lines, a header and then messages, each with the other answers as `swipes`.

A chat is one line of turns with alternatives beside it; what follows an alternative has no place in the file. What the
program hides from the model is a turn like others.
"""

from dataclasses import replace
from typing import Any

from charactery.conversations.formats.facts import (
    KEY,
    current_line,
    iso,
    moment,
    own_id,
    text_of,
    tree_facts,
    turn_facts,
    with_facts,
    with_tree_facts,
)
from charactery.conversations.tree import Node, Tree, parents_first, without_role
from charactery.runs import Row, digest


def looks_like(value: Any) -> bool:
    """Whether a line is a header or a message of such a chat."""
    return isinstance(value, dict) and bool({"user_name", "chat_metadata", "mes"} & {*value})


def read(rows: list[Row]) -> Tree:
    """A chat from its lines."""
    header = rows[0] if "mes" not in rows[0] else {}
    messages = rows[1:] if header else rows
    about = header.get("chat_metadata") or {}
    raw = about.get("integrity") or digest([header.get("create_date"), [m.get("mes") for m in messages[:1]]])
    id = own_id(raw, "sillytavern")
    began = moment(header.get("create_date"), moment(messages[0].get("send_date")) if messages else 0.0)
    nodes: list[Node] = []
    facts: dict[str, Any] = {}
    parent: str | None = None
    for place, message in enumerate(messages):
        role = _role(message)
        texts, chosen = _swipes(message)
        infos = message.get("swipe_info") or []
        here = None
        for n, text in enumerate(texts):
            about_it = infos[n] if n < len(infos) and isinstance(infos[n], dict) else message if n == chosen else {}
            extra = about_it.get("extra") or {}
            kept = extra.get(KEY)
            own = kept.get("id") if isinstance(kept, dict) else None
            node = Node(
                own_id(own or digest([place, n, text]), id), parent, role, text,
                moment(about_it.get("send_date"), moment(message.get("send_date"), began)),
                subject=text_of(extra.get("model") or "", "model"),
            )  # fmt: skip
            nodes.append(node)
            facts[node.id] = kept
            here = node.id if n == chosen else here
        parent = here
    beside = about.get(KEY)
    order = beside.get("order") if isinstance(beside, dict) else None
    if isinstance(order, list) and sorted(map(str, order)) == sorted(node.id for node in nodes):
        rank = {id: n for n, id in enumerate(order)}
        nodes.sort(key=lambda node: rank[node.id])
    cursors = {"main": parent} if parent and beside is None else {}
    title = text_of(header.get("character_name") or "", "character_name") if beside is None else ""
    return with_tree_facts(Tree(id, title, began, tuple(with_facts(parents_first(nodes), facts)), cursors), beside)


def _role(message: Row) -> str:
    if (message.get("extra") or {}).get("type") == "narrator":
        return "system"
    return "user" if message.get("is_user") else "assistant"


def _swipes(message: Row) -> tuple[list[str], int]:
    """The alternatives, and which of them the talk went on from: what the message says counts, as an edit may."""
    said = text_of(message["mes"], "mes")
    swipes, chosen = message.get("swipes"), message.get("swipe_id", 0)
    if not isinstance(swipes, list) or not swipes:
        return [said], 0
    texts = [text_of(text, "swipe") for text in swipes]
    if isinstance(chosen, bool) or not isinstance(chosen, int) or not 0 <= chosen < len(texts):
        raise ValueError(f"swipe_id is {chosen!r}, and there are {len(texts)} swipes")
    texts[chosen] = said
    return texts, chosen


def write(tree: Tree) -> tuple[list[Row], int]:
    """The lines of a chat, and how many of the turns it carries."""
    tree = replace(tree, nodes=tuple(without_role(tree.nodes, ("tool",))[0]))
    line = current_line(tree)
    name = next((node.subject for node in line if node.subject), "") or "Assistant"
    brothers: dict[tuple[str | None, str], list[Node]] = {}
    for node in tree.nodes:
        brothers.setdefault((node.parent, node.role), []).append(node)
    beside = [brothers[node.parent, node.role] for node in line]
    carried = {node.id for nodes in beside for node in nodes}
    facts = {**tree_facts(tree), "order": [node.id for node in tree.nodes if node.id in carried]}
    header = {
        "user_name": "User", "character_name": name, "create_date": iso(tree.time),
        "chat_metadata": {"integrity": tree.id, KEY: facts},
    }  # fmt: skip
    return [header, *(_message(node, nodes, name) for node, nodes in zip(line, beside, strict=True))], len(carried)


def _message(node: Node, beside: list[Node], name: str) -> Row:
    row: Row = {
        "name": {"user": "User", "system": "System"}.get(node.role, name), "is_user": node.role == "user",
        "is_system": False, "send_date": iso(node.time), "mes": node.text, "extra": _extra(node),
    }  # fmt: skip
    if len(beside) > 1:
        row |= {
            "swipe_id": beside.index(node), "swipes": [one.text for one in beside],
            "swipe_info": [{"send_date": iso(one.time), "extra": _extra(one)} for one in beside],
        }  # fmt: skip
    return row


def _extra(node: Node) -> Row:
    kind = {"type": "narrator"} if node.role == "system" else {}
    made_by = {"model": node.subject} if node.subject else {}
    return {**kind, **made_by, KEY: {"id": node.id, **turn_facts(node)}}
