"""The page that sets the best of n beside trainings on the same judge: rating and rate by KL from the base."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from charactery.report.blocks import Block, Plot, Report, Section, Table, Text
from charactery.report.figures import read_estimate
from charactery.report.forest import NARROW
from charactery.report.judge import WHO
from charactery.report.markdown import render_markdown
from charactery.report.numbers import NONE, interval, number, short, short_interval
from charactery.report.page import render_page
from charactery.report.palette import INK, MUTED, SMALL, TEXT, Look, dress, look
from charactery.report.strength import whiskers
from charactery.runs import Row, write_text
from charactery.stats import Estimate

ORDER = ("prompted", "trained", "sham", "plain")  # whose colours the runs borrow: the one that chooses first
BEYOND = (("#009e73", "v"), ("#1a1a1a", "P"), ("#b8860b", "X"), ("#cc79a7", "*"), ("#6a3d9a", "<"), ("#8c564b", ">"))
NAME, LINE = 165, 18  # points that a run's name takes in the legend


@dataclass(frozen=True)
class Place:
    """A point of a line: where it stands (KL, with an interval where it was sampled), its label, rating and rate."""

    at: str
    kl: Estimate
    score: Estimate
    rate: Estimate


@dataclass(frozen=True)
class Way:
    """A run's points in order. `chosen` is the one whose KL is a bound."""

    name: str
    chosen: bool
    look: Look
    places: tuple[Place, ...]


def write_frontier(rows: Sequence[Row], character: str, judge: str, trust: Sequence[Block], out: Path) -> Path:
    """Write `report.html`, `report.md` and its picture into `out`; rows are those of figures.json. Returns the HTML.

    `trust` is what is known of how far the judge can be trusted.
    """
    report = frontier_report(rows, character, judge, trust, out / "figures.json")
    page = out / "report.html"
    write_text(page, render_page(report))
    write_text(out / "report.md", render_markdown(report, out / "report_files"))
    return page


def frontier_report(rows: Sequence[Row], character: str, judge: str, trust: Sequence[Block], path: Path) -> Report:
    """The report, before it is HTML or markdown."""
    ways, who = _ways(rows, path), WHO.get(judge, judge)
    head = ("Run", "At", "KL, nats an answer [95%]", "Rating [95%]", "In character [95%]", "Tokens [95%]", "n")
    table = tuple(_cells(row, path) for row in rows)
    caption = (
        f"What {who} gives on average, and the share that the classifier judge takes for the character's, by KL from "
        "the plain model in nats an answer (the axis is a square root's). Numbers at the line of the best of n are n; "
        "its KL is an upper bound, log n - (n - 1) / n. KL of what was trained is sampled: the mean over answers of "
        "their log-probability less the plain model's. Whiskers are 95% intervals over prompts."
    )
    said = "; ".join(
        f"{w.name}: " + ", ".join(f"{p.at} at {_short(p.kl)} nats rated {short_interval(p.score)}" for p in w.places)
        for w in ways
    )
    blocks: tuple[Block, ...] = (
        Plot("frontier", caption, f"Rating by KL. {said}", partial(draw, ways)),
        Table(head, table, frozenset(head[2:])),
        Text(
            "The rating is by the judge that was chosen or trained by, so it says how well that judge was satisfied. "
            "The classifier rewarded nothing, but where a recipe draws several drafts to a prompt, one of its kind "
            "picked among them. All answers are to the same held-out prompts, at temperature 1.",
            "small",
        ),
    )
    return Report(
        f"{character}: the best of n against training", "", (f"Judge: {who}.",), ("Rating by KL.", _sentences(ways)),
        (
            Section("frontier", "Rating by KL from the plain model", blocks),
            *([Section("judge", "The judge", tuple(trust))] if trust else []),
        ),
    )  # fmt: skip


def _ways(rows: Sequence[Row], path: Path) -> tuple[Way, ...]:
    by_run: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["n"] is None):  # the one that chooses first
        by_run.setdefault(row["run"], []).append(row)
    recipes = [mine[0]["recipe"] for mine in by_run.values()]
    ways = []
    for n, (run, mine) in enumerate(by_run.items()):
        recipe = mine[0]["recipe"]
        places = tuple(
            Place(r["at"], _kl(r, path), read_estimate(r["score"], path), read_estimate(r["rate"], path)) for r in mine
        )
        name = recipe if recipes.count(recipe) == 1 else Path(run).name
        ways.append(Way(name, mine[0]["n"] is not None, _look(n), places))
    return tuple(ways)


def _look(n: int) -> Look:
    """How the nth run is drawn."""
    if n < len(ORDER):
        return look(ORDER[n])
    colour, marker = BEYOND[(n - len(ORDER)) % len(BEYOND)]
    return replace(look("other"), colour=colour, marker=marker)


def _kl(row: Row, path: Path) -> Estimate:
    if row["kl"] is not None:
        return read_estimate(row["kl"], path)
    bound = row["kl_bound"]
    return Estimate(bound, bound, bound, row["score"]["n"], 0, "analytic bound", "nats/answer")


def _short(estimate: Estimate) -> str:
    return NONE if estimate.value is None else short(estimate.value)


def _cells(row: Row, path: Path) -> tuple[str, ...]:
    score, share, length = (read_estimate(row[name], path) for name in ("score", "rate", "length"))
    kl = interval(read_estimate(row["kl"], path)) if row["kl"] else f"at most {number(row['kl_bound'])}"
    at = f"best of {row['n']}" if row["n"] else row["at"]
    return row["run"], at, kl, interval(score), short_interval(share, True), interval(length), f"{score.n:,}"


def _sentences(ways: Sequence[Way]) -> str:
    """Each training's last point beside the best of as few as could be as far from the plain model."""
    [chosen] = [way for way in ways if way.chosen]
    out = []
    for way in ways:
        last = way.places[-1]
        if way.chosen or last.kl.value is None:
            continue
        far = [p for p in chosen.places if (p.kl.value or 0.0) >= last.kl.value]
        beside = far[0] if far else chosen.places[-1]
        reach = "" if far else " which cannot be as far,"
        out.append(
            f"{way.name} ends {short_interval(last.kl)} nats from the plain model and is rated "
            f"{short_interval(last.score)}; the best of {beside.at},{reach} at most {_short(beside.kl)} nats from it, "
            f"is rated {short_interval(beside.score)}."
        )
    return " ".join(out)


def draw(ways: Sequence[Way], width: int) -> Drawing:
    """Two panels by KL: the judge's rating, and the share in character."""
    across = 1 if width < NARROW else 2
    tall, down = 270, 2 // across
    columns = max(1, min(len(ways), (width - 24) // NAME))
    below = LINE * -(-len(ways) // columns) + 8
    height = tall * down + below
    drawing = Drawing(figsize=(width / 72, height / 72), dpi=72)
    cell = width / across
    for n, (title, key) in enumerate((("The judge's rating", "score"), ("Judged in character", "rate"))):
        left, bottom = ((n % across) * cell + 48) / width, (height - (n // across + 1) * tall + 46) / height
        axes = drawing.add_axes((left, bottom, (cell - 76) / width, (tall - 84) / height))
        axes.set_xscale("function", functions=(_root, _square))
        dress(axes)
        axes.margins(0.08, 0.14)
        for way in ways:
            _way(axes, way, key)
        axes.set_title(title, loc="left", fontsize=TEXT, color=INK, fontweight="bold", pad=8)
        axes.set_xlabel("KL, nats an answer", color=MUTED, fontsize=SMALL, loc="right", labelpad=3)
    marks = [axes.plot([], [], **_dressed(way.look))[0] for way in ways]
    drawing.legend(
        marks, [way.name for way in ways], loc="lower left", ncols=columns, frameon=False, fontsize=SMALL,
        bbox_to_anchor=(12 / width, 0), labelcolor=INK, borderaxespad=0.3,
    )  # fmt: skip
    return drawing


def _dressed(look: Look) -> dict[str, Any]:
    return {
        "color": look.colour, "marker": look.marker, "markersize": 4.5, "linewidth": 1.4, "linestyle": look.line,
        "markerfacecolor": look.colour if look.filled else "none",
    }  # fmt: skip


def _root(x: Any) -> Any:
    return np.sign(x) * np.sqrt(np.abs(x))  # a sampled KL near nought may fall below it


def _square(x: Any) -> Any:
    return np.sign(x) * np.square(x)


def _way(axes: Axes, way: Way, key: str) -> None:
    known = [(p, y) for p in way.places if (y := getattr(p, key)).value is not None and p.kl.value is not None]
    if not known:
        return
    across, up = [p.kl for p, _ in known], [y for _, y in known]
    xs, ys = [e.value or 0.0 for e in across], [e.value or 0.0 for e in up]
    axes.errorbar(xs, ys, xerr=whiskers(across), yerr=whiskers(up), elinewidth=0.8, **_dressed(way.look))
    if way.chosen:
        for (place, _), x, y in zip(known, xs, ys, strict=True):
            axes.annotate(
                place.at, (x, y), xytext=(4, -11), textcoords="offset points", color=MUTED, fontsize=SMALL - 1.5
            )
