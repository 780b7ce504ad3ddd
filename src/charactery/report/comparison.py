"""Subjects side by side: as text, a page, CSV, LaTeX and plots."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure as Drawing

from charactery.errors import CharacteryError
from charactery.evals.comparison import Compared, Difference
from charactery.evals.results import too_many
from charactery.report.blocks import Block, Code, Folded, Plot, Report, Section, Table, Text
from charactery.report.forest import NARROW, Axis, Group, forest
from charactery.report.markdown import render_markdown
from charactery.report.numbers import short_interval
from charactery.report.page import render_page
from charactery.report.palette import LOOKS, OTHER, Look
from charactery.report.picture import save_png
from charactery.report.profile import profile
from charactery.runs import write_text
from charactery.stats import DECLINED, Estimate

if TYPE_CHECKING:
    from charactery.evals.definition import Eval, Metric

WIDTH = 760  # CSS pixels of a plot
LEVEL = 0.05
PAIRED = (
    "paired by case, of the cases that say something of both (n, where they are fewer); p by Holm over the eval's "
    "differences (traits, claims and clauses each apart)"
)
WITHOUT, BY_LUCK = "°", "†"  # after a figure that is as without the behaviour, and as a coin's
LONGEST = 36  # letters of a name in a plot
MOST = 12  # metrics in a plot that lists its rows; of more, it stands behind a line, rows close together under a key


def as_text(rows: Sequence[Compared], subjects: Sequence[str]) -> str:
    """A block an eval: metrics down, subjects across; below them the differences from the first, paired by case."""
    out: list[str] = []
    for name, mine in _by_eval(rows).items():
        scoring = next((e.scoring for row in mine for e in row.estimates.values() if e.scoring), "")
        table = [["", *subjects]]
        for row in mine:
            table.append([_label(row), *(_said(row, subject) for subject in subjects)])
        out += [f"{name}{f', read by {scoring}' if scoring else ''}", *_columns(table)]
        changes = [["", *(f"{other} less {subjects[0]}" for other in subjects[1:])]]
        for row in mine:
            changes.append([_label(row), *(_change(row, other) for other in subjects[1:])])
        if len(subjects) > 1:
            out += ["", *_columns(changes)]
        out.append("")
    out += _unlisted(rows)
    out.append(f"[95% interval]; {PAIRED}")
    return "\n".join(out)


def _by_eval(rows: Sequence[Compared]) -> dict[str, list[Compared]]:
    """What is shown of each eval, source and data: all but details that are too many."""
    out = {}
    for name, mine in _grouped(rows).items():
        many = _too_many(mine)
        out[name] = [row for row in mine if row.metric.partition(": ")[0] not in many]
    return out


def _unlisted(rows: Sequence[Compared]) -> list[str]:
    """What is said of those."""
    return [
        f"{name}: {count} figures of {metric} are too many for a table; compare's --csv and --json have them."
        for name, mine in _grouped(rows).items()
        for metric, count in _too_many(mine).items()
    ]


def _too_many(mine: Sequence[Compared]) -> dict[str, int]:
    return too_many([row.metric for row in mine if row.detail])


def _grouped(rows: Sequence[Compared]) -> dict[str, list[Compared]]:
    out: dict[str, list[Compared]] = {}
    for row in rows:
        told = [] if row.source == "bundled" else [row.source, *([row.data] if row.data else [])]
        out.setdefault(f"{row.eval} ({', '.join(told)})" if told else row.eval, []).append(row)
    return out


def _label(row: Compared) -> str:
    return f"{row.metric} ({row.unit})" if row.unit else row.metric


def _said(row: Compared, subject: str) -> str:
    estimate = row.estimates.get(subject)
    if estimate is None:
        return "–"
    if estimate.declined:
        return DECLINED
    missing = f", {estimate.missing} missing" if estimate.missing else ""
    return short_interval(estimate) + missing + (f", {lost} lost" if (lost := row.lost.get(subject)) else "")


def _change(row: Compared, subject: str) -> str:
    found = row.differences.get(subject)
    if found is None:
        return "–"
    fewer = f", n {found.estimate.n}" if found.estimate.n < row.estimates[subject].n else ""
    return short_interval(found.estimate) + fewer + ("" if found.p_holm is None else f", p {found.p_holm:.2g}")


def _columns(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[n]) for row in table) for n in range(len(table[0]))]
    return ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]


FIELDS = (
    "eval", "source", "data", "metric", "unit", "subject", "value", "low", "high", "n", "missing", "lost", "method",
    "scoring", "difference", "difference_low", "difference_high", "difference_n", "p", "p_holm",
)  # fmt: skip


def write_csv(rows: Sequence[Compared], path: Path) -> None:
    """A line an eval, metric and subject, with its difference from the first subject."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        for subject, e in row.estimates.items():
            line = {
                "eval": row.eval, "source": row.source, "data": row.data, "metric": row.metric, "unit": row.unit,
                "subject": subject, "value": e.value, "low": e.low, "high": e.high, "n": e.n, "missing": e.missing,
                "lost": row.lost.get(subject, 0), "method": e.method, "scoring": e.scoring,
            }  # fmt: skip
            if found := row.differences.get(subject):
                line |= {
                    "difference": found.estimate.value, "difference_low": found.estimate.low,
                    "difference_high": found.estimate.high, "difference_n": found.estimate.n, "p": found.p,
                    "p_holm": found.p_holm,
                }  # fmt: skip
            writer.writerow(line)
    write_text(path, stream.getvalue())


def write_latex(rows: Sequence[Compared], subjects: Sequence[str], path: Path) -> None:
    """A tabular an eval, for \\input; it needs no package."""
    out = []
    for name, mine in _by_eval(rows).items():
        out += [rf"\begin{{tabular}}{{l{'r' * len(subjects)}}}", r"\hline"]
        out.append(" & ".join([_escaped(name), *map(_escaped, subjects)]) + r" \\ \hline")
        for row in mine:
            out.append(" & ".join([_escaped(_label(row)), *(_escaped(_said(row, s)) for s in subjects)]) + r" \\")
        out += [r"\hline", r"\end{tabular}", ""]
    write_text(path, "\n".join(out))


def _escaped(text: str) -> str:
    for mark in "\\&%$#_{}":
        text = text.replace(mark, r"\textbackslash " if mark == "\\" else rf"\{mark}")
    return text.replace("~", r"\textasciitilde ").replace("^", r"\textasciicircum ").replace("–", "--")


def _short(subject: str, most: int) -> str:
    """A subject's name as a plot has room for it: the end of a path tells runs apart."""
    return subject if len(subject) <= most else f"…{subject[1 - most :]}"


def draw(rows: Sequence[Compared], subjects: Sequence[str], folder: Path) -> list[Path]:
    """A plot an eval and unit: dots with intervals, a group a metric. The pictures' paths."""
    paths = []
    for name, mine in _by_eval(rows).items():
        for plot in _plots(name, mine, subjects):
            path = folder / f"{plot.name}.png"
            save_png(plot.draw(WIDTH), path)
            paths.append(path)
    return paths


def _plots(name: str, mine: Sequence[Compared], subjects: Sequence[str]) -> list[Plot]:
    plots = _profiles(name, mine, subjects)
    for unit, kind in dict.fromkeys((row.unit, row.kind) for row in mine):
        shown = [row for row in mine if (row.unit, row.kind) == (unit, kind)]
        rates = kind == "rate"
        axis = Axis("rate", 0.0, 1.0, percent=True) if rates else Axis(unit or "mean", reference=_middle(unit))
        word = "".join(c if c.isalnum() else "-" for c in f"{name} {unit or kind}").strip("-")
        said = "; ".join(f"{row.metric}: {', '.join(_said(row, s) for s in subjects)}" for row in shown)
        plots.append(
            Plot(
                word,
                f"{name}, {unit or kind}; whiskers are 95% intervals.",
                said,
                partial(_forest, shown, subjects, axis),
            )
        )
    return plots


def _profiles(name: str, mine: Sequence[Compared], subjects: Sequence[str]) -> list[Plot]:
    """The profiles that an eval names, where two traits and more of them are here."""
    plots = []
    eval = _eval(mine[0])
    for n, metrics in enumerate(eval.profiles if eval else (), 1):
        shown = [row for row in mine if row.metric.partition(": ")[0] in metrics]
        if len(shown) > 1:
            word = "".join(c if c.isalnum() else "-" for c in f"{name} profile {n}")
            said = "; ".join(f"{row.metric}: {', '.join(_said(row, s) for s in subjects)}" for row in shown)
            caption = f"{name}, a profile of each Subject; whiskers are 95% intervals."
            plots.append(Plot(word, caption, said, partial(_profile, shown, subjects)))
    return plots


def _profile(rows: Sequence[Compared], subjects: Sequence[str], width: int) -> Drawing:
    most = LONGEST // 2
    return profile(_groups(rows, subjects, most), rows[0].unit, width, _looks(subjects, most), _middle(rows[0].unit))


def _forest(rows: Sequence[Compared], subjects: Sequence[str], axis: Axis, width: int) -> Drawing:
    close = len(rows) > MOST
    most = LONGEST if width >= NARROW and not close else LONGEST // 2
    return forest(_groups(rows, subjects, most), axis, width, listed=not close, looks=_looks(subjects, most))


def _groups(rows: Sequence[Compared], subjects: Sequence[str], most: int) -> list[Group]:
    names = _names(subjects, most)
    return [
        Group(row.metric, tuple((names[s], row.estimates[s]) for s in subjects if s in row.estimates)) for row in rows
    ]


def _names(subjects: Sequence[str], most: int) -> dict[str, str]:
    """The subjects' names as a plot has room for them, numbered where the ends of two are the same."""
    names = {s: _short(s, most) for s in subjects}
    if len({*names.values()}) == len(names):
        return names
    return {s: f"{n} {name}" for n, (s, name) in enumerate(names.items(), 1)}


def _looks(subjects: Sequence[str], most: int) -> dict[str, Look]:
    first = [*LOOKS.values(), OTHER]
    turned = [replace(one, filled=not one.filled, line="--") for one in first]
    return dict(zip(_names(subjects, most).values(), cycle([*first, *turned]), strict=False))


def write_page(rows: Sequence[Compared], subjects: Sequence[str], command: str, out: Path) -> Path:
    """Write `report.html`, `report.md` and its pictures into `out`. Returns the HTML."""
    report = comparison_report(rows, subjects, command)
    write_text(out / "report.html", render_page(report))
    write_text(out / "report.md", render_markdown(report, out / "report_files"))
    return out / "report.html"


def _clear(told: Difference) -> bool:
    """By both: intervals of shares, made of Wilson's, are wider than what turning signs says."""
    low, high = told.estimate.low, told.estimate.high
    if told.p_holm is None or low is None or high is None:
        return False
    return told.p_holm < LEVEL and (low > 0 or high < 0)


def comparison_report(rows: Sequence[Compared], subjects: Sequence[str], command: str) -> Report:
    """One page for all: what is clear, then an eval a section, its main figures first, as tables and plots."""
    by_eval = _by_eval(rows)
    sections = [_section(name, mine, subjects) for name, mine in by_eval.items()]
    tested = [
        (name, row, other, d)
        for name, mine in by_eval.items()
        for row in mine
        for other, d in row.differences.items()
        if d.p_holm is not None
    ]
    clear = tuple(
        (name, _label(row), other, short_interval(d.estimate), f"{d.p_holm:.2g}")
        for name, row, other, d in tested
        if _clear(d)
    )
    said = f"{len(clear)} of {len(tested)} are clear of nought at 5%, by Holm within an eval and by their intervals."
    if alone := sum(d.p_holm < LEVEL for *_, d in tested if d.p_holm is not None) - len(clear):
        said += f" {alone} more by p alone: their intervals, wider, hold nought."
    if clear:
        head = ("Eval", "Metric", "Subject", f"Less {subjects[0]}", "p")
        sections.insert(0, Section("clear", "What is clear", (Table(head, clear, frozenset(head[3:])),)))
    return Report(
        "Subjects side by side", ", ".join(subjects),
        (f"{len(by_eval)} evals on {len(subjects)} Subjects.", *_unlisted(rows)),
        (f"Differences from {subjects[0]}.", said),
        (*sections, Section("command", "The command", (Code(command, "sh"),))),
    )  # fmt: skip


def _section(name: str, mine: Sequence[Compared], subjects: Sequence[str]) -> Section:
    main = _main(mine)
    rest = [row for row in mine if row not in main]
    scoring = next((e.scoring for row in mine for e in row.estimates.values() if e.scoring), "")
    blocks: list[Block] = [Text(line) for line in ([f"Read by {scoring}."] if scoring else []) + _warnings(mine)]
    if told := _told(mine):
        blocks.append(Folded("What the figures are", (Table(("Metric", "Is"), told),)))
    blocks += _figures(name, main, subjects, mine)
    if rest:
        parts = tuple(_figures(f"{name}, by part", rest, subjects, mine))
        blocks.append(Folded(f"By part: {len(rest)} figures", parts))
    return Section("".join(c if c.isalnum() else "-" for c in name), name, tuple(blocks))


def _told(mine: Sequence[Compared]) -> tuple[tuple[str, str], ...]:
    """The metrics that are here, and what a value of each counts for."""
    there, eval = {row.metric.partition(": ")[0] for row in mine}, _eval(mine[0])
    return tuple((metric.name, metric.about) for metric in (eval.metrics if eval else ()) if metric.name in there)


def _main(mine: Sequence[Compared]) -> list[Compared]:
    """The figures to look at first: whole metrics, and parts of a metric that has a few and no whole. No detail."""
    parts: dict[str, list[Compared]] = {}
    for row in mine:
        parts.setdefault(row.metric.partition(": ")[0], []).append(row)
    main = []
    for metric, rows in parts.items():
        whole = [row for row in rows if row.metric == metric]
        main += whole or (rows if len(rows) <= MOST and not rows[0].detail else [])
    return main or list(mine)


def _warnings(mine: Sequence[Compared]) -> list[str]:
    """What is said of figures that are declined, as without the behaviour, at chance, or that need a judge."""
    reasons: dict[str, list[str]] = {}
    for row in mine:
        for subject, e in row.estimates.items():
            if e.declined:
                reasons.setdefault(e.method, []).append(f"{row.metric} of {subject}")
    out = [f"{reason.capitalize()}: {', '.join(of)}." for reason, of in reasons.items()]
    marks = {mark for row in mine for subject in row.estimates for mark in _chance(row, subject, mine)}
    if WITHOUT in marks:
        out.append(f"{WITHOUT} after a figure: its interval holds what a Subject without the behaviour comes out at.")
    if BY_LUCK in marks:
        out.append(
            f"{BY_LUCK} after a figure: at chance, that is, its interval holds what a Subject comes out at that tosses "
            f"a coin at every question{_as_often(mine)}."
        )
    if any(any(row.lost.values()) for row in mine):
        out.append("Lost: sampled answers that said nothing or were no option, of cases whose other answers count.")
    if eval := _eval(mine[0]):
        there = {row.metric.partition(": ")[0] for row in mine}
        if unread := [metric.name for metric in eval.metrics if metric.judged and metric.name not in there]:
            out.append(f"Not measured, as no judge read the answers: {', '.join(unread)}.")
    return out


def _as_often(mine: Sequence[Compared]) -> str:
    """Which figures have another one for what luck does."""
    found = {f"of {m.name}, as often as {m.luck}" for row in mine if (m := _metric(row)) and isinstance(m.luck, str)}
    return f" ({'; '.join(sorted(found))})" if found else ""


def _figures(name: str, rows: Sequence[Compared], subjects: Sequence[str], mine: Sequence[Compared]) -> list[Block]:
    """Some of an eval's figures, their differences from the first Subject, and plots."""
    table = tuple((_label(row), *(_said(row, s) + _marked(row, s, mine) for s in subjects)) for row in rows)
    blocks: list[Block] = [Table(("Metric", *subjects), table, frozenset(subjects), "Figures with their 95% intervals")]
    if others := subjects[1:]:
        changes = tuple((_label(row), *(_change(row, other) for other in others)) for row in rows)
        caption = f"Less {subjects[0]}, {PAIRED}"
        blocks.append(Table(("Metric", *others), changes, frozenset(others), caption))
    plots = tuple(_plots(name, rows, subjects))
    return [*blocks, *plots] if len(rows) <= MOST else [*blocks, Folded("Plots", plots)]


def _eval(row: Compared) -> "Eval | None":
    """The eval of a figure; None where it is not among ours, as one in a folder."""
    from charactery.evals.registry import find_eval  # Inspect, which a page of other reports does without

    try:
        return find_eval(row.eval)
    except CharacteryError:
        return None


def _metric(row: Compared) -> "Metric | None":
    """The metric that a figure is of."""
    eval = _eval(row)
    return next((m for m in eval.metrics if m.name == row.metric.partition(": ")[0]), None) if eval else None


def _chance(row: Compared, subject: str, mine: Sequence[Compared]) -> str:
    """The marks of a figure: whether its interval holds what is had without the behaviour, and by luck."""
    metric = _metric(row)
    if metric is None:
        return ""
    luck = metric.luck
    if isinstance(luck, str):
        _, colon, part = row.metric.partition(": ")
        other = next((r.estimates.get(subject) for r in mine if r.metric == f"{luck}{colon}{part}"), None)
        luck = other.value if other else None
    return "".join(
        mark for mark, value in ((WITHOUT, metric.none), (BY_LUCK, luck)) if _holds(row.estimates.get(subject), value)
    )


def _holds(estimate: Estimate | None, value: float | None) -> bool:
    if estimate is None or estimate.low is None or estimate.high is None or value is None:
        return False
    return estimate.low <= value <= estimate.high


def _marked(row: Compared, subject: str, mine: Sequence[Compared]) -> str:
    marks = _chance(row, subject, mine)
    return f" {marks}" if marks else ""


def _middle(unit: str) -> float | None:
    """Log-odds have a middle that means something."""
    return 0.0 if unit == "nats" else None
