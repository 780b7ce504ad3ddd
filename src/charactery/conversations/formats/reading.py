"""A file of conversations, whichever format it is in: told by its content, with the line of whatever is wrong in it."""

import json
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charactery.conversations.formats import chatgpt, jsonl, librechat, open_webui, sharegpt, sillytavern
from charactery.conversations.formats.facts import own_id, turn_row
from charactery.conversations.store import storable
from charactery.conversations.tree import Tree
from charactery.errors import BadData
from charactery.runs import Row

MOST = 2_000_000_000  # bytes
PACKED = "conversations.json"  # in ChatGPT's zip
DENSEST = 100  # times that what is in a zip may be larger than it; conversations are some ten
# What shape other people's data may have, so what may go wrong in reading it
WRONG = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError, BadData)
WHOLE: tuple[tuple[str, Callable[[Any], bool], Callable[[Row], Tree]], ...] = (
    ("chatgpt", chatgpt.looks_like, chatgpt.read),
    ("open-webui", open_webui.looks_like, open_webui.read),
    ("librechat", librechat.looks_like, librechat.read),
    ("sharegpt", sharegpt.looks_like, sharegpt.read),
)


@dataclass(frozen=True)
class Fault:
    """Something that could not be used: its line, the reason, and itself."""

    line: int
    reason: str
    text: str


@dataclass(frozen=True)
class Contents:
    """What a file held, and in which format."""

    format: str
    trees: list[Tree]
    faults: list[Fault]


def read_file(path: Path | str, most: int = MOST) -> Contents:
    """The conversations in a file of at most so many bytes, or in ChatGPT's zip of such a file.

    Raises BadData, with the line, for one that is in no known format or breaks off.
    """
    path = Path(path)
    data = _bytes(path, most)
    head, whole = data.lstrip()[:1], None
    if head == b"{":
        first = next((line for line in data.split(b"\n") if line.strip()), b"")
        whole = _parsed(first)
        if not isinstance(whole, dict):  # a whole document over many lines, or lines of which the first is bad
            rows = (_parsed(line) for line in data.split(b"\n")[:1000])
            whole = next((row for row in rows if jsonl.looks_like(row) or sillytavern.looks_like(row)), None)
        if jsonl.looks_like(whole):
            return _own_lines(data)
        if sillytavern.looks_like(whole):
            return _chat_lines(data)
    text = _decoded(data, path)
    found = [_tree(value, line, raw) for value, line, raw in _elements(text, path)]
    trees = [tree for _, tree in found if isinstance(tree, Tree)]
    faults = [fault for _, fault in found if isinstance(fault, Fault)]
    if not trees:
        first_fault = faults[0] if faults else Fault(1, "holds no conversation", "")
        raise BadData(first_fault.reason, path, first_fault.line)
    return Contents(next(name for name, tree in found if isinstance(tree, Tree)), trees, faults)


def _bytes(path: Path, most: int) -> bytes:
    try:
        if (size := path.stat().st_size) > most:
            raise BadData(f"is {size / 1e9:.1f} GB; at most {most / 1e9:.1f} GB are read", path)
        data = path.read_bytes()
    except OSError as error:
        raise BadData("no such file" if not path.exists() else f"cannot be read: {error.strerror}", path) from None
    if data.startswith(b"PK\x03\x04"):
        data = _packed(path, min(most, DENSEST * size))
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadData("is UTF-16 text; save it as UTF-8", path, 1)
    data = data.removeprefix(b"\xef\xbb\xbf")
    if data.lstrip()[:1] not in (b"{", b"["):
        raise BadData("holds no conversation: it begins neither with { nor with [", path, 1)
    return data


def _packed(path: Path, most: int) -> bytes:
    """The conversations in a zip, as ChatGPT exports them, of at most so many bytes."""
    try:
        with zipfile.ZipFile(path) as packed:
            inside = next((one for one in packed.infolist() if one.filename == PACKED), None)
            if inside is None:
                raise BadData(f"is a zip file without a {PACKED}; unpack it, and import the file that is meant", path)
            with packed.open(inside) as stream:
                data = stream.read(most + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise BadData(f"is a zip file that cannot be read ({error}); import the {PACKED} inside", path) from None
    if len(data) > most:
        raise BadData(f"is a zip file whose {PACKED} is more than {most / 1e6:,.1f} MB; unpack it yourself", path)
    return data


def _decoded(data: bytes, path: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadData(f"is not UTF-8 text (byte {error.start}); save it as UTF-8", path, line) from None


def _parsed(line: bytes | str) -> Any:
    try:
        return _DECODER.decode(line if isinstance(line, str) else line.decode())
    except (ValueError, RecursionError):
        return None


def _no_number(name: str) -> None:
    raise ValueError(f"holds {name}, which is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_number)


def _elements(text: str, path: Path) -> Iterator[tuple[Any, int, str]]:
    """The values of a list, or those that stand one after another, each with its line and itself as text."""
    place, line, seen = _past(text, 0), 1, 0
    listed = text[place] == "["
    if listed:
        place = _past(text, place + 1)
    while place < len(text):
        line, seen = line + text.count("\n", seen, place), place
        if listed and text[place] == "]":
            if _past(text, place + 1) < len(text):
                raise BadData("goes on after the end of the list", path, line)
            return
        try:
            value, end = _DECODER.raw_decode(text, place)
        except json.JSONDecodeError as error:
            raise BadData(
                f"is not JSON: {error.msg}. Is the file whole?", path, text.count("\n", 0, error.pos) + 1
            ) from None
        except (ValueError, RecursionError) as error:
            deep = isinstance(error, RecursionError)
            raise BadData("is nested too deep to be read" if deep else str(error), path, line) from None
        yield value, line, text[place:end]
        place = _past(text, end)
        if listed and place < len(text) and text[place] == ",":
            place = _past(text, place + 1)
        elif listed and (place >= len(text) or text[place] != "]"):
            raise BadData("is not JSON: a list breaks off. Is the file whole?", path, text.count("\n", 0, place) + 1)
    if listed:
        raise BadData("is not JSON: a list breaks off. Is the file whole?", path, text.count("\n") + 1)


def _past(text: str, place: int) -> int:
    """The next place that is no white space."""
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


def _tree(value: Any, line: int, raw: str) -> tuple[str, Tree | Fault]:
    for name, looks_like, read in WHOLE:
        if looks_like(value):
            try:
                return name, _sound(read(value))
            except WRONG as error:
                return name, Fault(line, _reason(error), raw)
    return "", Fault(line, "is no conversation in a known format", raw)


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"lacks {error}"
    if isinstance(error, ValueError | BadData):
        return str(error)
    return f"is not built like a conversation ({type(error).__name__}: {error})"


def _sound(tree: Tree) -> Tree:
    """The tree, if a store can hold it."""
    if len(tree.by_id()) < len(tree.nodes):
        raise ValueError("has two turns of the same id")
    _storable([tree.title, tree.cursors, *map(vars, tree.marks), *map(vars, tree.votes)])
    for node in tree.nodes:
        _storable([node.text, turn_row(node)])
    if not tree.nodes:
        raise ValueError("has no turns")
    return tree


def _lines(data: bytes) -> Iterator[tuple[int, Row | Fault]]:
    for number, raw in enumerate(data.split(b"\n"), 1):
        if not raw.strip():
            continue
        try:
            row = _DECODER.decode(raw.decode())
            yield number, row if isinstance(row, dict) else Fault(number, "is no object in braces", raw.decode())
        except UnicodeDecodeError as error:
            yield number, Fault(number, f"is not UTF-8 text (byte {error.start})", raw.decode(errors="replace"))
        except (ValueError, RecursionError) as error:
            said = error.msg if isinstance(error, json.JSONDecodeError) else _reason(error)
            yield number, Fault(number, f"is not JSON: {said}", raw.decode())


def _own_lines(data: bytes) -> Contents:
    reader, faults = jsonl.Reader(), []
    for number, row in _lines(data):
        if isinstance(row, Fault):
            faults.append(row)
            continue
        try:
            _storable(row)
            for key in ("id", "turn", "vote"):
                if key in row and own_id(row[key]) != row[key]:
                    raise ValueError(f"{key} is no UUID: {row[key]!r}")
            reader.line(row)
        except WRONG as error:
            faults.append(Fault(number, _reason(error), json.dumps(row, ensure_ascii=True)))
    return Contents("charactery", list(reader.trees()), faults)


def _storable(value: Any) -> None:
    """Raises ValueError or BadData where a text or number in a value cannot be kept."""
    if isinstance(value, str):
        storable(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("holds a number without end")
    elif isinstance(value, dict):
        for key, inner in value.items():
            storable(key)
            _storable(inner)
    elif isinstance(value, list):
        for inner in value:
            _storable(inner)


def _chat_lines(data: bytes) -> Contents:
    rows, faults = [], []
    for number, row in _lines(data):
        if isinstance(row, Fault):
            faults.append(row)
        elif sillytavern.looks_like(row):
            rows.append((number, row))
        else:
            faults.append(Fault(number, "is no message: it lacks `mes`", json.dumps(row, ensure_ascii=True)))
    kept, good = [], []
    for number, row in rows:  # a message that cannot be read costs itself alone
        try:
            if "mes" in row:
                _sound(sillytavern.read([row]))
            else:
                _storable(row)
            kept.append(row)
        except WRONG as error:
            faults.append(Fault(number, _reason(error), json.dumps(row, ensure_ascii=True)))
    if kept:
        try:
            good.append(_sound(sillytavern.read(kept)))
        except WRONG as error:
            faults.append(Fault(1, _reason(error), ""))
    return Contents("sillytavern", good, sorted(faults, key=lambda fault: fault.line))
