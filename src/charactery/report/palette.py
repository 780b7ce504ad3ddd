"""Colours and marks of the subjects, told apart by shape too. After Okabe & Ito 2008, safe for colour-blind eyes.

The names are the CSS variables that an inline plot takes its colours from, so that it follows dark and light.
"""

from dataclasses import dataclass

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


def look(subject: str) -> Look:
    """How a subject is drawn."""
    return LOOKS.get(subject, OTHER)
