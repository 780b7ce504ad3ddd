"""Open Character Training's constitutions: a JSON list, or JSON lines, of traits with the questions that show them.

Format: github.com/maiush/OpenCharacterTraining, `constitutions/hand-written/*.txt` (`trait`, `questions`, sometimes
`clarification`) and `constitutions/few-shot/*.jsonl`, which adds `additional_questions`. Paper: arXiv 2511.01689.
"""

from pathlib import Path
from typing import Any

from charactery.constitution.character import Character, Item, Section, Trait
from charactery.constitution.formats.json_text import Style, parse_json
from charactery.constitution.formats.slots import (
    HERE,
    adds_to,
    align,
    clean,
    heading,
    item_text,
    keep,
    one_line,
    packed,
    restore,
    show,
    splice,
    unpacked,
)
from charactery.constitution.parse import parse_character
from charactery.errors import BadCharacter, BadData

KEY = "x-oct"
OWN = "charactery"  # the key of the first entry that carries what the format has no place for
QUESTIONS = ("questions", "additional_questions")
UNWRITTEN = "To be written."  # stands for an empty trait, since a trait in a character file says something


def looks_like(value: Any) -> bool:
    """Whether a JSON value is such a list."""
    return isinstance(value, list) and any(isinstance(entry, dict) and "trait" in entry for entry in value)


def read_list(text: str, path: Path) -> Character:
    """The character in a JSON list or JSON lines. Raises BadData for another shape."""
    if text.lstrip().startswith("["):
        return to_character(parse_json(text, path), Style.of(text), False, path)
    rows = [(n, row) for n, row in enumerate(text.split("\n"), 1) if row.strip()]
    entries = [parse_json(row, path, n) for n, row in rows]
    style = Style.of(rows[0][1])
    end = "\n" if text.endswith("\n") else ""
    return to_character(entries, Style(None, style.spaced, "\\u" in text and text.isascii(), end), True, path)


def to_character(entries: Any, style: Style, lines: bool, path: Path) -> Character:
    """The character that the entries describe, one trait each, questions under `asks`."""
    _check(entries, path)
    if OWN in entries[0]:
        first = dict(entries[0])
        entries = [first, *entries[1:]]
        native = first.pop(OWN)
        if found := unpacked(native, path, lambda character: _entries(character) == entries):
            return found
    taken: set[str] = set()
    traits, kept = [], []
    for entry in entries:
        title = heading(entry["trait"] or "Trait", taken, words=7)
        definition = show(entry["trait"], "trait") or UNWRITTEN
        asks = [Item(q) for q in map(one_line, _questions(entry)) if q]
        trait = Trait(title, definition, asks=tuple(asks))
        traits.append(_as_parsed(trait))
        kept.append({"heading": title, "entry": _kept(entry)})
    extra = {KEY: {"style": style.as_dict(), "lines": lines, "traits": kept}}
    name = one_line(path.stem.replace("_", " ").replace("-", " ")).title() or "Character"
    return Character(name, sections=(Section("Traits", traits=tuple(traits)),), extra=extra, path=path)


def _as_parsed(trait: Trait) -> Trait:
    """The trait with items read as a file reads them: `[low]` at the front is a mark."""
    items = "\n".join(f"- {item.text}" for item in trait.asks)
    if not items:
        return trait
    parsed = parse_character(f"---\nname: N\n---\n\n## S\n\n### T\n\nt\n\nasks:\n{items}\n").sections[0].traits[0]
    kept = tuple(item for item in parsed.asks)
    return Trait(trait.title, trait.definition, asks=kept)


def _check(entries: Any, path: Path) -> None:
    if not isinstance(entries, list) or not entries:
        raise BadData("holds no traits; it should be a list of entries with `trait` and `questions`", path)
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or not isinstance(entry.get("trait"), str):
            raise BadData(f'entry {number} has no `trait`; each is {{"trait": "…", "questions": ["…"]}}', path)
        for name in QUESTIONS:
            value = entry.get(name, [])
            if not isinstance(value, list) or not all(isinstance(question, str) for question in value):
                raise BadData(f"entry {number}: `{name}` is a list of texts", path)


def _questions(entry: dict[str, Any]) -> list[str]:
    return [question for name in QUESTIONS for question in entry.get(name, [])]


def _shown(question: str) -> str:
    """A question as the file gives it back."""
    text = one_line(question)
    return item_text(_as_parsed(Trait("T", "t", asks=(Item(text),))).asks[0]) if text else ""


def _kept(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry for the front matter: what the file shows left out; a number where so many questions are shown."""
    kept = {**entry, "trait": keep(entry["trait"], "trait")}
    for name in QUESTIONS:
        together = name == "questions" and "additional_questions" in entry  # told apart by knowing the first ones
        if name in entry and not together and all(_shown(q) == q and q for q in entry[name]):
            kept[name] = len(entry[name])
    return kept


def write_list(character: Character, lines: bool | None = None) -> str:
    """The character as such a list; `lines` for JSON lines, default as it came.

    Raises BadCharacter for a character without traits.
    """
    known = character.extra.get(KEY, {})
    entries = _entries(character)
    if not entries:
        raise BadCharacter("has no traits, and an Open Character Training list holds nothing else", character.path)
    if adds_to(character, KEY, ("asks",)) or character.introduction or character.version != "1" or _other(character):
        entries[0] = {**entries[0], OWN: packed(character)}
    style = Style.kept(known["style"]) if known else Style(indent=4)
    lines = known.get("lines", False) if lines is None else lines
    if not lines:
        return Style(style.indent or 4, style.spaced, style.ascii, style.end).write(entries)
    row = Style(None, style.spaced, style.ascii, "")
    return "\n".join(row.write(entry) for entry in entries) + (style.end if known.get("lines") else "\n")


def _other(character: Character) -> bool:
    """Whether there are sections beside the imported one, or text in it."""
    return [(s.title, s.text, s.notes) for s in character.sections] != [("Traits", "", False)] or bool(character.title)


def _entries(character: Character) -> list[dict[str, Any]]:
    known = character.extra.get(KEY, {}).get("traits", [])
    traits = list(character.traits())
    found = align([kept["heading"] for kept in known], [trait.title for trait in traits])
    blank = {"trait": HERE, "questions": 0}
    return [_entry(blank if at is None else known[at]["entry"], trait) for trait, at in zip(traits, found, strict=True)]


def _entry(kept: dict[str, Any], trait: Trait) -> dict[str, Any]:
    """One entry with what the file now says."""
    entry = dict(kept)
    unwritten = kept["trait"] != HERE and not clean(kept["trait"]) and trait.definition == UNWRITTEN
    if not unwritten:
        entry["trait"] = restore(kept["trait"], trait.definition or trait.title, "trait")
    asks = [item_text(item) for item in trait.asks]
    groups = [name for name in QUESTIONS if name in kept] or (["questions"] if asks else [])
    if not groups:
        return entry
    cut = _cut(kept, asks) if len(groups) == 2 else len(asks)
    for name, current in zip(groups, (asks[:cut], asks[cut:]), strict=False):
        originals = kept.get(name, 0)
        entry[name] = (
            current
            if isinstance(originals, int)
            else splice(originals, [_shown(q) or None for q in originals], current)
        )
    return entry


def _cut(kept: dict[str, Any], asks: list[str]) -> int:
    """How many of the prompts are `questions`; the rest are `additional_questions`."""
    first = [shown for shown in map(_shown, kept["questions"]) if shown]
    more = kept["additional_questions"]
    if len(asks) == len(first) + (more if isinstance(more, int) else sum(1 for q in more if _shown(q))):
        return len(first)
    return max((n + 1 for n, ask in enumerate(asks) if ask in first), default=0)
