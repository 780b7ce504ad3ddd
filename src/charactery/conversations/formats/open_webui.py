"""Open WebUI's chat export: a list of chats, each with `history.messages` by id and `parentId`.

The program has one system prompt to a chat, and turns of a person and of a model.
"""

from dataclasses import replace
from typing import Any

from charactery.conversations.formats.facts import (
    KEY,
    current_line,
    lifted,
    lowered,
    moment,
    own_id,
    system_facts,
    text_of,
    tree_facts,
    turn_facts,
    with_facts,
    with_tree_facts,
)
from charactery.conversations.tree import Node, Tree, parents_first, without_role
from charactery.runs import Row


def looks_like(value: Any) -> bool:
    """Whether a JSON value is such a chat, or the inner part of one."""
    inner = value.get("chat", value) if isinstance(value, dict) else None
    return isinstance(inner, dict) and isinstance(inner.get("history"), dict)


def read(value: Row) -> Tree:
    """One chat."""
    chat = value.get("chat") or value
    messages = chat["history"].get("messages") or {}
    began = moment(value.get("created_at") or chat.get("timestamp"))
    id = own_id(value.get("id") or chat.get("id") or [chat.get("title"), began], "open-webui")
    nodes, facts = [], {}
    for key, message in messages.items():
        if not message:
            continue
        own, parent = own_id(key, id), message.get("parentId")
        content = message.get("content") or ""
        if isinstance(content, list):
            content = "\n".join(str(part.get("text") or f"[{part.get('type')}]") for part in content)
        nodes.append(Node(
            own, own_id(parent, id) if parent else None, text_of(message["role"], "role"), text_of(content, "content"),
            moment(message.get("timestamp"), began), None if message.get("done") is False else "end",
            text_of(message.get("model") or "", "model"),
        ))  # fmt: skip
        facts[own] = message.get(KEY)
    kept = chat.get(KEY)
    system = (chat.get("params") or {}).get("system")
    turns, more = lowered(system, parents_first(nodes), kept, id, began)
    here = chat["history"].get("currentId")
    cursors = {"main": own_id(here, id)} if here in messages and kept is None else {}
    title = text_of(value.get("title") or chat.get("title") or "", "title")
    tree = Tree(id, title, began, tuple(with_facts(turns, facts | more)), cursors)
    return with_tree_facts(tree, kept)


def write(tree: Tree) -> tuple[Row, int]:
    """One chat, and how many of the turns it carries."""
    top, nodes = lifted(tree)
    nodes, left_out = without_role(nodes, ("system", "tool"))
    known = {node.id for node in nodes}
    children: dict[str, list[str]] = {}
    for node in nodes:
        if node.parent:
            children.setdefault(node.parent, []).append(node.id)
    messages = {node.id: _message(node, children.get(node.id, []), top.id if top else None) for node in nodes}
    line = [node.id for node in current_line(tree) if node.id in known]
    models = list(dict.fromkeys(node.subject for node in nodes if node.subject))
    last = max((node.time for node in nodes), default=tree.time)
    chat = {
        "id": tree.id, "title": tree.title, "models": models, "params": {"system": top.text} if top else {},
        "history": {"messages": messages, "currentId": line[-1] if line else None},
        "messages": [messages[id] for id in line], "tags": [], "files": [], "timestamp": int(tree.time * 1000),
        KEY: {**tree_facts(tree), **system_facts(top)},
    }  # fmt: skip
    return {
        "id": tree.id, "user_id": "", "title": tree.title, "chat": chat, "created_at": int(tree.time),
        "updated_at": int(last), "share_id": None, "archived": False, "pinned": False, "meta": {}, "folder_id": None,
    }, len(tree.nodes) - left_out  # fmt: skip


def _message(node: Node, children: list[str], top: str | None) -> Row:
    row: Row = {
        "id": node.id, "parentId": node.parent, "childrenIds": children, "role": node.role, "content": node.text,
        "timestamp": int(node.time), KEY: turn_facts(node if node.parent else replace(node, parent=top)),
    }  # fmt: skip
    if node.role == "assistant":
        row |= {"model": node.subject, "modelName": node.subject, "done": node.ending is not None}
    return row
