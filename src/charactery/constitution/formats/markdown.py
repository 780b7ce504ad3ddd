"""Constitutions published as markdown, such as OpenAI's Model Spec: nested headings, prose, fenced examples.

A heading with headings below it becomes a section (its title the path of headings down to it), one without becomes
a trait. What is between the headings stands in the character file as it is. The front matter keeps the heading
lines (with `{#id authority=…}`) and the blank lines, so that what nobody edits comes out byte for byte.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charactery.constitution.character import Character, Section, Trait
from charactery.constitution.formats.slots import (
    Place,
    adds_to,
    align,
    clean,
    heading,
    one_line,
    packed,
    read,
    show,
    splice,
    unpacked,
)
from charactery.constitution.render import document
from charactery.errors import BadData

KEY = "x-spec"
PATH_MARK = " › "
CONTINUED = " (continued)"
AROUND = ["\n\n", "\n\n"]  # what stands before and after the text below a heading, where nothing else is kept
_HEADING = re.compile(r"(#{1,6})[ \t]+(.*?)((?:[ \t]+#+)?(?:[ \t]*\{[^{}]*\})?\s*)")
MAX_HEADING = 500  # letters; a longer line that begins with `#` is text
_FENCE = re.compile(r" *(`{3,}|~{3,})(.*)")
_OWN = re.compile(r"\n<!-- charactery\n(.*)\n-->\n\Z", re.DOTALL)


@dataclass(frozen=True)
class _Block:
    """A heading line (empty for what stands above the first) and all that follows it, up to the next."""

    line: str
    body: str

    @property
    def level(self) -> int:
        return len(self.line) - len(self.line.lstrip("#"))

    @property
    def title(self) -> str:
        matched = _HEADING.fullmatch(self.line)
        return (one_line(matched[2]).rstrip("# ") if matched else "") or "Untitled"


def read_markdown(text: str, path: Path) -> Character:
    """The character that a markdown document describes. Raises BadData for an empty one."""
    if own := _OWN.search(text):
        rest = text[: own.start()]
        native = own[1].replace("--&gt;", "-->").replace("&amp;", "&")
        if found := unpacked(native, path, lambda character: _document(character) == rest):
            return found
        text = rest
    if not clean(text):
        raise BadData("is empty; there is no character in it", path)
    newline = "\r\n" if "\r" in text and text.count("\r\n") == text.count("\n") == text.count("\r") else "\n"
    blocks = _blocks(text.replace(newline, "\n"))
    titled = (
        len(blocks) > 1 and not clean(blocks[0].body) and [b.level for b in blocks].count(1) == blocks[1].level == 1
    )
    top, rest_of = (blocks[1], blocks[2:]) if titled else (blocks[0], blocks[1:])
    title = heading(top.title, set()) if titled else ""
    sections, kept = _sections(rest_of)
    has_text = any(section.text or section.traits for section in sections)
    fallback = "" if has_text else show(f"You are {title}." if title else "To be written.", "introduction")
    introduction, opening = _shown(top.body, "introduction", fallback)
    if titled:
        opening = {"above": blocks[0].body, "line": top.line, "shown": title} | opening
    extra = {"newline": newline, "opening": opening, "blocks": kept}
    name = title or one_line(path.stem.replace("_", " ").replace("-", " ")).title() or "Character"
    return Character(name, introduction, sections, title=title, extra={KEY: extra}, path=path)


def _blocks(text: str) -> list[_Block]:
    """The document cut at its headings; headings in fenced blocks and comments are text."""
    blocks: list[tuple[str, list[str]]] = [("", [])]
    fence, comment = "", False
    for raw in re.findall(r"[^\n]*\n|[^\n]+", text):
        line = raw.removesuffix("\n")
        opener = None if comment else _FENCE.match(line)
        if fence:
            if opener and opener[1].startswith(fence) and not opener[2].strip():
                fence = ""
        elif comment or line.lstrip().startswith("<!--"):
            comment = "-->" not in line
        elif opener:
            fence = opener[1]
        elif len(line) <= MAX_HEADING and (found := _HEADING.fullmatch(line)) and clean(found[2]):
            blocks.append((line, [raw[len(line) :]]))
            continue
        blocks[-1][1].append(raw)
    return [_Block(line, "".join(body)) for line, body in blocks]


def _sections(blocks: list[_Block]) -> tuple[tuple[Section, ...], list[dict[str, Any]]]:
    """Sections and traits, and for each of their headings what is kept of it, in the file's order."""
    sections: list[tuple[str, str, list[Trait]]] = []
    kept: list[dict[str, Any]] = []
    above: list[_Block] = []
    taken: set[str] = set()
    for number, block in enumerate(blocks):
        above = [b for b in above if b.level < block.level]
        if number + 1 < len(blocks) and blocks[number + 1].level > block.level:
            above.append(block)
            path = PATH_MARK.join(b.title for b in above)
            text, extra = _shown(block.body, "section", "")
            sections.append((path, text, []))
            kept.append({"shown": path, "line": block.line} | extra)
            continue
        path = PATH_MARK.join(b.title for b in above) or "Principles"
        if not sections or sections[-1][0].removesuffix(CONTINUED) != path:  # after a section below this one, or at top
            title = path + CONTINUED if path in [s[0] for s in sections] else path
            sections.append((title, "", []))
            kept.append({"shown": title})
        title = heading(block.title, taken)
        text, extra = _shown(block.body, "trait", show(f"{title}.", "trait"))
        sections[-1][2].append(Trait(title, text))
        kept.append({"shown": title, "line": block.line} | extra)
    return tuple(Section(title, text, tuple(traits)) for title, text, traits in sections), kept


def _shown(body: str, place: Place, empty: str) -> tuple[str, dict[str, Any]]:
    """The text for the file (`empty` where there is none), and what to keep: the whole body, or what is around it."""
    text = clean(body)
    if not text:
        return empty, {"body": body, "empty": empty}
    shown = show(body, place)
    if body.strip() != text or read(shown) != text:
        return shown, {"body": body}
    at = body.find(text)
    around = [body[:at], body[at + len(text) :]]
    return shown, {} if around == AROUND else {"around": around}


def _body(kept: dict[str, Any], current: str, place: Place) -> str:
    """What follows a heading, from what was kept and the text that the file now has."""
    if "body" not in kept:
        before, after = kept.get("around", AROUND)
        return f"{before}{read(current)}{after}"
    body = str(kept["body"])
    shown = clean(body)
    if current == (kept["empty"] if "empty" in kept else show(body, place)):
        return body
    if not shown:
        return f"\n\n{read(current)}\n\n"
    lines = body.split("\n")
    first = next(n for n, line in enumerate(lines) if line.strip())
    last = next(n for n in range(len(lines), 0, -1) if lines[n - 1].strip())
    middle = lines[first:last]
    if len(middle) != len(shown.split("\n")):  # line ends that only Unicode knows; the text goes in as a whole
        middle = [read(current)]
    else:
        middle = splice(middle, shown.split("\n"), read(current).split("\n"))
    return "\n".join([*lines[:first], *middle, *lines[last:]])


def write_markdown(character: Character) -> str:
    """The character as a markdown document: the one it came from with the edits, else a page for people.

    What the document has no place for travels in a comment at its end.
    """
    text = _document(character)
    notes = any(section.notes for section in character.sections)
    if adds_to(character, KEY) or character.version != "1" or notes:
        escaped = packed(character).replace("&", "&amp;").replace("-->", "--&gt;")
        text += f"\n<!-- charactery\n{escaped}\n-->\n"
    return text


def _document(character: Character) -> str:
    known = character.extra.get(KEY)
    if known is None:
        return document(character)
    opening, kept = known["opening"], known["blocks"]
    text = str(opening.get("above", "")) + (_line(opening, character.title) if "line" in opening else "")
    text += _body(opening, character.introduction, "introduction")
    shown = list(_headings(character))
    level = 1
    for (place, title, current), at in zip(
        shown, align([k["shown"] for k in kept], [s[1] for s in shown]), strict=True
    ):
        old = {"line": _new_line(place, level, title)} if at is None else kept[at]
        if "line" not in old:  # a section that only the character file has
            continue
        line = old["line"] if at is None else _line(old, title)
        level = len(line) - len(line.lstrip("#")) - (place == "trait")
        text += ("\n\n" if text and not text.endswith("\n") else "") + line + _body(old, current, place)
    return text.replace("\n", str(known.get("newline", "\n")))


def _headings(character: Character) -> Iterator[tuple[Place, str, str]]:
    for section in character.sections:
        yield "section", section.title, section.text
        for trait in section.traits:
            yield "trait", trait.title, trait.definition


def _new_line(place: Place, level: int, title: str) -> str:
    """The heading line of something added: a trait one level below its section."""
    return "#" * min(6, max(1, level + (place == "trait"))) + f" {title}"


def _line(kept: dict[str, Any], title: str) -> str:
    """The heading line as it was, with the new title where somebody gave it one."""
    line = str(kept["line"])
    matched = _HEADING.fullmatch(line)
    new, old = title.split(PATH_MARK)[-1], str(kept["shown"]).split(PATH_MARK)[-1]
    if title == kept["shown"] or new == old or not matched:
        return line
    return line[: matched.start(2)] + new + matched[3]
