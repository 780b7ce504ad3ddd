"""A drawn plate for a card without a picture: name, a line about the character, and a pattern that is its own."""

import hashlib
from pathlib import Path

from charactery.constitution.character import Character
from charactery.typeset import draw

TEMPLATE = Path(__file__).parent / "plate.typ"
NAME, LINE = 80, 160  # letters that are shown


def plate(character: Character) -> bytes:
    """A PNG of 800 by 1200 pixels. The same character has the same plate: all of it is drawn from the name's hash and
    the summary."""
    digest = hashlib.sha256(character.name.encode("utf-8", "replace")).digest()
    name, line = _shortened(character.name, NAME) or "?", _shortened(character.summary, LINE)
    (picture,) = draw(TEMPLATE, {"name": name, "line": line, "hash": list(digest)}, "png")
    return picture


def _shortened(text: str, most: int) -> str:
    """Words in one line, those that are too long with places to break."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    text = text if len(text) <= most else text[: most - 1].rstrip() + "…"
    return " ".join(word if len(word) <= 12 else "\u200b".join(word) for word in text.split(" "))
