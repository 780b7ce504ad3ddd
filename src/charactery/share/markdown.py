"""Markdown as models write it, as blocks to be set. Nothing of a text is lost: what does not come back whole is plain.

Links, pictures, HTML and entities stay as they are written: who is shown a text is to see all of it.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.texmath import texmath_plugin

from charactery.share.formula import Formula, formula
from charactery.share.markup import commonmark

LONGEST = 50_000  # letters of a text that are read as markdown
MOST_FORMULAE = 400  # signs of them in a text; with more none is read as one, since each takes a while
MOST_COLUMNS = 8  # of a table; more are too narrow for words
WORD = 24  # letters of a word that fit anywhere
BREAK = "\u200b"  # where a line may end
_LONG = re.compile(rf"\S{{{WORD + 1},}}")
# at most so many joined before the one that has the mark, or the time would grow with the square of a text without it
_EMOJI = re.compile("(?:[^\x00-\x20]\u200d){0,9}[^\x00-\x20]\ufe0f\u20e3?(?:\u200d[^\x00-\x20]\ufe0f?)*")
_BARE = ("link", "image", "autolink", "reference", "entity")
_STYLES = {"strong": "b", "em": "i", "s": "s"}

Run = list[str]  # a piece of text, and letters for how it is set: b bold, i italic, s struck, c code, h marked, e emoji
Block = dict[str, Any]


def blocks(text: str) -> list[Block]:
    """A text in markdown as what stands under one another."""
    if len(text) > LONGEST:
        return plain([(text, False)])
    formulae = sum(text.count(sign) for sign in ("$", "\\(", "\\[")) <= MOST_FORMULAE
    try:
        found = list(_blocks(SyntaxTreeNode(_parser(formulae).parse(text)), WORD))
    except RecursionError:
        return plain([(text, False)])
    return found if _letters(_text_of(found)) == _letters(text) else plain([(text, False)])


def plain(parts: Sequence[tuple[str, bool]]) -> list[Block]:
    """A text as it stands, a block a line; of its pieces some are marked."""
    lines: list[list[Run]] = [[]]
    for text, marked in parts:
        for n, line in enumerate(re.split(r"\r\n|[\n\r\f\v\x1c-\x1e\x85\u2028\u2029]", text)):
            if n:
                lines.append([])
            if line:
                indented = not lines[-1] and line.lstrip(" \t")
                begins = line[: len(line) - len(indented)].expandtabs(4) if indented else ""
                shown = "\u00a0" * len(begins) + indented if indented else line
                lines[-1] += runs(shown, "h" if marked else "")
    return [{"kind": "line", "runs": line, "dir": direction("".join(run[0] for run in line))} for line in lines]


def runs(text: str, style: str = "", longest: int = WORD) -> list[Run]:
    """A text as runs: emoji by themselves, long words with places to break, and no letter that cannot be drawn."""
    text = _LONG.sub(lambda word: _broken(word[0], longest), drawable(text)) if len(text) > longest else drawable(text)
    found, at = [], 0
    for emoji in _EMOJI.finditer(text):
        found += [[text[at : emoji.start()], style], [emoji[0], style + "e"]]
        at = emoji.end()
    return [run for run in [*found, [text[at:], style]] if run[0]]


def drawable(text: str) -> str:
    """Control characters as the pictures that Unicode has of them, tabs as spaces."""
    return re.sub(r"[\x00-\x08\x0b-\x1f]", lambda c: chr(0x2400 + ord(c[0])), text.replace("\t", "    ")).replace(
        "\x7f", "␡"
    )


def direction(text: str) -> str:
    """rtl where the first letter that has a direction is written from the right, as the Unicode algorithm says (P2)."""
    for letter in text:
        if (written := unicodedata.bidirectional(letter)) in ("L", "R", "AL"):
            return "ltr" if written == "L" else "rtl"
    return "ltr"


def _broken(word: str, longest: int) -> str:
    """A word with a place to break after each letter; not before what belongs to the letter, and in scripts whose
    letters join only now and then."""
    out: list[str] = []
    for n, letter in enumerate(word):
        joined = unicodedata.bidirectional(letter) == "AL" or "\u0900" <= letter <= "\u109f"
        apart = unicodedata.category(letter)[0] not in "MC" and (n == 0 or word[n - 1] != "\u200d")
        if n and apart and ord(letter) < 0x1F000 and (not joined or n % (longest // 2) == 0):
            out.append(BREAK)
        out.append(letter)
    return "".join(out)


@lru_cache
def _parser(formulae: bool) -> MarkdownIt:
    parser = commonmark().disable(list(_BARE))
    if formulae:
        texmath_plugin(parser, delimiters="brackets")
        dollarmath_plugin(parser, allow_labels=False, allow_space=False, allow_digits=False, allow_blank_lines=False)
    return parser


def _blocks(node: SyntaxTreeNode, longest: int) -> Iterator[Block]:
    for child in node.children:
        match child.type:
            case "paragraph" | "heading" | "inline":
                inline = child if child.type == "inline" else child.children[0]
                level = int(child.tag[1]) if child.type == "heading" else 0
                yield from _lines(inline, level, longest)
            case "fence":
                yield {
                    "kind": "code",
                    "text": _code(child.content.removesuffix("\n")),
                    "language": _code(child.info.strip()),
                }
            case "math_block":
                yield {"kind": "formula", **_formula(child, displayed=True)}
            case "hr":
                yield {"kind": "rule"}
            case "blockquote":
                inside = list(_blocks(child, longest))
                yield {"kind": "quote", "blocks": inside, "dir": direction(_text_of(inside))}
            case "bullet_list" | "ordered_list":
                items = [
                    {
                        "marker": f"{item.info}{item.markup}" if item.info else "•",
                        "blocks": list(_blocks(item, longest)),
                    }
                    for item in child.children
                ]
                yield {"kind": "list", "items": items, "dir": direction(_text_of(items))}
            case "table":
                yield _table(child, longest)


def _lines(inline: SyntaxTreeNode, level: int, longest: int) -> Iterator[Block]:
    found = list(_inline(inline.children, "", longest))
    text = "".join(str(run[0]) for run in found)
    yield {"kind": "heading" if level else "paragraph", "level": level, "runs": found, "dir": direction(text)}


def _inline(nodes: Sequence[SyntaxTreeNode], style: str, longest: int) -> Iterator[list[Any]]:
    for node in nodes:
        if node.type in _STYLES:
            yield from _inline(node.children, style + _STYLES[node.type], longest)
        elif node.type in ("softbreak", "hardbreak"):
            yield ["\n", ""]
        elif node.type.startswith("math"):
            yield [node.content, "m", _formula(node, displayed=False)]
        else:
            yield from runs(node.content, style + ("c" if node.type == "code_inline" else ""), longest)


def _formula(node: SyntaxTreeNode, displayed: bool) -> Block:
    drawn: Formula | None = formula(node.content.strip(), displayed)
    if drawn is None or (not displayed and drawn.width > 300):
        ends = {"$": "$", "$$": "$$", "\\(": "\\)", "\\[": "\\]"}.get(node.markup, "")
        return {"text": _code(f"{node.markup if ends else ''}{node.content}{ends}"), "tex": node.content}
    return {"tex": node.content, **vars(drawn)}


def _table(table: SyntaxTreeNode, longest: int) -> Block:
    rows = [row for part in table.children for row in part.children]
    columns = len(rows[0].children)
    narrow = max(longest // columns, 4)
    cells = [list(_inline(cell.children[0].children, "", narrow)) for row in rows for cell in row.children]
    aligned = [str(cell.attrs.get("style", "")).removeprefix("text-align:") for cell in rows[0].children]
    text = "".join(str(run[0]) for cell in cells for run in cell)
    if columns > MOST_COLUMNS:
        cells = [[]]  # too narrow: it does not come back whole, and is set as it is written
    return {"kind": "table", "columns": columns, "aligned": aligned, "cells": cells, "dir": direction(text)}


def _code(text: str) -> str:
    """Code with places to break in what is long. A tab is four spaces."""
    return _LONG.sub(lambda word: _broken(word[0], WORD), drawable(text)) if len(text) > WORD else drawable(text)


def _text_of(found: Any) -> str:
    """All the text in blocks, in their order."""
    out: list[str] = []
    for block in found:
        if "marker" in block:
            out.append(block["marker"])
        out += [block.get("language", ""), block.get("tex", "") or block.get("text", "")]
        out += [str(run[0]) for cell in [block.get("runs", ()), *block.get("cells", ())] for run in cell]
        out.append(_text_of([*block.get("blocks", ()), *block.get("items", ())]))
    return "".join(out)


def _letters(text: str) -> str:
    """What of a text has to come back: all but spaces, and the signs that markdown is written in."""
    return "".join(c for c in text if c.isalnum() or (ord(c) > 127 and not c.isspace() and c not in "•\u200b"))
