"""The section on strength: what shows of the character, and what it costs, as the adapter is turned up."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from charactery.report.blocks import Block, Plot, Table
from charactery.report.figures import read_estimate
from charactery.report.files import read_json
from charactery.report.forest import NARROW
from charactery.report.numbers import short_interval
from charactery.report.palette import INK, LOOKS, MUTED, SMALL, TEXT, dress
from charactery.report.source import Source
from charactery.stats import Estimate

SERIES = (  # metric, condition, what it is called, the colour it borrows
    ("rate", "turn 1", "held-out", "trained"),
    ("rate", "elsewhere", "elsewhere", "plain"),
    ("bits per byte ratio", "chat frame", "chat frame", "sham"),
    ("bits per byte ratio", "prose", "prose", "prompted"),
)


@dataclass(frozen=True)
class Series:
    """One measure by strength."""

    name: str
    colour: str
    points: tuple[tuple[float, Estimate], ...]


def strength(source: Source) -> tuple[Block, ...]:
    """Trait against cost, where `charactery strength` has measured it."""
    path = source.run.folder / "strength" / "figures.json"
    rows: list[dict[str, Any]] = read_json(path) or []
    if not rows:
        return ()
    by_key = {(r["metric"], r["condition"], r["strength"]): read_estimate(r["estimate"], path) for r in rows}
    strengths = sorted({r["strength"] for r in rows})
    lines = [
        Series(name, LOOKS[look].colour, tuple((s, by_key[metric, condition, s]) for s in strengths))
        for metric, condition, name, look in SERIES
    ]
    said = "; ".join(f"{s:g}: held-out {short_interval(by_key['rate', 'turn 1', s], True)}" for s in strengths)
    caption = (
        "The adapter at strengths from 0, the plain model, to beyond 1, as trained. First the share of answers judged "
        "in character, held-out and elsewhere; then bits per byte over the plain model's; then the one against the "
        "other, each point a strength. Whiskers are 95% intervals."
    )
    head = ("Strength", "Held-out", "Elsewhere", "Chat frame", "Prose", "Repetition")
    keys = [(metric, condition) for metric, condition, *_ in SERIES] + [("repetition", "turn 1")]
    table = tuple(
        (
            f"{s:g}",
            *(short_interval(by_key[key[0], key[1], s], percent=key[0] != "bits per byte ratio") for key in keys),
        )
        for s in strengths
    )
    return (
        Plot("strength", caption, f"In character by strength. {said}", partial(draw, lines)),
        Table(head, table, frozenset(head), "Repetition: share of word 4-grams that occurred before, held-out."),
    )


def draw(lines: Sequence[Series], width: int) -> Drawing:
    """Three panels: what shows and what it costs by strength, and the one against the other."""
    across = 1 if width < NARROW else 3
    tall, down = 210, -(-3 // across)
    height = tall * down
    drawing = Drawing(figsize=(width / 72, height / 72), dpi=72)
    cell = width / across
    shows, elsewhere, frame, prose = lines
    panels = (("Judged in character", (shows, elsewhere)), ("Bits per byte, times plain", (frame, prose)), ("", ()))
    for n, (title, mine) in enumerate(panels):
        left, bottom = ((n % across) * cell + 44) / width, (height - (n // across + 1) * tall + 42) / height
        axes = drawing.add_axes((left, bottom, (cell - 66) / width, (tall - 76) / height))
        dress(axes)
        axes.margins(y=0.14)  # room for a line's name above its end
        for line in mine:
            _line(axes, line)
        if mine:
            axes.set_title(title, loc="left", fontsize=TEXT, color=INK, fontweight="bold", pad=8)
            axes.set_xlabel("strength", color=MUTED, fontsize=SMALL, loc="right", labelpad=3)
        else:
            _against(axes, frame, shows)
    return drawing


def _line(axes: Axes, line: Series) -> None:
    known = [(s, e) for s, e in line.points if e.value is not None]
    if not known:
        return
    values = [e.value or 0.0 for _, e in known]
    axes.errorbar(
        [s for s, _ in known], values, yerr=whiskers([e for _, e in known]), color=line.colour, linewidth=1.4,
        elinewidth=0.8, marker="o", markersize=3.5,
    )  # fmt: skip
    axes.annotate(
        line.name, (known[-1][0], values[-1]), xytext=(-2, 9), textcoords="offset points", ha="right",
        color=line.colour, fontsize=SMALL,
    )  # fmt: skip


def _against(axes: Axes, cost: Series, shows: Series) -> None:
    pairs = [
        (s, x, y) for (s, x), (_, y) in zip(cost.points, shows.points, strict=True)
        if x.value is not None and y.value is not None
    ]  # fmt: skip
    if pairs:
        across, up = [x for _, x, _ in pairs], [y for *_, y in pairs]
        axes.errorbar(
            [e.value or 0.0 for e in across], [e.value or 0.0 for e in up], xerr=whiskers(across), yerr=whiskers(up),
            color=shows.colour, linewidth=1.0, elinewidth=0.8, marker="o", markersize=3.5,
        )  # fmt: skip
    for s, x, y in pairs:
        axes.annotate(
            f"{s:g}", (x.value or 0.0, y.value or 0.0), xytext=(4, -11), textcoords="offset points", color=MUTED,
            fontsize=SMALL - 1.5,
        )  # fmt: skip
    axes.set_title("In character, by its cost", loc="left", fontsize=TEXT, color=INK, fontweight="bold", pad=8)
    axes.set_xlabel("bits in the chat frame", color=MUTED, fontsize=SMALL, loc="right", labelpad=3)


def whiskers(estimates: Sequence[Estimate]) -> list[list[float]]:
    """How far each interval goes below and above its value, as matplotlib's error bars take it."""
    value = [e.value or 0.0 for e in estimates]
    low = [max(0.0, v - (e.low if e.low is not None else v)) for v, e in zip(value, estimates, strict=True)]
    high = [max(0.0, (e.high if e.high is not None else v) - v) for v, e in zip(value, estimates, strict=True)]
    return [low, high]
