"""A transcript as pictures to paste anywhere, or as a PDF. The recipe is at the foot of them and, whole, inside."""

import hashlib
import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

from charactery import __version__
from charactery.constitution.formats import png
from charactery.share.markdown import blocks, direction, plain, runs
from charactery.share.transcript import Recipe, Said, Transcript
from charactery.typeset import draw

TEMPLATE = Path(__file__).parent / "templates" / "transcript.typ"
RECIPE = "charactery recipe"  # keyword of the text chunk
TALLEST = 2000  # points of a picture, of 2 pixels each; what is longer goes on in another
MARGIN = 36
COLOURS = {
    "light": {
        "paper": "#fdfcfa", "card": "#ffffff", "ink": "#1c1d20", "muted": "#62636a", "rule": "#dfddd7",
        "wash": "#f4f2ed",
        "link": "#00578a", "mark": "#cfe5f3", "code": "#efece5",
        "green": "#3b6e22", "violet": "#7b3fa0",
    },
    "dark": {
        "paper": "#16171a", "card": "#1c1d21", "ink": "#e8e6e1", "muted": "#a09fa5", "rule": "#35363c",
        "wash": "#202126",
        "link": "#5ab4e6", "mark": "#1d4560", "code": "#292a31",
        "green": "#9ccc7c", "violet": "#c9a0e8",
    },
}  # fmt: skip


def as_pictures(shared: Transcript, dark: bool = False) -> list[bytes]:
    """PNG files of two pixels a point, at most TALLEST points tall and broken between turns where that can be.

    The last has the recipe at its foot, and all of it as JSON in an iTXt chunk named RECIPE.
    """
    width = {0: 600, 1: 600, 2: 800}.get(len(shared.columns), 1000)
    paper = {"kind": "tall", "width": width, "height": TALLEST, "margin": MARGIN}
    *before, last = map(_cropped, draw(TEMPLATE, _filled(shared, dark, paper), "png", shared.recipe))
    if shared.recipe:
        text = RECIPE.encode() + b"\0\1\0\0\0" + zlib.compress(shared.recipe.encode("utf-8", "replace"))
        header, *rest = png.chunks(last)
        last = png.join([header, (b"iTXt", text), *rest])
    return [*before, last]


def _cropped(picture: bytes) -> bytes:
    """A picture of full height without what is empty below: a turn over several ends somewhere in the last."""
    with Image.open(io.BytesIO(picture)) as image:
        if image.height < 2 * TALLEST:
            return picture
        drawn = ImageChops.difference(
            image.convert("RGB"), Image.new("RGB", image.size, image.getpixel((0, 0)))
        ).getbbox()
        height = (drawn[3] if drawn else 0) + 2 * MARGIN
        if height >= image.height:
            return picture
        out = io.BytesIO()
        image.crop((0, 0, image.width, height)).save(out, "PNG")
    return out.getvalue()


def as_pdf(shared: Transcript, dark: bool = False) -> bytes:
    """Pages of A4, upright, or across where more than two answers lie side by side; the recipe is attached as JSON."""
    width, height = (842, 595) if len(shared.columns) > 2 else (595, 842)
    paper = {"kind": "sheets", "width": width, "height": height, "margin": 48}
    (whole,) = draw(TEMPLATE, _filled(shared, dark, paper), "pdf", shared.recipe)
    return whole


def _filled(shared: Transcript, dark: bool, paper: dict[str, Any]) -> dict[str, Any]:
    """What the template is filled with. Answers side by side are plain text, since their marks go across its markup."""
    beside = [_said(said, plain(said.parts)) for said in shared.columns]
    most = 2 if len(beside) in (2, 4) else 3
    how = _how([*shared.turns, *shared.columns])
    inside = "The file holds all of it as JSON. " if how else ""
    return {
        "title": shared.title, "shown": runs(shared.title), "colours": COLOURS["dark" if dark else "light"],
        "paper": paper, "turns": [_said(said, blocks(said.text)) for said in shared.turns],
        "rows": [beside[n : n + most] for n in range(0, len(beside), most)],
        "how": [runs(line) for line in how],
        "made": f"{inside}Made with Charactery {__version__}. The models' words are drawn by a machine.",
    }  # fmt: skip


def _said(said: Said, text: list[dict[str, Any]]) -> dict[str, Any]:
    about = " · ".join(filter(None, [said.ended, said.time]))
    return {
        "role": said.role, "name": runs(said.name), "about": about, "blocks": text,
        "marks": [{"runs": runs(mark), "dir": direction(mark)} for mark in said.marks],
    }  # fmt: skip


def _how(answers: Sequence[Said]) -> list[str]:
    """How answers were drawn, a line for those that differ in nothing but seed and prompt."""
    lines: dict[str, list[int | None]] = {}
    prompts: dict[str, str] = {}
    read = before = ""
    for said in answers:
        if (recipe := said.recipe) is None:
            continue
        line = _line(said.name, recipe)
        lines.setdefault(line, []).append(recipe.seed)
        if recipe.prompt:
            read = before[: recipe.prompt.kept] + recipe.prompt.rest
            before = before if said.parts else read  # answers side by side go on from the same one
            digest = hashlib.sha256(read.encode("utf-8", "replace")).hexdigest()[:16]
            prompts[line] = f", last prompt {len(read):,} letters with SHA-256 {digest}"
    return [
        f"{line}{prompts.get(line, '')}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
        for line, seeds in lines.items()
    ]


def _line(name: str, recipe: Recipe) -> str:
    facts = {"weights": recipe.weights, **recipe.made_of, **recipe.sampler}
    begun = [f"begun with {recipe.prefill!r}"] if recipe.prefill else []
    return f"{name}: " + ", ".join([*(f"{key.replace('_', ' ')} {value}" for key, value in facts.items()), *begun])
