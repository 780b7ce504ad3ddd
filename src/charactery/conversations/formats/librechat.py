"""LibreChat's export of a conversation: `messages` that name their `parentMessageId`, flat or nested in `children`.

The program has one system prompt to a conversation (`promptPrefix`), and turns of a person and of a model.
"""

from dataclasses import replace
from typing import Any

from charactery.conversations.formats.facts import (
    KEY,
    current_line,
    iso,
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

NOBODY = "00000000-0000-0000-0000-000000000000"


def looks_like(value: Any) -> bool:
    """Whether a JSON value is such a conversation."""
    return isinstance(value, dict) and "conversationId" in value and ("messages" in value or "messagesTree" in value)


def read(value: Row) -> Tree:
    """One conversation."""
    id = own_id(value["conversationId"], "librechat")
    nodes, facts = [], {}
    for message, parent in _flat(value.get("messagesTree") or value["messages"]):
        own = own_id(message["messageId"], id)
        whole = "end" if message.get("finish_reason") in (None, "stop") else "length"
        nodes.append(Node(
            own, None if parent in (None, "", NOBODY) else own_id(parent, id),
            "user" if message.get("isCreatedByUser") else "assistant", _text(message), moment(message.get("createdAt")),
            None if message.get("unfinished") else whole,
            "" if message.get("isCreatedByUser") else text_of(message.get("model") or "", "model"),
        ))  # fmt: skip
        facts[own] = message.get(KEY)
    began = min((node.time for node in nodes if node.time), default=0.0)
    kept, options = value.get(KEY), value.get("options") or {}
    turns, more = lowered(options.get("promptPrefix"), parents_first(nodes), kept, id, began)
    title = text_of(value.get("title") or "", "title")
    return with_tree_facts(Tree(id, title, began, tuple(with_facts(turns, facts | more))), kept)


def _flat(messages: list[Row]) -> list[tuple[Row, Any]]:
    """Messages with their parents' ids, a nested one's parent being what it is nested in."""
    out: list[tuple[Row, Any]] = []
    waiting = [(message, message.get("parentMessageId")) for message in reversed(messages)]
    while waiting:
        message, parent = waiting.pop()
        out.append((message, parent))
        waiting += [(child, message["messageId"]) for child in reversed(message.get("children") or [])]
    return out


def _text(message: Row) -> str:
    """The text, or the texts among the parts of a newer message."""
    parts = message.get("content")
    if message.get("text") or not isinstance(parts, list):
        return text_of(message.get("text") or "", "text")
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    return "\n".join(text_of(t.get("value") if isinstance(t, dict) else t, "text") for t in texts)


def write(tree: Tree) -> tuple[Row, int]:
    """One conversation, and how many of its turns it carries."""
    top, nodes = lifted(tree)
    nodes, left_out = without_role(nodes, ("system", "tool"))
    spoken = next((node.subject for node in reversed(current_line(tree)) if node.subject), None)
    options = {"model": spoken, "promptPrefix": top.text if top else None, "title": tree.title}
    return {
        "conversationId": tree.id, "endpoint": "openAI", "title": tree.title, "exportAt": iso(tree.time),
        "branches": True, "recursive": False, "options": options,
        "messages": [_message(node, tree.id, top.id if top else None) for node in nodes],
        KEY: {**tree_facts(tree), **system_facts(top)},
    }, len(tree.nodes) - left_out  # fmt: skip


def _message(node: Node, conversation: str, top: str | None) -> Row:
    by_user = node.role == "user"
    return {
        "messageId": node.id, "conversationId": conversation, "parentMessageId": node.parent or NOBODY,
        "createdAt": iso(node.time), "updatedAt": iso(node.time), "isCreatedByUser": by_user,
        "sender": "User" if by_user else node.subject or "Assistant", "text": node.text,
        "model": None if by_user else node.subject or None,
        "error": node.ending == "error", "unfinished": node.ending is None,
        **({} if by_user else {"finish_reason": "length" if node.ending == "length" else "stop"}),
        KEY: turn_facts(node if node.parent else replace(node, parent=top)),
    }  # fmt: skip
