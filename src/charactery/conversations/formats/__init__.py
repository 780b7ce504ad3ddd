"""Conversations in other programs' files, and in our own: what goes where is in docs/conversations.md.

A format is a file in this folder.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charactery.conversations.formats import chatgpt, jsonl, librechat, open_webui, sharegpt, sillytavern
from charactery.conversations.formats.reading import Contents, Fault, read_file
from charactery.conversations.merge import Added, put
from charactery.conversations.store import Store
from charactery.conversations.tree import Tree
from charactery.errors import BadData, CharacteryError
from charactery.runs import write_rows, write_text

__all__ = [
    "FORMATS", "Contents", "Exported", "Fault", "Format", "Imported", "export_file", "export_text", "file_name",
    "import_file", "read_file",
]  # fmt: skip


@dataclass(frozen=True)
class Format:
    """A format: what it is, how its files end, how a tree is written, and whether a file holds several.

    `write` gives a JSON value, or the lines of one, and how many turns it carries.
    """

    about: str
    suffix: str
    write: Callable[[Tree], tuple[Any, int]]
    several: bool = True
    lines: bool = False


FORMATS: dict[str, Format] = {
    "charactery": Format("everything, one line a turn", ".jsonl", jsonl.write, lines=True),
    "chatgpt": Format("ChatGPT's conversations.json, with branches", ".json", chatgpt.write),
    "open-webui": Format("Open WebUI's chat export, with branches", ".json", open_webui.write),
    "librechat": Format("LibreChat's export, with branches", ".json", librechat.write, several=False),
    "sharegpt": Format("ShareGPT, as training sets are: the current branch", ".json", sharegpt.write),
    "sillytavern": Format(
        "SillyTavern's chat: the current branch, with the answers beside each", ".jsonl", sillytavern.write,
        several=False, lines=True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Imported:
    """What came of a file: its format, conversations, turns, and what was set aside, where and why."""

    format: str
    conversations: tuple[str, ...]
    added: Added
    faults: tuple[Fault, ...]
    set_aside: Path | None


def import_file(store: Store, path: Path | str, progress: Callable[[int, int], None] = lambda n, of: None) -> Imported:
    """Put a file's conversations into the store. What cannot be used goes to `NAME.set_aside.jsonl` beside the file.

    Importing a file again adds nothing. Raises BadData for a file that cannot be used at all.
    """
    path, aside = Path(path), None
    contents = read_file(path)
    if contents.faults:
        aside = path.with_name(f"{path.name}.set_aside.jsonl")
        write_rows(aside, [{"line": f.line, "reason": f.reason, "text": f.text} for f in contents.faults])
    if not contents.trees:
        first = contents.faults[0]
        raise BadData(f"{first.reason}. Nothing in it can be used", path, first.line)
    added = Added()
    for n, tree in enumerate(contents.trees, 1):
        added += put(store, tree)
        progress(n, len(contents.trees))
    return Imported(contents.format, tuple(t.id for t in contents.trees), added, tuple(contents.faults), aside)


@dataclass(frozen=True)
class Exported:
    """The files written, and how many turns the format had no place for."""

    paths: tuple[Path, ...]
    left_out: int


def export_file(trees: Iterable[Tree], out: Path | str, format: str = "charactery") -> Exported:
    """Write conversations, to one file, or into a folder where a file of the format holds only one of them.

    Nothing is overwritten: raises BadData where a file is there already.
    """
    if format not in FORMATS:
        raise CharacteryError(f"no format {format!r}; the formats are {', '.join(FORMATS)}")
    how, trees, out = FORMATS[format], list(trees), Path(out)
    apart = not how.several and (len(trees) > 1 or out.is_dir())
    files = [(out / file_name(tree, how.suffix), [tree]) for tree in trees] if apart else [(out, trees)]
    for path, _ in files:
        if path.exists():
            raise BadData("is there already; choose another name, or move it away", path)
    left_out = 0
    for path, inside in files:
        text, left = export_text(inside, format)
        left_out += left
        write_text(path, text)
    return Exported(tuple(path for path, _ in files), left_out)


def export_text(trees: Sequence[Tree], format: str) -> tuple[str, int]:
    """A file of conversations, of one where it can hold no more; and how many turns have no place in it."""
    if format not in FORMATS:
        raise CharacteryError(f"no format {format!r}; the formats are {', '.join(FORMATS)}")
    how = FORMATS[format]
    written = [how.write(tree) for tree in trees]
    left_out = sum(len(tree.nodes) - carried for tree, (_, carried) in zip(trees, written, strict=True))
    return _text([value for value, _ in written], how), left_out


def file_name(tree: Tree, suffix: str) -> str:
    """A name for a conversation's file: its title's words and its id."""
    words = re.sub(r"[^\w]+", "-", tree.title.lower()).strip("-")[:40]
    return f"{words}-{tree.id}{suffix}".lstrip("-")


def _text(values: Sequence[Any], how: Format) -> str:
    if how.lines:
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for rows in values for row in rows)
    return json.dumps(values if how.several else values[0], ensure_ascii=False, indent=1) + "\n"
