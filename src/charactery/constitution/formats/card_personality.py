"""A card's personality, which is one text, as traits in a character file, and back.

An imported personality is cut into traits and kept whole; an edited trait is put into its place in the old text.
"""

import re
from typing import Any

from charactery.constitution.character import Character, Section, Trait
from charactery.constitution.formats.slots import HERE, align, heading, keep, read, show
from charactery.constitution.render import trait_words

PERSONALITY = "Personality"
MOST = 60  # traits; a longer personality stays whole


def pieces(text: str) -> list[str]:
    """A personality cut into traits: separators at even places (first and last may be empty), traits at odd ones.

    Lines are traits; so are the parts of a list with commas, if each is at most four words. Text with brackets
    (attribute lists such as W++) stays whole.
    """
    body = text.strip()
    at = text.find(body)
    cut = [body]
    if not re.search(r"[\[\]{}]", body):
        cut = re.split(r"(\n\s*(?:[-*•]\s+)?)", body)
        if len(cut) == 1 and all(0 < len(part.split()) <= 4 for part in re.split(r"[,;]", body.rstrip("."))):
            cut = re.split(r"([,;]\s*)", body)
    if len(cut) > 2 * MOST:
        cut = [body]
    bullet = re.match(r"[-*•]\s+", cut[0])
    before = bullet[0] if bullet and len(cut) > 1 else ""
    return [text[:at] + before, cut[0][len(before) :], *cut[1:], text[at + len(body) :]]


def personality_section(value: Any) -> tuple[Section | None, Any, list[str]]:
    """A section for a personality, what is kept of the text, and the heading of each trait."""
    if not isinstance(value, str) or not value.strip():
        return None, value, []
    taken: set[str] = set()
    parts = pieces(value)[1::2]
    traits = [Trait(heading(part, taken, words=6), show(part, "trait") or HERE) for part in parts]
    kept = keep(value, "trait") if len(parts) == 1 else value
    return Section(PERSONALITY, traits=tuple(traits)), kept, [trait.title for trait in traits]


def personality_back(kept: Any, titles: list[str], character: Character, fields: set[str]) -> Any:
    """The personality that the character's traits now tell, in the old text where that is known.

    `fields` are the headings, in small letters, of sections that belong to other fields of the card.
    """
    section = next((s for s in character.sections if titles and s.title.lower() == PERSONALITY.lower()), None)
    others = [s for s in character.sections if s is not section and not s.notes and s.title.lower() not in fields]
    told = [line for other in others for line in _telling(character, other)]
    if not isinstance(kept, str):
        return "\n".join(told) if told else kept
    traits = section.traits if section else ()
    found = align(titles, [trait.title for trait in traits])
    old = ["", HERE, ""] if kept == HERE else pieces(kept)
    by_place = {at: trait for trait, at in zip(traits, found, strict=True) if at is not None}
    out: list[str] = []
    for place, piece in enumerate(old[1::2]) if titles else []:
        if place in by_place:
            shown = by_place[place].definition
            same = kept != HERE and (show(piece, "trait") or HERE) == shown
            out += [old[2 * place] if out or not place else old[0], piece if same else read(shown)]
    between = old[2] if len(old) > 3 else "\n"
    for trait in [t for t, at in zip(traits, found, strict=True) if at is None]:
        out += [between if out else old[0], read(trait.definition) or trait.title]
    for line in told:
        out += ["\n" if out else "", line]
    return "".join([*out, old[-1]]) if out else ("" if titles else kept)


def _telling(character: Character, section: Section) -> list[str]:
    """What a section that no field of a card is for says to the model, one line a trait."""
    lines = [" ".join(section.text.split())] if section.text else []
    return lines + [f"{t.title}: {trait_words(character, t, mix=0)}" for t in section.traits if t.weight > 0]
