"""Pictures and PDF, set by typst in fonts that come along, so that they look the same on every machine.

What is set reaches typst as JSON, so text in it is text: a template decides how it looks, and nothing in it is run.
"""

import json
import unicodedata
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import typst

SCALE = 144  # pixels an inch: two to a point
FONTS = Path(__file__).parent / "fonts"
# In the order in which a letter is looked for. After the emoji, since DejaVu Sans has some of them in black and white.
FAMILIES = {
    "Inter": "Inter_400Regular.ttf", "Noto Sans Hebrew": "NotoSansHebrew-Regular.ttf",
    "Noto Sans Arabic": "NotoSansArabic-Regular.ttf", "Noto Sans Devanagari": "NotoSansDevanagari-Regular.ttf",
    "Noto Sans Thai": "NotoSansThai-Regular.ttf", "Droid Sans Fallback": "DroidSansFallbackFull.ttf",
    "NanumGothic": "NanumGothic_400Regular.ttf", "Noto Color Emoji": "NotoColorEmoji.ttf",
    "DejaVu Sans": "DejaVuSans.ttf",
}  # fmt: skip


def draw(template: Path, data: dict[str, Any], kind: Literal["png", "pdf"], attached: str = "") -> list[bytes]:
    """The pages of a template filled with `data`, as PNG of two pixels a point each; or one PDF of all of them.

    The template finds the data in `sys.inputs.data` as JSON, with `fonts`, the families to set text in, and `lacking`,
    the letters that no font here has; and in `sys.inputs.attached` what goes along and is not set. A machine's own
    fonts are used for what is in none of those that come along.
    """
    text = json.dumps(data, ensure_ascii=False).encode("utf-8", "replace").decode()  # half of a pair is no letter
    here = _not_in_fonts(text)
    lacking = "".join(sorted(here - _in_system_fonts(here))) if here else ""
    filled = json.dumps({**json.loads(text), "fonts": list(FAMILIES), "lacking": lacking}, ensure_ascii=False)
    inputs = {"data": filled, "attached": attached.encode("utf-8", "replace").decode()}
    compiler = typst.Compiler(template, template.parent, _fonts(bool(here)), not here, inputs)
    pages = compiler.compile(format=kind, ppi=SCALE, timestamp=0)
    assert pages is not None  # no `output` was named
    return [pages] if isinstance(pages, bytes) else pages


@lru_cache
def _fonts(system: bool) -> typst.Fonts:
    return typst.Fonts(include_system_fonts=system, include_embedded_fonts=True, font_paths=[FONTS])


def _not_in_fonts(text: str) -> frozenset[str]:
    """The letters in none of the fonts that come along."""
    wanted = {letter for letter in set(text) if _is_drawn(letter)}
    for file in FAMILIES.values():
        if not wanted:
            break
        wanted -= _letters(FONTS / file, 0)
    return frozenset(wanted)


@lru_cache(16)
def _in_system_fonts(wanted: frozenset[str]) -> frozenset[str]:
    """Those of the letters that a font of this machine has."""
    left = set(wanted)
    for font in _fonts(True).fonts():
        if left and font.path and font.weight == 400 and font.style == "normal":
            with suppress(Exception):  # a font that cannot be read is no help, whatever is wrong with it
                left -= _letters(Path(font.path), font.index)
    return wanted - left


@lru_cache(64)
def _letters(path: Path, index: int) -> frozenset[str]:
    from fontTools.ttLib import TTFont

    with TTFont(path, lazy=True, fontNumber=index) as font:
        return frozenset(map(chr, font.getBestCmap() or ()))


def _is_drawn(letter: str) -> bool:
    """Not so what joins and turns its neighbours, chooses between their forms, or is a space."""
    return (
        not letter.isspace() and unicodedata.category(letter) not in ("Cf", "Cc") and not "\ufe00" <= letter <= "\ufe0f"
    )
