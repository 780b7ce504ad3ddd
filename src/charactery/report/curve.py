"""Figures along a row of Subjects, such as the checkpoints of a training: a panel a metric, whiskers its intervals."""

import math
from collections.abc import Sequence

from matplotlib.figure import Figure as Drawing

from charactery.evals.comparison import Compared
from charactery.report.palette import INK, MUTED, SMALL, TEXT, dress, look

WIDTH, TALL, MARGIN = 760, 220, 64  # CSS pixels: of the picture, of a panel, and below it for the names


def curve(rows: Sequence[Compared], subjects: Sequence[str]) -> Drawing:
    """Draw every metric along the Subjects, two panels beside each other."""
    across = min(2, len(rows))
    down = math.ceil(len(rows) / across)
    height, cell = down * (TALL + MARGIN), WIDTH / across
    drawing = Drawing(figsize=(WIDTH / 72, height / 72), dpi=72)
    places = {subject: n for n, subject in enumerate(subjects)}
    how = look("trained")
    for n, row in enumerate(rows):
        left, bottom = (n % across) * cell + 46, height - (n // across + 1) * (TALL + MARGIN) + MARGIN + 8
        axes = drawing.add_axes((left / WIDTH, bottom / height, (cell - 60) / WIDTH, (TALL - 44) / height))
        dress(axes)
        axes.set_title(_titled(row), loc="left", fontsize=TEXT, color=INK, fontweight="bold", pad=8)
        told = [(places[s], row.estimates[s]) for s in subjects if s in row.estimates]
        values = [e.value for _, e in told if e.value is not None]
        axes.plot(
            [x for x, e in told if e.value is not None],
            values,
            color=how.colour,
            linewidth=1.4,
            marker="o",
            markersize=4,
        )
        for x, e in told:
            if e.low is not None and e.high is not None:
                axes.vlines(x, e.low, e.high, color=how.colour, linewidth=1.2)
        if row.kind == "rate":
            axes.set_ylim(-0.03, 1.03)
        axes.set_xlim(-0.5, len(subjects) - 0.5)
        axes.set_xticks(range(len(subjects)), [_end(s) for s in subjects], rotation=30, ha="right", fontsize=SMALL,
                        color=MUTED)  # fmt: skip
    return drawing


def _titled(row: Compared) -> str:
    return f"{row.metric} ({row.unit})" if row.unit else row.metric


def _end(subject: str) -> str:
    """What of a name tells it apart along a row: the stage and step of a run, else the end of its path."""
    return subject.rpartition(":")[2] if ":" in subject else subject.rpartition("/")[2]
