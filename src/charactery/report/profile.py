"""A profile: several traits from left to right, and a line through each subject's figures."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure as Drawing

from charactery.report.forest import NARROW, Group
from charactery.report.palette import INK, MUTED, SMALL, Look, dress, look

HEIGHT = 300  # CSS pixels
APART = 0.07  # of the way from one trait to the next, between the marks of two subjects


def profile(
    groups: Sequence[Group], label: str, width: int, looks: Mapping[str, Look], middle: float | None = None
) -> Drawing:
    """Draw groups, one a trait, at a width in CSS pixels; whiskers are the intervals, `middle` a line across.

    What was not measured breaks its subject's line.
    """
    drawing = Drawing(figsize=(width / 72, HEIGHT / 72), dpi=72)
    axes = drawing.add_axes((56 / width, 0.26, 1 - 72 / width, 0.62))
    dress(axes)
    if middle is not None:
        axes.axhline(middle, color=MUTED, linewidth=1)
    names = list(dict.fromkeys(name for group in groups for name, _ in group.points))
    for n, name in enumerate(names):
        how = looks.get(name, look(name))
        found = [dict(group.points).get(name) for group in groups]
        places = [place + APART * (n - (len(names) - 1) / 2) for place in range(len(groups))]
        heights = [float("nan") if e is None or e.value is None else e.value for e in found]
        axes.plot(places, heights, color=how.colour, linestyle=how.line, linewidth=1.6, marker=how.marker, markersize=6,
                  markerfacecolor=how.colour if how.filled else "none", label=name)  # fmt: skip
        for place, e in zip(places, found, strict=True):
            if e is not None and e.low is not None and e.high is not None:
                axes.plot([place, place], [e.low, e.high], color=how.colour, linewidth=1)
    words = [group.label.rpartition(": ")[2] for group in groups]
    axes.set_xticks(range(len(groups)), words, rotation=0 if width >= NARROW and len(words) < 6 else 25,
                    ha="center" if width >= NARROW and len(words) < 6 else "right", fontsize=SMALL)  # fmt: skip
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.set_ylabel(label, color=MUTED, fontsize=SMALL)
    drawing.legend(loc="upper left", ncols=len(names), frameon=False, fontsize=SMALL, labelcolor=INK,
                   handlelength=1.6, columnspacing=1.2)  # fmt: skip
    return drawing
