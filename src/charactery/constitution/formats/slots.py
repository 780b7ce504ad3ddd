"""Foreign text in a character file: how it is shown there, and how it comes back out.

A value that the file can show and give back letter for letter is shown, and the kept card, list or document holds
`HERE` in its place. A value that it cannot (trailing spaces, odd line ends, nothing at all) is kept beside its
shown form and goes out again unless somebody edited that form.
"""

import difflib
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any, Literal

from charactery.constitution.character import Character, Item, Section, Trait, slug
from charactery.constitution.parse import LISTS, dump_character, parse_character
from charactery.errors import BadCharacter, CharacteryError, CharacteryWarning

Place = Literal["introduction", "section", "trait", "note"]
HERE = "(in the text)"
PICTURE = "x-picture"  # the setting that names the picture beside a character file

_PLACES: dict[Place, str] = {
    "introduction": "---\nname: N\n---\n\n{text}\n\n## End\n\n### End\n\nend\n",
    "section": "---\nname: N\n---\n\n## S\n\n{text}\n\n### End\n\nend\n",
    "trait": "---\nname: N\n---\n\n## S\n\n### T\n\n{text}\n\n### End\n\nend\n",
    "note": "---\nname: N\nnotes: [S]\n---\n\n## S\n\n### T\n\n{text}\n\n### End\n\nend\n",
}
_WRAPPED = re.compile(r"(~{3,})text\n(.*)\n\1", re.DOTALL)


def clean(value: str) -> str:
    """Text as a character file can hold it: UTF-8, lines without trailing space, none empty at the ends."""
    text = value.encode("utf-8", "replace").decode("utf-8")  # half a character pair becomes a question mark
    return "\n".join(line.rstrip() for line in text.splitlines()).strip()


def fits(text: str, place: Place) -> bool:
    """Whether the parser gives this text back as it is when it stands in that place of a file."""
    try:
        character = parse_character(_PLACES[place].replace("{text}", text))
    except BadCharacter:
        return False
    end = Trait("End", "end")
    introduction, sections = "", (Section("S", "", (Trait("T", text), end), notes=place == "note"),)
    if place == "introduction":
        introduction, sections = text, (Section("End", "", (end,)),)
    elif place == "section":
        sections = (Section("S", text, (end,)),)
    return (character.title, character.introduction, character.sections) == ("", introduction, sections)


def show(value: str, place: Place) -> str:
    """The value as it stands in the file: as it is where that is safe, else in a fenced block."""
    text = clean(value)
    if not text or (fits(text, place) and read(text) == text):
        return text
    fence = "~" * max(3, 1 + max(map(len, re.findall("~+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"


def read(shown: str) -> str:
    """What text in the file says: the inside of a fenced block made by `show`, else the text."""
    wrapped = _WRAPPED.fullmatch(shown)
    return wrapped[2] if wrapped else shown


def keep(value: str, place: Place) -> str:
    """What the front matter holds of a shown value: HERE, or the value where showing it loses something."""
    return HERE if value and read(show(value, place)) == value else value


def restore(kept: Any, current: str, place: Place) -> Any:
    """The value to export, from what was kept and the text that now stands in the file."""
    if not isinstance(kept, str):  # null, or a value of the wrong type: never shown
        return read(current) if current else kept
    return kept if kept != HERE and show(kept, place) == current else read(current)


def one_line(text: str) -> str:
    """Text as an item of a list, which is one line."""
    return " ".join(clean(text).split())


def item_text(item: Item) -> str:
    """A list's item as it is written, its mark included."""
    return f"[{item.end}] {item.text}" if item.end else item.text


def heading(text: str, taken: set[str], words: int | None = None) -> str:
    """A heading made of text (its first words, or all), with an id not in `taken`, which it joins."""
    title = one_line(text) if words is None else " ".join(re.findall(r"[^\W_][\w'’-]*", clean(text))[:words])
    title = title[: 60 if words else 200].rstrip("# ") or "Untitled"
    title = title[0].upper() + title[1:] if words else title
    numbers = chain([2 if slug(title) else 1], count(len(taken) + 1))
    numbered = chain([title], (f"{title} {number}" for number in numbers))
    found = next(candidate for candidate in numbered if slug(candidate) and slug(candidate) not in taken)
    taken.add(slug(found))
    return found


def align(kept: Sequence[str], current: Sequence[str]) -> list[int | None]:
    """For each current heading the kept one it is: the same words, or, where one gap has as many, the renamed one."""
    free = {title: [n for n, other in enumerate(kept) if other == title] for title in kept}
    found: list[int | None] = [free[title].pop(0) if free.get(title) else None for title in current]
    matcher = difflib.SequenceMatcher(None, list(kept), list(current), autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "replace" and i2 - i1 == j2 - j1:
            for old, new in zip(range(i1, i2), range(j1, j2), strict=True):
                if found[new] is None and old not in found:
                    found[new] = old
    return found


def splice(originals: Sequence[str], shown: Sequence[str | None], current: Sequence[str]) -> list[str]:
    """Current items, each as its original where it still reads as it was shown; originals not shown (None) stay."""
    visible = [n for n, text in enumerate(shown) if text is not None]
    matcher = difflib.SequenceMatcher(None, [shown[n] for n in visible], list(current), autojunk=False)
    out: list[str] = []
    position = 0  # in originals
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "insert":
            out += current[j1:j2]
            continue
        end = visible[i2 - 1] + 1
        hidden = [originals[n] for n in range(position, end) if n not in visible[i1:i2]]
        out += originals[position:end] if tag == "equal" else [*hidden, *current[j1:j2]]
        position = end
    return [*out, *originals[position:]]


def adds_to(character: Character, key: str, held: tuple[str, ...] = ()) -> bool:
    """Whether there is more in the character than the format that it was imported from (under `key`) has room for.

    `held` names the fields of traits that the format holds.
    """
    if set(character.extra) - {PICTURE} != {key}:
        return True
    plain, bare = Character(character.name), Trait("")
    settings = ("summary", "language", "mix", "dials", "profiles", "writings", "others", "about")
    if any(getattr(character, name) != getattr(plain, name) for name in settings):
        return True
    fields = [name for name in ("because", "weight", "dial", *LISTS) if name not in held]
    traits = [trait for section in character.sections for trait in section.traits]
    return any(getattr(trait, name) != getattr(bare, name) for trait in traits for name in fields)


def packed(character: Character) -> str:
    """The whole character file, to travel inside another format."""
    kept = {name: value for name, value in character.extra.items() if name != PICTURE}
    return dump_character(replace(character, extra=kept))


def unpacked(text: Any, source: Path, agrees: Callable[[Character], bool]) -> Character | None:
    """The character that travelled inside another format, where it still agrees with what stands around it.

    Warns and gives None where the surroundings were edited since, so that the edit counts and not the old copy.
    """
    if isinstance(text, str):
        try:
            character = replace(parse_character(text), path=source)
            if agrees(character):
                return character
        except (CharacteryError, KeyError, TypeError, AttributeError, IndexError, ValueError):
            pass  # not as Charactery wrote it
    warnings.warn(
        f"{source}: was edited since Charactery wrote it. The edits are taken; the dials, reasons and prompts that "
        "this format has no place for are not. They are still in the character file it was written from",
        CharacteryWarning,
        stacklevel=2,
    )
    return None
