"""Dots with whiskers in rows: a group of rows per condition or trait, in it one row per subject.

Laid out in CSS pixels (72 to matplotlib's inch), so that text has the same size at every width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from charactery.report.numbers import short_interval
from charactery.report.palette import INK, MUTED, RULE, SMALL, TEXT, Look, look
from charactery.stats import Estimate

NARROW = 500  # below this width a group's label stands above its rows, not left of them
LETTER = 7.2  # a generous width of one letter of TEXT


@dataclass(frozen=True)
class Group:
    """A labelled group of rows, each a subject and its estimate."""

    label: str
    points: tuple[tuple[str, Estimate], ...]


@dataclass(frozen=True)
class Axis:
    """The value axis. `low` and `high` are its ends, None to fit the whiskers; `reference` is a line in it."""

    label: str
    low: float | None = None
    high: float | None = None
    reference: float | None = None
    percent: bool = False


@dataclass(frozen=True)
class _Layout:
    width: int
    listed: bool  # each row with its subject's name and its value; else rows close together under a key

    @property
    def narrow(self) -> bool:
        return self.width < NARROW

    @property
    def pitch(self) -> float:
        return 22.0 if self.listed else 11.0

    @property
    def top(self) -> float:
        return 8.0 if self.listed else 30.0

    bottom = 46.0


def forest(
    groups: Sequence[Group], axis: Axis, width: int, listed: bool = True, looks: Mapping[str, Look] | None = None
) -> Drawing:
    """Draw groups of estimates at a width in CSS pixels. `listed` names every row and writes its value beside it.

    `looks` are the colours and marks of subjects that are not plain, prompted, trained or sham.
    """
    worn = {subject: look(subject) for group in groups for subject, _ in group.points} | dict(looks or {})
    layout = _Layout(width, listed)
    rows, labels, rules, inner = _rows(groups, layout)
    left, right = _margins(groups, layout, axis.percent)
    height = layout.top + inner + layout.bottom
    drawing = Drawing(figsize=(width / 72, height / 72), dpi=72)
    box = (left / width, layout.bottom / height, (width - left - right) / width, inner / height)
    axes = drawing.add_axes(box)
    axes.set_facecolor("none")
    axes.set_ylim(inner, 0)
    axes.set_xlim(*_ends(groups, axis))
    _dress(axes, axis, layout.narrow)
    for y in rules:
        axes.plot([-left / (width - left - right), 1 + right / (width - left - right)], [y, y],
                  transform=axes.get_yaxis_transform(), color=RULE, linewidth=0.8, clip_on=False)  # fmt: skip
    if axis.reference is not None:
        axes.axvline(axis.reference, color=MUTED, linewidth=1)
    for y, text in labels:
        _label(axes, 4, y, text, left, bold=listed)
    for y, subject, estimate in rows:
        _row(axes, y, worn[subject], estimate)
        if listed:
            indent = 4 if layout.narrow else left - 12
            _label(axes, indent, y, subject, left, align="left" if layout.narrow else "right", colour=MUTED)
            said = short_interval(estimate, axis.percent)
            axes.annotate(said, (1, y), (right - 2, 0), xycoords=axes.get_yaxis_transform(),
                          textcoords="offset points", ha="right", va="center", fontsize=SMALL, color=INK,
                          annotation_clip=False)  # fmt: skip
    if not listed:
        _key(drawing, worn, left, layout)
    return drawing


def _rows(
    groups: Sequence[Group], layout: _Layout
) -> tuple[list[tuple[float, str, Estimate]], list[tuple[float, str]], list[float], float]:
    """Heights in pixels from the top: (rows, group labels, rules between groups, whole height)."""
    rows: list[tuple[float, str, Estimate]] = []
    labels: list[tuple[float, str]] = []
    rules: list[float] = []
    y, gap = 0.0, 7.0
    for group in groups:
        if rows:
            rules.append(y)
        y += gap
        if layout.narrow and group.label:
            labels.append((y + 9, group.label))
            y += 20
        elif group.label:
            first = y + layout.pitch / 2
            labels.append((first if layout.listed else y + layout.pitch * len(group.points) / 2, group.label))
        for subject, estimate in group.points:
            rows.append((y + layout.pitch / 2, subject, estimate))
            y += layout.pitch
        y += gap
    return rows, labels, rules, y


def _margins(groups: Sequence[Group], layout: _Layout, percent: bool) -> tuple[float, float]:
    subjects = max((len(subject) for group in groups for subject, _ in group.points), default=0)
    words = max((len(group.label) for group in groups), default=0)
    said = max((len(short_interval(e, percent)) for group in groups for _, e in group.points), default=0)
    left = 0.0 if layout.narrow else min(words * LETTER + 22, layout.width * 0.42)
    if layout.listed:
        left += subjects * LETTER + 18
    return max(left, 16), said * 6.4 + 22 if layout.listed else 18


def _ends(groups: Sequence[Group], axis: Axis) -> tuple[float, float]:
    known = [end for group in groups for _, e in group.points for end in (e.low, e.high, e.value) if end is not None]
    if axis.reference is not None:
        known.append(axis.reference)
    low, high = min(known, default=0.0), max(known, default=1.0)
    room = 0.05 * ((high - low) or 1)
    return (low - room if axis.low is None else axis.low, high + room if axis.high is None else axis.high)


def _dress(axes: Axes, axis: Axis, narrow: bool) -> None:
    axes.set_yticks([])
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.locator_params(axis="x", nbins=4 if narrow else 6)
    axes.tick_params(axis="x", colors=MUTED, labelsize=SMALL, length=3, color=RULE)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    if axis.percent:
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    axes.set_xlabel(axis.label, color=MUTED, fontsize=SMALL, labelpad=6)


def _label(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    left: float,
    bold: bool = False,
    align: str = "left",
    colour: str = INK,
) -> None:
    """Text `x` pixels from the drawing's left edge."""
    axes.annotate(text, (0, y), (x - left, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
                  ha=align, va="center", fontsize=TEXT, color=colour, fontweight="bold" if bold else "normal",
                  annotation_clip=False)  # fmt: skip


def _row(axes: Axes, y: float, how: Look, estimate: Estimate) -> None:
    if estimate.value is None:
        return
    if estimate.low is not None and estimate.high is not None:
        axes.plot([estimate.low, estimate.high], [y, y], color=how.colour, linewidth=2, linestyle=how.line,
                  solid_capstyle="round", clip_on=False)  # fmt: skip
    axes.plot([estimate.value], [y], marker=how.marker, markersize=6.5, color=how.colour, markeredgewidth=1.4,
              markerfacecolor=how.colour if how.filled else "none", clip_on=False)  # fmt: skip


def _key(drawing: Drawing, worn: Mapping[str, Look], left: float, layout: _Layout) -> None:
    handles = [
        Line2D([], [], color=how.colour, linestyle=how.line, marker=how.marker, linewidth=2, markersize=6,
               markerfacecolor=how.colour if how.filled else "none", label=name)
        for name, how in worn.items()
    ]  # fmt: skip
    drawing.legend(handles=handles, loc="upper left", bbox_to_anchor=(0 if layout.narrow else left / layout.width, 1),
                   ncols=len(worn), frameon=False, fontsize=SMALL, labelcolor=INK, handlelength=1.6,
                   columnspacing=1.2 if layout.narrow else 1.8, handletextpad=0.5, borderaxespad=0.2)  # fmt: skip
