"""The character file: read it, turn its dials, render it, find fault with it, bring others' formats in and out."""

from charactery.constitution.character import Character, Dial, Item, Profile, Section, Trait, slug
from charactery.constitution.library import BUNDLED, find_character, foil_characters
from charactery.constitution.parse import dump_character, load_character, parse_character
from charactery.constitution.render import document, rubric, system_prompt

__all__ = [
    "BUNDLED", "Character", "Dial", "Item", "Profile", "Section", "Trait", "document", "dump_character",
    "find_character", "foil_characters", "load_character", "parse_character", "rubric", "slug", "system_prompt",
]  # fmt: skip
