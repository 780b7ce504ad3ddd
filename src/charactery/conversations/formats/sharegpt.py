"""ShareGPT: `conversations` of `from` and `value`, as in training sets; `messages` of `role` and `content` are read.

A line has no branches, so the current one is written.
"""

import json
from typing import Any

from charactery.conversations.formats.facts import (
    KEY,
    current_line,
    own_id,
    text_of,
    tree_facts,
    turn_facts,
    with_facts,
    with_tree_facts,
)
from charactery.conversations.tree import Node, Tree
from charactery.runs import Row, digest

ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant",
    "model": "assistant", "bing": "assistant", "bard": "assistant", "function_call": "assistant", "system": "system",
    "tool": "tool", "observation": "tool", "function_response": "tool",
}  # fmt: skip
NAMES = {"user": "human", "assistant": "gpt", "system": "system", "tool": "tool"}


def looks_like(value: Any) -> bool:
    """Whether a JSON value is such a conversation."""
    if not isinstance(value, dict):
        return False
    rows = value.get("conversations") or value.get("messages") or value.get("conversation")
    return isinstance(rows, list) and bool(rows) and isinstance(rows[0], dict) and bool({"from", "role"} & {*rows[0]})


def read(value: Row) -> Tree:
    """One conversation."""
    rows = value.get("conversations") or value.get("messages") or value["conversation"]
    if isinstance(value.get("system"), str) and value["system"]:
        rows = [{"from": "system", "value": value["system"]}, *rows]
    id = own_id(value.get("id") or digest(rows), "sharegpt")
    kept = json.loads(value[KEY]) if isinstance(value.get(KEY), str) else {}
    ids = kept.get("ids", [])
    nodes: list[Node] = []
    for n, row in enumerate(rows):
        said, text = row.get("from", row.get("role")), row.get("value", row.get("content"))
        if said not in ROLES:
            raise ValueError(f"turn {n + 1} is from {said!r}; known are {', '.join(ROLES)}")
        own = ids[n] if n < len(ids) else digest([n, text])
        text = text_of(text, f"value of turn {n + 1}")
        nodes.append(Node(own_id(own, id), nodes[-1].id if nodes else None, ROLES[said], text, 0.0))
    facts = dict(zip(ids, kept.get("turns", []), strict=False))
    title = text_of(value.get("title") or "", "title")
    return with_tree_facts(Tree(id, title, 0.0, tuple(with_facts(nodes, facts))), kept.get("tree"))


def write(tree: Tree) -> tuple[Row, int]:
    """One conversation, and how many of its turns it carries. Our facts are one text, so that columns stay plain."""
    line = current_line(tree)
    kept = {"ids": [node.id for node in line], "turns": [turn_facts(node) for node in line], "tree": tree_facts(tree)}
    return {
        "id": tree.id, "conversations": [{"from": NAMES[node.role], "value": node.text} for node in line],
        KEY: json.dumps(kept, ensure_ascii=False),
    }, len(line)  # fmt: skip
