"""Formulae in TeX as outlines, as far as matplotlib's mathtext goes; nothing of LaTeX is run."""

import re
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

SIZE = 14.0  # points
LONGEST = 400  # letters of a formula; more is no formula
DEEPEST = 12  # braces within braces
_PARSING = Lock()  # mathtext has one parser, which remembers where it is

# What mathtext has under another name, and what is about size and place alone
_KNOWN_AS = {
    r"\implies": r"\Rightarrow", r"\iff": r"\Leftrightarrow", r"\gets": r"\leftarrow", r"\le": r"\leq", r"\ge": r"\geq",
    r"\lt": "<", r"\gt": ">", r"\land": r"\wedge", r"\lor": r"\vee", r"\lVert": r"\|", r"\rVert": r"\|",
    r"\textbf": r"\mathbf", r"\tfrac": r"\frac",
    **dict.fromkeys(
        r"\displaystyle \limits \nolimits \nonumber \big \Big \bigg \Bigg \bigl \bigr \Bigl \Bigr".split(), ""
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Formula:
    """An SVG in the colour of the text around it, in points; `depth` is what of it lies under the line."""

    svg: str
    width: float
    height: float
    depth: float


@lru_cache(512)
def formula(tex: str, displayed: bool = False) -> Formula | None:
    """A formula drawn, large where it is `displayed` on a line of its own; None for what mathtext does not know, and
    that is to be shown as it is written.

    What mathtext takes: matplotlib.org/stable/users/explain/text/mathtext.html.
    """
    known_letters = all(letter < "\u0500" or "\u2000" <= letter < "\u2300" for letter in tex)  # else it draws boxes
    if not tex or len(tex) > LONGEST or "$" in tex or _depth(tex) > DEEPEST or not known_letters:
        return None
    from matplotlib.path import Path
    from matplotlib.textpath import TextPath

    signs = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}
    names = {**_KNOWN_AS, **({r"\frac": r"\dfrac"} if displayed else {})}
    known = re.sub(r"\\[a-zA-Z]+", lambda name: names.get(name[0], name[0]), " ".join(tex.split()))
    try:
        with _PARSING:
            outline = TextPath((0, 0), f"${known}$", size=SIZE, usetex=False)
    except (ValueError, RecursionError, AttributeError):  # the last is matplotlib's where nothing is to be drawn
        return None
    if not len(outline.vertices):
        return None
    left, bottom, right, top = outline.get_extents().padded(1).extents
    steps = [
        signs[code] + ("" if code == Path.CLOSEPOLY else " ".join(f"{value:.2f}" for value in points))
        for points, code in outline.iter_segments(curves=True, simplify=False)
    ]
    box = f"{left:.2f} {-top:.2f} {right - left:.2f} {top - bottom:.2f}"
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">'
        f'<path transform="scale(1 -1)" fill="currentColor" d="{"".join(steps)}"/></svg>'
    )
    return Formula(svg, float(right - left), float(top - bottom), float(-bottom))


def _depth(tex: str) -> int:
    deepest = depth = 0
    for sign in tex:
        depth += (sign == "{") - (sign == "}")
        deepest = max(deepest, depth)
    return deepest
