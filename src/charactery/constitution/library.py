"""The characters that come with Charactery, and finding one by name or path."""

import difflib
import os
from pathlib import Path

from charactery.constitution.character import Character
from charactery.constitution.parse import load_character
from charactery.errors import BadCharacter

BUNDLED = Path(__file__).parent.parent / "characters"


def bundled_names() -> list[str]:
    """Names of the bundled characters, in alphabetical order."""
    return sorted(p.stem for p in BUNDLED.glob("*.md") if p.stem != "README" and not p.stem.startswith("_"))


def find_character(name: str) -> Character:
    """A character by path or bundled name; an existing path wins.

    Raises BadCharacter for a name that is neither, or a file that cannot be read as a character.
    """
    path = Path(name)
    if os.path.isfile(name) or path.suffix == ".md" or "/" in name:
        return load_character(path)
    if name in bundled_names() or name == "_template":
        return load_character(BUNDLED / f"{name}.md")
    near = difflib.get_close_matches(name, bundled_names(), 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise BadCharacter(
        f"no character {name!r}: it is no file and no bundled character ({', '.join(bundled_names())}).{hint} "
        "`charactery init NAME` writes one to start from"
    )


def foil_characters() -> list[Character]:
    """The characters that the judges compare with, by file name."""
    return [load_character(path) for path in sorted((BUNDLED / "foils").glob("*.md"))]
