"""Character cards inside PNG pictures: the picture stays, only the card's text in it changes.

A card is JSON as base64 in a text chunk, `chara` for version 2 and `ccv3` for version 3.
"""

import base64
import binascii
import copy
from pathlib import Path
from typing import Any

from charactery.constitution.character import Character
from charactery.constitution.formats import png
from charactery.constitution.formats.card import SPECS, V1, card_data, to_card, to_character
from charactery.constitution.formats.json_text import Style, parse_json
from charactery.constitution.formats.plate import plate
from charactery.constitution.formats.slots import PICTURE
from charactery.errors import BadCharacter, BadData

CHUNKS = ("ccv3", "chara")  # the first wins where a picture holds both


def read_png(data: bytes, path: Path) -> Character:
    """The character in a PNG card. Raises BadData for a picture that is damaged or holds no card."""
    cards = _cards(png.chunks(data, path), path)
    if not cards:
        raise BadData(
            "is a picture without a card in it. Cards are exported as PNG by the program they are made in", path
        )
    name = next(name for name in CHUNKS if name in cards)
    return to_character(cards[name], path)


def _cards(parts: list[png.Chunk], path: Path) -> dict[str, Any]:
    """The cards in a picture, by the keyword of their chunk; the first of each."""
    found: dict[str, Any] = {}
    for part in parts:
        name = png.keyword(part)
        if name in CHUNKS and name not in found:
            found[name] = parse_json(_decoded(png.text(part, path), path), path)
    return found


def _decoded(data: bytes, path: Path) -> str:
    """The JSON text in a chunk: base64 as the specification says, or bare, as some programs write it."""
    packed_text = b"".join(data.split())
    try:
        if not packed_text.startswith(b"{"):
            data = base64.b64decode(packed_text + b"=" * (-len(packed_text) % 4), validate=True)
        return data.decode("utf-8-sig")
    except (binascii.Error, UnicodeDecodeError):
        raise BadData("holds a card that is damaged (its base64 text cannot be read). Export it again", path) from None


def write_png(character: Character, format: str | None = None) -> bytes:
    """The card in its picture, other chunks and pixels untouched; in a drawn plate where it has none.

    Raises BadCharacter where the picture that belongs to the character is gone.
    """
    card = to_card(character, format)
    source = picture(character)
    data = source.read_bytes() if source else plate(character)
    parts = png.chunks(data, source)
    old = _cards(parts, source or Path(character.name)) if source else {}
    names = _chunk_names(card, old, format)
    changed = {name: _for_chunk(name, names, card, old) for name in names}
    texts = {name: _encoded(value) for name, value in changed.items() if name not in old or value != old[name]}
    gone = {name for name in old if name not in names}
    if not texts and not gone:
        return data
    return png.join(png.with_texts([p for p in parts if png.keyword(p) not in gone], texts))


def _chunk_names(card: dict[str, Any], old: dict[str, Any], format: str | None) -> list[str]:
    """The chunks to write: those of the picture, or the one of the card's version."""
    wanted = "ccv3" if card.get("spec") == SPECS["card-v3"][0] else "chara"
    return [name for name in CHUNKS if name in old] if format is None and old else [wanted]


def _for_chunk(name: str, names: list[str], card: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """The card for one chunk. A picture with both versions gets the edits of the first in the second as well."""
    if name == names[0] or name not in old or not isinstance(old[name], dict):
        return card
    second: dict[str, Any] = copy.deepcopy(old[name])
    before = card_data(old[names[0]], None)
    data, now = card_data(second, None), card_data(card, None)
    for field in {*before, *now}:
        if before.get(field) != now.get(field) and data.get(field) == before.get(field):
            if field in now:
                data[field] = now[field]
            else:
                data.pop(field, None)
            if data is not second and field in V1 and second.get(field) == before.get(field):
                second[field] = now.get(field)
    return second


def _encoded(card: dict[str, Any]) -> bytes:
    return base64.b64encode(Style(None, spaced=False, end="").write(card).encode())


def picture(character: Character) -> Path | None:
    """The picture that belongs to a character: beside its file, or the PNG it was just imported from.

    Raises BadCharacter where the file names a picture that is not there.
    """
    if character.path is None:
        return None
    if name := character.extra.get(PICTURE):
        found = character.path.with_name(Path(str(name)).name)
        if not found.is_file():
            raise BadCharacter(
                f"its picture {found.name} is not beside it. Put it back, or take `{PICTURE}:` out of "
                "the settings to have a plain one drawn",
                character.path,
            )
        return found
    return character.path if character.path.suffix.lower() == ".png" and character.path.is_file() else None
