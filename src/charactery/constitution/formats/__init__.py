"""Other people's formats for characters: read them as a character file, and write a character file as one of them.

What goes where, and what is kept how: docs/formats.md. A format is a file in this folder.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import yaml

from charactery.constitution.character import Character
from charactery.constitution.formats import card, card_picture, markdown, open_character_training, png
from charactery.constitution.formats.json_text import parse_json
from charactery.constitution.formats.slots import PICTURE
from charactery.constitution.parse import MAX_BYTES, dump_character, load_character, parse_character
from charactery.errors import BadCharacter, BadData

__all__ = ["FORMATS", "export_character", "import_character", "write_import"]

MAX_PICTURE, MAX_TEXT = 100_000_000, 20_000_000  # bytes

_OTHER = {
    b"PK\x03\x04": "is a zip file. A CHARX card is one: unpack it and import the `card.json` inside",
    b"\xff\xd8\xff": "is a JPEG picture. Cards travel in PNG pictures; get the original PNG or the JSON",
    b"RIFF": "is no text and no PNG. Cards travel in PNG pictures; get the original PNG or the JSON",
    b"GIF8": "is a GIF picture. Cards travel in PNG pictures; get the original PNG or the JSON",
    b"%PDF": "is a PDF file. Save its text as markdown and import that",
}

FORMATS: dict[str, str] = {
    "card": "character card as it came (version 2 if it came otherwise), .json or .png",
    "card-v2": "character card version 2, .json or .png",
    "card-v3": "character card version 3, .json or .png",
    "open-character-training": "list of traits and questions, .json or .txt; lines in .jsonl",
    "markdown": "constitution with headings, .md",
}


def import_character(path: Path | str) -> Character:
    """Read a character in any known format, told by its content; our own format too.

    What the character file cannot say is kept in a setting that begins with `x-`. Raises BadData for a file that is
    missing, too large, damaged or in no known format, BadCharacter for one of our own files that has a fault.
    """
    path = Path(path)
    data = _bytes(path)
    if data.startswith(png.SIGNATURE):
        return _loadable(card_picture.read_png(data, path))
    for start, message in _OTHER.items():
        if data.startswith(start):
            raise BadData(message, path)
    if len(data) > MAX_TEXT:
        raise BadData(f"is {len(data) / 1e6:.0f} MB; a character is text. Is it the right file?", path)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadData(f"is not UTF-8 text (byte {error.start}). Save it as UTF-8", path) from None
    return _loadable(_from_text(text, path))


def _bytes(path: Path) -> bytes:
    if path.is_dir():
        raise BadData("is a folder; give a file", path)
    try:
        if path.stat().st_size > MAX_PICTURE:
            raise BadData(
                f"is {path.stat().st_size / 1e6:.0f} MB; no character is that large. Is it the right file?", path
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise BadData("no such file", path) from None
    except OSError as error:
        raise BadData(f"cannot be read: {error.strerror}", path) from None
    if not data.strip():
        raise BadData("is empty; there is no character in it", path)
    return data


def _from_text(text: str, path: Path) -> Character:
    bare = text.removeprefix("\ufeff")
    if bare.lstrip().startswith(("{", "[")):
        return _from_json(bare, path)
    if _is_native(bare):
        return load_character(path)
    return markdown.read_markdown(text, path)


def _from_json(text: str, path: Path) -> Character:
    """A card, a list of traits, or lines of traits. Markdown may begin with a bracket too."""
    if path.suffix.lower() in (".md", ".markdown"):
        return markdown.read_markdown(text, path)
    rows = [row for row in text.split("\n") if row.strip()]
    if len(rows) > 1 and all(row.lstrip().startswith("{") and row.rstrip().endswith("}") for row in rows):
        return open_character_training.read_list(text, path)
    value = parse_json(text, path)
    if isinstance(value, list) or open_character_training.looks_like([value]):
        return open_character_training.read_list(text, path)
    if card.looks_like(value):
        return card.read_card(text, path)
    raise BadData(
        "is JSON, but neither a character card (an object with `name` and `description`) nor an Open Character "
        "Training list (entries with `trait` and `questions`)",
        path,
    )


def _is_native(text: str) -> bool:
    """Whether text begins with settings that have a name: our own format, with faults or not."""
    lines = text.split("\n")
    if lines[0].strip() != "---":
        return False
    end = next((n for n, line in enumerate(lines[1:], 1) if line.strip() == "---"), None)
    try:
        settings = yaml.safe_load("\n".join(lines[1:end]))
    except (yaml.YAMLError, RecursionError, ValueError):
        return any(line.startswith("name:") for line in lines[1:end])
    return isinstance(settings, dict) and "name" in settings


def _loadable(character: Character) -> Character:
    """The character, once it is certain that its file can be written and read."""
    text = dump_character(character)
    if len(text.encode("utf-8")) > MAX_BYTES:
        raise BadData(
            f"makes a character file of {len(text) / 1e6:.1f} MB; at most {MAX_BYTES / 1e6:.0f} MB can be read. "
            "Take out pictures that are inside it as text (`assets`), or parts of the lorebook",
            character.path,
        )
    if parse_character(text, character.path) != character:
        raise BadData("holds text that a character file cannot hold; please report this file", character.path)
    return character


def write_import(path_in: Path | str, path_out: Path | str) -> Character:
    """Import a file and write it as a character file, the picture of a PNG card beside it. Returns what was written.

    Raises BadData where one of the files to write is there already, and what `import_character` raises.
    """
    path_in, path_out = Path(path_in), Path(path_out)
    character = import_character(path_in)
    side: Path | None = None
    if path_in.read_bytes().startswith(png.SIGNATURE):
        side = path_out.with_suffix(".png")
        character = replace(character, extra={**character.extra, PICTURE: side.name})
    if side is not None and side.exists() and side.samefile(path_in):
        side = None
    for path in filter(None, (path_out, side)):
        if path.exists():
            raise BadData("is there already; choose another name, or move it away", path)
    if side is not None:
        _write(side, path_in.read_bytes(), overwrite=False)
    _write(path_out, dump_character(character).encode(), overwrite=False)
    return load_character(path_out)


def export_character(
    character: Character, out: Path | str, format: str | None = None, *, overwrite: bool = False
) -> Path:
    """Write a character in another format, by name (see FORMATS) or told by the suffix of `out`. Returns `out`.

    Raises BadData for a format that is not known, or a file that is there already unless `overwrite`; BadCharacter
    for a character that the format cannot hold.
    """
    out = Path(out)
    writer = _writer(character, out, format or _format(character, out))
    if out.exists() and not overwrite:
        raise BadData("is there already; choose another name, or move it away", out)
    kept = [key for key in (card.KEY, open_character_training.KEY, markdown.KEY) if key in character.extra]
    try:
        data = writer()
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        if not kept:
            raise
        raise BadCharacter(
            f"the setting `{kept[0]}`, which keeps what came from the imported file, was changed so that it cannot be "
            f"used ({type(error).__name__}: {error}). Import the file again",
            character.path,
            character.lines.get(kept[0]),
        ) from error
    _write(out, data, overwrite)
    return out


def _format(character: Character, out: Path) -> str:
    """The format that a suffix means for this character."""
    suffix = out.suffix.lower()
    if suffix in (".json", ".txt") and open_character_training.KEY in character.extra:
        return "open-character-training"
    found = {".json": "card", ".png": "card", ".jsonl": "open-character-training"}
    found |= dict.fromkeys((".md", ".markdown", ".txt"), "markdown")
    if suffix not in found:
        raise BadData(
            f"no format goes with the ending {suffix!r}; use one of {', '.join(found)}, or name a format", out
        )
    return found[suffix]


def _writer(character: Character, out: Path, format: str) -> Callable[[], bytes]:
    if format not in FORMATS:
        raise BadData(f"no format {format!r}; the formats are {', '.join(FORMATS)}")
    if format == "markdown":
        return lambda: markdown.write_markdown(character).encode()
    if format == "open-character-training":
        lines = {".jsonl": True, ".json": False}.get(out.suffix.lower())
        return lambda: open_character_training.write_list(character, lines).encode()
    version = None if format == "card" else format
    if out.suffix.lower() == ".png":
        return lambda: card_picture.write_png(character, version)
    return lambda: card.write_card(character, version).encode()


def _write(path: Path, data: bytes, overwrite: bool) -> None:
    """Write a file whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not overwrite:
            with path.open("xb") as file:
                file.write(data)
            return
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise BadData(f"cannot be written: {error.strerror}", path) from None
