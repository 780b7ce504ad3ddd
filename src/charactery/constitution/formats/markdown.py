"""Constitutions published as markdown, such as OpenAI's Model Spec: nested headings, prose, fenced examples.

A heading with headings below it becomes a section (its title the path of headings down to it), one without becomes
a trait. What is between the headings stands in the character file as it is. The front matter keeps the heading
lines (with `{#id authority=…}`) and the blank lines, so that what nobody edits comes out byte for byte.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charactery.constitution.character import Character, Section, Trait
from charactery.constitution.formats.slots import (
    HERE, Place, adds_to, align, clean, heading, packed, read, show, splice, unpacked,
)  # fmt: skip
from charactery.constitution.render import document
from charactery.errors import BadData

KEY = "x-spec"
PATH_MARK = " › "
CONTINUED = " (continued)"
_HEADING = re.compile(r"(#{1,6})[ \t]+(.*?)((?:\s+#+)?(?:\s*\{[^{}]*\})?\s*)")
_FENCE = re.compile(r" *(`{3,}|~{3,})(.*)")
_OWN = re.compile(r"\n<!-- charactery\n(.*)\n-->\n\Z", re.DOTALL)


@dataclass(frozen=True)
class _Block:
    """A heading line (empty for what stands above the first) and the text down to the next."""

    line: str
    body: str

    @property
    def level(self) -> int:
        return len(self.line) - len(self.line.lstrip("#"))

    @property
    def title(self) -> str:
        matched = _HEADING.fullmatch(self.line)
        return clean(matched[2]).rstrip("# ") if matched else ""


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
    titled = not clean(blocks[0].body) and len(blocks) > 1 and [b.level for b in blocks].count(1) == 1
    titled = titled and blocks[1].level == 1 and bool(blocks[1].title)
    opening, rest_blocks = (blocks[:2], blocks[2:]) if titled else (blocks[:1], blocks[1:])
    introduction, kept_opening = _shown(opening[-1].body, "introduction", "")
    title = heading(opening[-1].title, set()) if titled else ""
    sections, kept = _sections(rest_blocks)
    extra: dict[str, Any] = {"newline": newline} if newline != "\n" else {}
    extra["opening"] = (
        {"above": opening[0].body, "line": opening[1].line, "shown": title} if titled else {}
    ) | kept_opening
    extra["blocks"] = kept
    if not introduction and not any(s.text or s.traits for s in sections):
        introduction = f"You are {title}." if title else "To be written."
    name = title or path.stem.replace("_", " ").replace("-", " ").strip().title() or "Character"
    return Character(name, introduction, sections, title=title, extra={KEY: extra}, path=path)


def _blocks(text: str) -> list[_Block]:
    """The document cut at its headings; headings in fenced blocks and comments are text."""
    blocks: list[tuple[str, list[str]]] = [("", [])]
    fence, comment = "", False
    for line in text.split("\n"):
        opener = _FENCE.match(line) if not comment else None
        if fence:
            if opener and opener[1].startswith(fence) and not opener[2].strip():
                fence = ""
        elif comment or line.lstrip().startswith("<!--"):
            comment = "-->" not in line
        elif opener:
            fence = opener[1]
        elif (found := _HEADING.fullmatch(line)) and clean(found[2]):
            blocks.append((line, []))
            continue
        blocks[-1][1].append(line)
    return [_Block(line, "\n".join(body)) for line, body in blocks]


def _sections(blocks: list[_Block]) -> tuple[tuple[Section, ...], list[dict[str, Any]]]:
    """Sections and traits, and for each heading shown what is kept of it, in the file's order."""
    sections: list[tuple[str, str, list[Trait]]] = []
    kept: list[dict[str, Any]] = []
    above: list[_Block] = []
    taken: set[str] = set()
    opened: set[str] = set()
    for number, block in enumerate(blocks):
        above = [b for b in above if b.level < block.level]
        group = number + 1 < len(blocks) and blocks[number + 1].level > block.level
        path = PATH_MARK.join(b.title for b in above) or "Principles"
        if group or not above and not group and block.level == min(b.level for b in blocks) and _grouped(blocks):
            above.append(block)
            path = PATH_MARK.join(b.title for b in above)
            text, extra = _shown(block.body, "section", "")
            sections.append((path, text, []))
            opened.add(path)
            kept.append({"shown": path, "line": block.line} | extra)
            continue
        if not sections or sections[-1][0].removesuffix(CONTINUED) != path:
            title = path + CONTINUED if path in opened else path
            sections.append((title, "", []))
            opened.add(path)
            kept.append({"shown": title})
        title = heading(block.title, taken)
        text, extra = _shown(block.body, "trait", f"{title}.")
        sections[-1][2].append(Trait(title, text))
        kept.append({"shown": title, "line": block.line} | extra)
    return tuple(Section(title, text, tuple(traits)) for title, text, traits in sections), kept


def _grouped(blocks: list[_Block]) -> bool:
    """Whether the topmost headings are groups: some have headings below them."""
    return len({block.level for block in blocks}) > 1


def _shown(body: str, place: Place, empty: str) -> tuple[str, dict[str, Any]]:
    """The text for the file, and what to keep: the blank lines round it, or the whole body where more is lost."""
    text = clean(body)
    shown = show(body, place) or empty
    if not text and not empty:
        return "", {} if body == "" else {"body": body}
    at = body.find(text) if text else -1
    if at < 0 or read(shown) != text:
        return shown, {"body": body, **({"empty": shown} if not text else {})}
    around = [body[:at], body[at + len(text) :]]
    if around[0].strip() or around[1].strip():
        return shown, {"body": body}
    return shown, {} if around == ["\n", "\n"] else {"around": around}


def _body(kept: dict[str, Any], current: str, place: Place) -> str:
    """The text below a heading, from what was kept and what the file now says."""
    if "body" not in kept:
        before, after = kept.get("around", ["\n", "\n"])
        return str(before + read(current) + after) if current else ""
    body = str(kept["body"])
    if current == (kept.get("empty") or show(body, place)):
        return body
    if not clean(body):
        return f"\n{read(current)}\n"
    lines = splice(body.split("\n"), read(current).split("\n"), _line)
    return "\n".join(lines)


def _line(line: str) -> str:
    """A line for comparison; a blank one is told from one that shows nothing."""
    return line.rstrip() or HERE


def write_markdown(character: Character) -> str:
    """The character as a markdown document: the one it came from with the edits, else a page for people.

    What the document has no place for travels in a comment at its end.
    """
    text = _document(character)
    imported = KEY in character.extra
    if not imported or adds_to(character, KEY) or character.version != "1" or any(s.notes for s in character.sections):
        escaped = packed(character).replace("&", "&amp;").replace("-->", "--&gt;")
        text += f"\n<!-- charactery\n{escaped}\n-->\n"
    return text


def _document(character: Character) -> str:
    if KEY not in character.extra:
        return document(character)
    known = character.extra[KEY]
    opening, kept = known["opening"], known["blocks"]
    parts = [_opening(opening, character)]
    shown = [(s.title, s.text, None) for s in character.sections for _ in [0]]
    shown = []
    for section in character.sections:
        shown.append((section.title, section.text, None))
        shown += [(trait.title, trait.definition, trait) for trait in section.traits]  # type: ignore[misc]
    level = 2
    for (title, text, trait), at in zip(shown, align([k["shown"] for k in kept], [s[0] for s in shown]), strict=True):
        old = {} if at is None else kept[at]
        if at is not None and "line" not in old:  # a section that only the character file has
            continue
        if at is None:
            line = "#" * (level if trait is None else max(level, 2)) + f" {title}"
        else:
            line = _heading_line(old, title)
            level = len(line) - len(line.lstrip("#"))
        parts.append(line + "\n" + _body(old, text, "section" if trait is None else "trait"))
    return "\n".join(part for part in parts if part is not None).replace("\n", known.get("newline", "\n"))
