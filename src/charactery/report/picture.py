"""Drawings to files: SVG that stands inside a page and takes its colours from it, and PNG. Equal bytes each time."""

import io
import re
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing
from PIL import Image

from charactery.report.palette import VARIABLES
from charactery.runs import disk_error

_SETTINGS = {"svg.hashsalt": "charactery", "svg.fonttype": "none", "font.family": "DejaVu Sans"}


def inline_svg(drawing: Drawing, name: str, alt: str) -> str:
    """A drawing as an `<svg>` element: no namespaces, metadata or fonts of its own, ids that begin with `name`."""
    stream = io.StringIO()
    with matplotlib.rc_context(_SETTINGS):
        drawing.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    opening, rest = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', opening)
    assert box is not None, opening
    rest = rest.replace("xlink:href", "href")
    rest = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', rest)
    rest = re.sub(r'(url\(|href=")#', rf"\1#{name}-", rest)
    rest = re.sub(r"(font: [^;\"']*?[\d.]+px) [^;\"]*", r"\1 var(--font)", rest)
    rest = re.sub(r"font-family: [^;\"]*; ?", "", rest)
    for colour, variable in VARIABLES.items():
        rest = rest.replace(colour, f"var(--{variable})")
    return f'<svg role="img" aria-label="{_attribute(alt)}" {box[0]}>{rest}'


def save_png(drawing: Drawing, path: Path) -> None:
    """A drawing as a PNG on white, two dots to the CSS pixel, of 256 colours: a third of the bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(drawing)
    stream = io.BytesIO()
    with matplotlib.rc_context(_SETTINGS):
        drawing.savefig(stream, format="png", dpi=144, facecolor="white", bbox_inches="tight", pad_inches=0.15)
    try:
        Image.open(stream).convert("RGB").quantize(256).save(path, optimize=True)
    except OSError as error:
        raise disk_error(error, path) from error


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
