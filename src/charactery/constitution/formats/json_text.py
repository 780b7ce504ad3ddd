"""JSON from strangers: read with limits and clear sentences, written back in the style it came in."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from charactery.errors import BadData

MAX_DEPTH = 60  # nesting of lists and objects; real cards stay below 15


@dataclass(frozen=True)
class Style:
    """How a JSON text is set: indent (None for one line), spaces after marks, ASCII only, what follows the end."""

    indent: int | str | None = 2
    spaced: bool = True
    ascii: bool = False
    end: str = "\n"

    @classmethod
    def of(cls, text: str) -> "Style":
        """The style of a text."""
        first = re.match(r"\s*[\[{]\s*?\n([ \t]+)\S", text)
        indent: int | str | None = None
        if first:
            indent = first[1] if "\t" in first[1] else len(first[1])
        body = text.rstrip()
        escaped = text.isascii() and re.search(r"\\u[0-9a-fA-F]{4}", text) is not None
        return cls(indent, '": ' in body[:2000], escaped, text[len(body) :])

    @classmethod
    def kept(cls, value: Any) -> "Style":
        """The style kept in a character file; the usual one where that is damaged."""
        try:
            return cls(**value)
        except TypeError:
            return cls()

    def write(self, value: Any) -> str:
        """The value in this style. Lone surrogates, which UTF-8 cannot hold, are written as escapes."""
        marks = None if self.spaced else (",", ":")
        text = json.dumps(value, indent=self.indent, ensure_ascii=self.ascii, separators=marks)
        if re.search("[\ud800-\udfff]", text):
            text = json.dumps(value, indent=self.indent, ensure_ascii=True, separators=marks)
        return text + self.end

    def as_dict(self) -> dict[str, Any]:
        """The style as plain data."""
        return asdict(self)


def parse_json(text: str, path: Path | str | None, line: int | None = None) -> Any:
    """The value of a JSON text. Raises BadData, with the line, for anything else; `line` is the text's first line."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise BadData(
            f"is not whole JSON: {error.msg} (column {error.colno}). Save it again from the program it came from",
            path,
            error.lineno + (line or 1) - 1,
        ) from None
    except RecursionError:
        raise BadData(
            f"is nested more than {MAX_DEPTH} deep; no character needs that. Is it the right file?", path
        ) from None
    except ValueError as error:
        raise BadData(f"holds a number that cannot be read ({error}); correct it in the file", path, line) from None
    if _depth(value) > MAX_DEPTH:
        raise BadData(f"is nested more than {MAX_DEPTH} deep; no character needs that. Is it the right file?", path)
    return value


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        level = [
            v for one in level if isinstance(one, dict | list) for v in (one.values() if isinstance(one, dict) else one)
        ]
        depth += 1
        if depth > MAX_DEPTH + 1:
            break
    return depth
