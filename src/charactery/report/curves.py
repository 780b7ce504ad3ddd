"""Training curves: what was logged per step, one panel per measure, the sham run dotted in the same panel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from charactery.report.forest import NARROW
from charactery.report.palette import INK, MUTED, SMALL, TEXT, dress, look


@dataclass(frozen=True)
class Line:
    """A subject's values by step."""

    subject: str
    steps: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """One measure: a title and a line for each subject trained."""

    title: str
    lines: tuple[Line, ...]


def curves(panels: Sequence[Panel], width: int) -> Drawing:
    """Draw panels at a width in CSS pixels, two beside each other where there is room."""
    across = 1 if width < NARROW else min(2, len(panels))
    down = math.ceil(len(panels) / across)
    height = down * 190
    drawing = Drawing(figsize=(width / 72, height / 72), dpi=72)
    for index, panel in enumerate(panels):
        column, row = index % across, index // across
        cell = width / across
        left, bottom = (column * cell + 46) / width, (height - (row + 1) * 190 + 40) / height
        axes = drawing.add_axes((left, bottom, (cell - 64) / width, (190 - 72) / height))
        _panel(axes, panel)
    return drawing


def _panel(axes: Axes, panel: Panel) -> None:
    dress(axes)
    axes.set_title(panel.title, loc="left", fontsize=TEXT, color=INK, fontweight="bold", pad=8)
    for line in panel.lines:
        how = look(line.subject)
        mark = how.marker if len(line.steps) == 1 else ""  # one point is no line
        axes.plot(line.steps, line.values, color=how.colour, linestyle=how.line, linewidth=1.6, marker=mark)
    axes.set_xlabel("step", color=MUTED, fontsize=SMALL, loc="right", labelpad=3)
