"""Character cards, versions 1, 2 and 3, as JSON and inside PNG pictures.

Formats: github.com/malfoyslastname/character-card-spec-v2 (and spec_v1.md there) and
github.com/kwaroran/character-card-spec-v3. What goes where in a character file: docs/formats.md.
"""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from charactery.constitution.character import Character, Section, Trait
from charactery.constitution.formats.card_lists import (
    GREETINGS,
    LANGUAGES,
    LOREBOOK,
    lorebook_back,
    lorebook_section,
    texts_back,
    texts_section,
)
from charactery.constitution.formats.card_personality import PERSONALITY, personality_back, personality_section
from charactery.constitution.formats.json_text import Style, parse_json
from charactery.constitution.formats.slots import (
    HERE,
    adds_to,
    keep,
    one_line,
    packed,
    restore,
    show,
    unpacked,
)
from charactery.constitution.parse import LISTS
from charactery.errors import BadData

KEY = "x-card"
OWN = "charactery"  # the extension that carries what a card has no place for
SPECS = {"card-v2": ("chara_card_v2", "2.0"), "card-v3": ("chara_card_v3", "3.0")}
TEXTS = {  # field: (heading, whether it is a note, which never reaches the model)
    "scenario": ("Scenario", False),
    "first_mes": ("First message", True),
    "mes_example": ("Example messages", True),
    "system_prompt": ("System prompt", True),
    "post_history_instructions": ("Post-history instructions", True),
    "creator_notes": ("Creator's notes", True),
}
V1 = ("name", "description", "personality", "scenario", "first_mes", "mes_example")


def looks_like(value: Any) -> bool:
    """Whether a JSON value is a card of any version."""
    if not isinstance(value, dict):
        return False
    if str(value.get("spec", "")).startswith("chara_card") or isinstance(value.get("data"), dict):
        return True
    return "name" in value and any(field in value for field in V1[1:])


def read_card(text: str, path: Path) -> Character:
    """The character in a card's JSON. Raises BadData for JSON that is no card."""
    character = to_character(parse_json(text, path), path)
    if KEY in character.extra:
        character.extra[KEY]["style"] = Style.of(text).as_dict()
    return character


def card_data(card: Any, path: Path | None) -> dict[str, Any]:
    """The object that holds a card's fields."""
    if not isinstance(card, dict):
        raise BadData("is JSON, but no character card: a card is an object with `name` and `description`", path)
    data = card.get("data", card if looks_like(card) else None)
    if not isinstance(data, dict) or not isinstance(data.get("name", ""), str):
        raise BadData("is no character card: `data` should hold `name`, `description` and other texts", path)
    return data


def to_character(card: Any, path: Path) -> Character:
    """The character that a card describes. Raises BadData where the card's shape is wrong."""
    data = card_data(card, path)
    extensions = data.get("extensions")
    if isinstance(extensions, dict) and OWN in extensions:
        card = copy.deepcopy(card)
        native = card_data(card, path)["extensions"].pop(OWN)
        if found := unpacked(native, path, lambda character: _agrees(character, card, path)):
            return _with_unknown(found, card, path)
    return _foreign(card, path)


def _agrees(character: Character, card: dict[str, Any], path: Path) -> bool:
    """Whether the card still says what this character does; fields that other programs add do not count."""
    ours, theirs = card_data(to_card(character, _spec_of(card), own=False), path), card_data(card, path)
    return all(theirs.get(field) == value for field, value in ours.items() if field != "extensions")


def _with_unknown(character: Character, card: dict[str, Any], path: Path) -> Character:
    """The character with what other programs added to its card since."""
    if to_card(character, _spec_of(card), own=False) == card:
        return character
    return replace(character, extra={**character.extra, **_foreign(card, path).extra})


def _spec_of(card: dict[str, Any]) -> str | None:
    return next((name for name, (spec, _) in SPECS.items() if card.get("spec") == spec), None)


def _foreign(card: dict[str, Any], path: Path) -> Character:
    """The character in a card, every field from the card's own."""
    kept = copy.deepcopy(card)
    data = card_data(kept, path)
    titles: dict[str, list[str]] = {}
    mirrored = [f for f in V1 if data is not kept and f in data and f in kept and kept[f] == data[f]]
    name = one_line(_text(data, "name")) or one_line(path.stem) or "Unnamed"
    introduction = show(_text(data, "description"), "introduction")
    version = _text(data, "character_version").strip() or "1"
    sections = _sections(data, titles)
    if not introduction and not any(s.text or s.traits for s in sections):
        introduction = show(f"You are {name}.", "introduction")
    _keep(data, "name", name)
    _keep(data, "character_version", version)
    if description := _text(data, "description"):
        data["description"] = keep(description, "introduction")
    for field in mirrored:
        kept[field] = HERE
    odd = {} if data.get("name") == HERE else {"shown_name": name}  # a name that the file cannot say
    extra = {KEY: {"card": kept, "headings": titles, "mirrored": mirrored} | odd}
    return Character(name, introduction, tuple(sections), version=version, extra=extra, path=path)


def _text(data: dict[str, Any], field: str) -> str:
    value = data.get(field)
    return value if isinstance(value, str) else ""


def _keep(data: dict[str, Any], field: str, shown: str) -> None:
    if data.get(field) == shown:
        data[field] = HERE


def _sections(data: dict[str, Any], titles: dict[str, list[str]]) -> list[Section]:
    """The sections for a card's fields; what they show becomes HERE in `data`."""
    section, personality, titles["personality"] = personality_section(data.get("personality"))
    found = [section]
    if "personality" in data:
        data["personality"] = personality
    for field, (title, notes) in TEXTS.items():
        if value := _text(data, field):
            shown = show(value, "section")
            found.append(Section(title, shown, notes=notes) if shown else None)
            data[field] = keep(value, "section")
        if field == "first_mes":
            for name, label in GREETINGS.items():
                if name in data:
                    section, data[name] = texts_section(label, data[name])
                    found.append(section)
        if field == "mes_example" and LOREBOOK[0] in data:
            section, data[LOREBOOK[0]], titles["lorebook"] = lorebook_section(data[LOREBOOK[0]])
            found.append(section)
    if LANGUAGES[0] in data:
        section, data[LANGUAGES[0]] = texts_section(LANGUAGES[1], data[LANGUAGES[0]])
        found.append(section)
    return [section for section in found if section is not None]


def _section(character: Character, title: str) -> Section | None:
    return next((s for s in character.sections if s.title.lower() == title.lower()), None)


def to_card(character: Character, format: str | None = None, own: bool = True) -> dict[str, Any]:
    """The character as a card of the version it came from, or of `format` ('card-v2', 'card-v3').

    With `own`, what a card has no place for goes into `extensions.charactery`.
    """
    known = character.extra.get(KEY, {})
    card: dict[str, Any] = copy.deepcopy(known["card"]) if known else _blank(character, format)
    if known:
        card = _converted(card, format)
    data, titles = card_data(card, character.path), known.get("headings", {})
    if character.name != known.get("shown_name"):
        data["name"] = character.name
    _put(data, "character_version", character.version, "1")
    _put_description(data, character)
    fields = {title.lower() for title, _ in TEXTS.values()}
    personality = personality_back(data.get("personality"), titles.get("personality", []), character, fields)
    if personality is not None or "personality" in data:
        data["personality"] = personality
    _put_texts(data, character)
    _put_lists(data, titles, character, card.get("spec") == SPECS["card-v3"][0])
    for field in known.get("mirrored", []):
        card[field] = data[field]
    if own and (not known or _adds(character)):
        data["extensions"] = {**(data.get("extensions") or {}), OWN: packed(character)}
    return card


def _put(data: dict[str, Any], field: str, current: str, default: str) -> None:
    """A one-line field: the kept value where the file says the same."""
    kept = data.get(field)
    shown = (kept.strip() if isinstance(kept, str) else "") or default
    if kept == HERE or current != shown:
        data[field] = current


def _put_description(data: dict[str, Any], character: Character) -> None:
    stand_in = KEY in character.extra and not data.get("description")
    stand_in = stand_in and character.introduction == show(f"You are {character.name}.", "introduction")
    current = "" if stand_in else character.introduction
    if current or "description" in data:
        data["description"] = restore(data.get("description"), current, "introduction")


def _put_texts(data: dict[str, Any], character: Character) -> None:
    for field, (title, _) in TEXTS.items():
        section = _section(character, title)
        if section or (KEY in character.extra and field in data):
            text = section.text if section else ""
            if section and section.traits:  # somebody gave it headings of its own
                text = "\n\n".join(filter(None, [text, *(f"{t.title}\n{t.definition}" for t in section.traits)]))
            data[field] = restore(data.get(field), text, "section")


def _put_lists(data: dict[str, Any], titles: dict[str, list[str]], character: Character, v3: bool) -> None:
    for field, title in (*GREETINGS.items(), LANGUAGES):
        section = _section(character, title)
        if section or field in data:
            kept = data.get(field)
            if section and not isinstance(kept, list | dict):
                kept = {} if field == LANGUAGES[0] else []
            data[field] = texts_back(kept, section)
    section = _section(character, LOREBOOK[1])
    if section or LOREBOOK[0] in data:
        data[LOREBOOK[0]] = lorebook_back(data.get(LOREBOOK[0]), titles.get("lorebook", []), section, v3)


def _adds(character: Character) -> bool:
    """Whether an imported character now holds something that a card has no place for."""
    slots = {title for title, _ in TEXTS.values()} | {*GREETINGS.values(), LANGUAGES[1], LOREBOOK[1], PERSONALITY}
    other = any(s.title not in slots or (s.title == PERSONALITY and s.text) for s in character.sections)
    return other or adds_to(character, KEY) or bool(character.title)


def _blank(character: Character, format: str | None) -> dict[str, Any]:
    """A card for a character that did not come as one, with examples of its speech."""
    spec, version = SPECS[format or "card-v2"]
    spoken = [f"<START>\n{{{{char}}}}: {text}" for t in character.traits() for text in _first_shows(character, t)]
    data: dict[str, Any] = {"name": HERE, "description": "", "personality": "", "scenario": "", "first_mes": ""}
    data |= {"mes_example": "\n".join(spoken), "creator_notes": character.summary, "system_prompt": ""}
    data |= {"post_history_instructions": "", "alternate_greetings": [], "tags": [], "creator": ""}
    data |= {"character_version": HERE, "extensions": {}}
    if spec == SPECS["card-v3"][0]:
        data["group_only_greetings"] = []
    return {"spec": spec, "spec_version": version, "data": data}


def _first_shows(character: Character, trait: Trait) -> list[str]:
    return [" ".join(text.split()) for text in character.items(trait, LISTS[0])[:2]]


def _converted(card: dict[str, Any], format: str | None) -> dict[str, Any]:
    """A card as another version of the format; fields that the other version does not know are kept."""
    if format is None or format not in SPECS or _spec_of(card) == format:
        return card
    spec, version = SPECS[format]
    data = card["data"] if isinstance(card.get("data"), dict) else {k: v for k, v in card.items() if k != "spec"}
    rest = {k: v for k, v in card.items() if k not in ("spec", "spec_version", "data")} if "data" in card else {}
    for field, default in _blank(Character(""), format)["data"].items():
        data.setdefault(field, default if default != HERE else None)
    if data.get("character_version") is None:
        data["character_version"] = ""
    return {"spec": spec, "spec_version": version, "data": data, **rest}


def write_card(character: Character, format: str | None = None) -> str:
    """The card as JSON, in the style it came in."""
    style = character.extra.get(KEY, {}).get("style")
    return (Style.kept(style) if style else Style()).write(to_card(character, format))
