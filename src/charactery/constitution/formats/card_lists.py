"""The lists of a character card in a character file: greetings, notes in other languages, the lorebook.

Each list is a section of notes with a `###` heading per entry. For each there is a function that makes the section
(and puts `HERE` for what it shows into the kept card) and one that puts the section back into a card.
"""

from collections.abc import Sequence
from typing import Any

from charactery.constitution.character import Section, Trait
from charactery.constitution.formats.slots import HERE, align, clean, heading, keep, one_line, read, restore, show

GREETINGS = {"alternate_greetings": "Alternate greetings", "group_only_greetings": "Group greetings"}
LANGUAGES = ("creator_notes_multilingual", "Creator's notes in other languages")
LOREBOOK = ("character_book", "Lorebook")
KEYS = {"keys": "Keys:", "secondary_keys": "Secondary keys:"}


def texts_section(title: str, kept: Any) -> tuple[Section | None, Any]:
    """A section for a list of texts or texts by language, and what is kept of it; None where it is of another shape."""
    pairs = _pairs(kept)
    if not pairs or not all(isinstance(text, str) for _, text in pairs):
        return None, kept
    notes = tuple(Trait(name, show(text, "note")) for name, text in pairs)
    left = [keep(text, "note") for _, text in pairs]
    return Section(title, traits=notes, notes=True), left if isinstance(kept, list) else dict(
        zip(kept, left, strict=True)
    )


def texts_back(kept: Any, section: Section | None) -> Any:
    """The list of texts, or texts by language, that the section now holds."""
    pairs = _pairs(kept)
    if section is None:
        shown = pairs and all(isinstance(text, str) for _, text in pairs)
        return type(kept)() if shown else kept
    found = align([name for name, _ in pairs], [note.title for note in section.traits])
    texts = [
        read(note.definition) if at is None else restore(pairs[at][1], note.definition, "note")
        for note, at in zip(section.traits, found, strict=True)
    ]
    if not isinstance(kept, dict):
        return texts
    names = list(kept)
    keys = [
        note.title if at is None else _renamed(names[at], pairs[at][0], note.title)
        for note, at in zip(section.traits, found, strict=True)
    ]
    return dict(zip(keys, texts, strict=True))


def _renamed(key: str, shown: str, current: str) -> str:
    return key if shown == current else current


def _pairs(kept: Any) -> list[tuple[str, Any]]:
    """Each text with its heading."""
    if isinstance(kept, list):
        return [(f"Greeting {number}", text) for number, text in enumerate(kept, 1)]
    taken: set[str] = set()
    return [(heading(key, taken), text) for key, text in kept.items()] if isinstance(kept, dict) else []


def lorebook_section(kept: Any) -> tuple[Section | None, Any, list[str]]:
    """A section for the lorebook, what is kept of the book, and the heading of each entry."""
    if not isinstance(kept, dict) or not _shows(kept.get("entries")):
        return None, kept, []
    taken: set[str] = set()
    titles, notes, entries = [], [], []
    for number, entry in enumerate(kept["entries"], 1):
        titles.append(heading(_name(entry, number), taken))
        notes.append(Trait(titles[-1], _entry_text(entry)))
        entries.append(_kept_entry(entry))
    book = {**kept, "entries": entries}
    text = ""
    if isinstance(kept.get("description"), str):
        text, book["description"] = show(kept["description"], "section"), keep(kept["description"], "section")
    section = Section(LOREBOOK[1], text, tuple(notes), notes=True)
    return (section if notes or text else None), book, titles


def lorebook_back(kept: Any, titles: Sequence[str], section: Section | None, regex: bool) -> Any:
    """The lorebook that the section now holds; `regex` says whether a new entry says that it has no pattern (V3)."""
    if not isinstance(kept, dict):
        if section is None:
            return kept
        kept = {"extensions": {}, "entries": []}
    if section is None and not _shows(kept.get("entries")):
        return kept
    section = section or Section(LOREBOOK[1])
    book = dict(kept)
    if section.text or "description" in kept:
        book["description"] = restore(kept.get("description", ""), section.text, "section")
    found = align(titles, [note.title for note in section.traits])
    book["entries"] = [
        _new_entry(note, number, regex) if at is None else _entry_back(kept["entries"][at], titles[at], note)
        for number, (note, at) in enumerate(zip(section.traits, found, strict=True), 1)
    ]
    return book


def _shows(entries: Any) -> bool:
    return isinstance(entries, list) and all(isinstance(e, dict) and isinstance(e.get("content"), str) for e in entries)


def _named_by(entry: dict[str, Any]) -> str | None:
    """The field that gives an entry its heading."""
    return next((field for field in ("name", "comment") if isinstance(v := entry.get(field), str) and clean(v)), None)


def _name(entry: dict[str, Any], number: int) -> str:
    field = _named_by(entry)
    return str(entry[field]) if field else _keys(entry.get("keys")).split(", ")[0] or f"Entry {number}"


def _keys(value: Any) -> str:
    """Keys on one line, empty where they are no list of texts."""
    fine = isinstance(value, list) and all(isinstance(key, str) for key in value)
    return ", ".join(filter(None, map(one_line, value))) if fine else ""


def _split(line: str) -> list[str]:
    return [key.strip() for key in line.split(",") if key.strip()]


def _entry_text(entry: dict[str, Any]) -> str:
    lines = [f"{KEYS['keys']} {_keys(entry.get('keys'))}".strip()]
    if secondary := _keys(entry.get("secondary_keys")):
        lines.append(f"{KEYS['secondary_keys']} {secondary}")
    return "\n\n".join(filter(None, ["\n".join(lines), show(entry["content"], "note")]))


def _kept_entry(entry: dict[str, Any]) -> dict[str, Any]:
    kept = {**entry, "content": keep(entry["content"], "note")}
    for field in KEYS:
        if entry.get(field) and _split(_keys(entry[field])) == entry[field]:
            kept[field] = HERE
    return kept


def _parts(text: str) -> tuple[dict[str, str], str]:
    """The lines of keys of an entry, and its content."""
    lines, found = text.split("\n"), {}
    while lines and (field := next((f for f in KEYS if lines[0].startswith(KEYS[f]) and f not in found), None)):
        found[field] = lines.pop(0)[len(KEYS[field]) :].strip()
    return found, "\n".join(lines).strip()


def _entry_back(kept: dict[str, Any], title: str, note: Trait) -> dict[str, Any]:
    entry = dict(kept)
    lines, content = _parts(note.definition)
    entry["content"] = restore(kept["content"], content, "note")
    for field in KEYS:
        line, old = lines.get(field, ""), kept.get(field)
        if old == HERE or (line != _keys(old)):
            entry[field] = _split(line)
    if note.title != title:
        entry[_named_by(kept) or "name"] = note.title
    return entry


def _new_entry(note: Trait, number: int, regex: bool) -> dict[str, Any]:
    lines, content = _parts(note.definition)
    entry: dict[str, Any] = {field: _split(line) for field, line in lines.items()}
    entry |= {"keys": entry.get("keys") or [note.title], "content": read(content), "extensions": {}, "enabled": True}
    return entry | {"insertion_order": number, "name": note.title} | ({"use_regex": False} if regex else {})
