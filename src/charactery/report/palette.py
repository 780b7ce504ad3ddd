"""Colours and marks of the subjects, and the frame of a plot. Subjects are told apart by shape too.

The colours are after Okabe & Ito 2008, safe for colour-blind eyes.
The names are the CSS variables that an inline plot takes its colours from, so that it follows dark and light.
"""

from dataclasses import dataclass

from matplotlib.axes import Axes

TEXT, SMALL = 12.5, 11.5  # sizes of letters, in CSS pixels
INK, MUTED, RULE = "#1c1d20", "#6a6b70", "#dcdad4"
VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule"}


@dataclass(frozen=True)
class Look:
    """How a subject is drawn: colour, marker, whether the marker is filled, line style."""

    colour: str
    marker: str
    filled: bool = True
    line: str = "-"


LOOKS = {
    "plain": Look("#75767a", "o"),
    "prompted": Look("#0072b2", "s"),
    "trained": Look("#d55e00", "D"),
    "sham": Look("#8f5aa8", "^", filled=False, line=":"),
}
OTHER = Look("#1c1d21", "v")
VARIABLES |= {look.colour: name for name, look in LOOKS.items()} | {OTHER.colour: "ink"}


def dress(axes: Axes) -> None:
    """The frame of a plot by step or strength: two quiet sides, lines across, few ticks."""
    axes.set_facecolor("none")
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(RULE)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.locator_params(axis="both", nbins=5)
    axes.tick_params(colors=MUTED, color=RULE, labelsize=SMALL, length=3)


def look(subject: str) -> Look:
    """How a subject is drawn."""
    return LOOKS.get(subject, OTHER)
