"""Subjects side by side: as text, CSV, LaTeX and plots."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from charactery.evals.comparison import Compared
from charactery.report.forest import Axis, Group, forest
from charactery.report.numbers import short_interval
from charactery.report.picture import save_png
from charactery.runs import write_text

WIDTH = 760  # CSS pixels of a plot
LONGEST = 36  # letters of a name in a plot


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
    out.append("[95% interval]; p by Holm over an eval's differences, paired by case")
    return "\n".join(out)


def _by_eval(rows: Sequence[Compared]) -> dict[str, list[Compared]]:
    out: dict[str, list[Compared]] = {}
    for row in rows:
        out.setdefault(row.eval if row.source == "bundled" else f"{row.eval} ({row.source})", []).append(row)
    return out


def _label(row: Compared) -> str:
    return f"{row.metric} ({row.unit})" if row.unit else row.metric


def _said(row: Compared, subject: str) -> str:
    estimate = row.estimates.get(subject)
    if estimate is None:
        return "–"
    return short_interval(estimate) + (f", {estimate.missing} missing" if estimate.missing else "")


def _change(row: Compared, subject: str) -> str:
    found = row.differences.get(subject)
    if found is None:
        return "–"
    return short_interval(found.estimate) + ("" if found.p_holm is None else f", p {found.p_holm:.2g}")


def _columns(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[n]) for row in table) for n in range(len(table[0]))]
    return ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]


FIELDS = (
    "eval", "source", "metric", "unit", "subject", "value", "low", "high", "n", "missing", "method", "scoring",
    "difference", "difference_low", "difference_high", "p", "p_holm",
)  # fmt: skip


def write_csv(rows: Sequence[Compared], path: Path) -> None:
    """A line an eval, metric and subject, with its difference from the first subject."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        for subject, e in row.estimates.items():
            line = {
                "eval": row.eval, "source": row.source, "metric": row.metric, "unit": row.unit, "subject": subject,
                "value": e.value, "low": e.low, "high": e.high, "n": e.n, "missing": e.missing, "method": e.method,
                "scoring": e.scoring,
            }  # fmt: skip
            if found := row.differences.get(subject):
                line |= {
                    "difference": found.estimate.value, "difference_low": found.estimate.low,
                    "difference_high": found.estimate.high, "p": found.p, "p_holm": found.p_holm,
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


def _short(subject: str) -> str:
    """A subject's name as a plot has room for it: the end of a path tells runs apart."""
    return subject if len(subject) <= LONGEST else f"…{subject[1 - LONGEST :]}"


def draw(rows: Sequence[Compared], subjects: Sequence[str], folder: Path) -> list[Path]:
    """A plot an eval and unit: dots with intervals, a group a metric. The pictures' paths."""
    paths = []
    for name, mine in _by_eval(rows).items():
        for unit in dict.fromkeys((row.unit, row.kind) for row in mine):
            shown = [row for row in mine if (row.unit, row.kind) == unit]
            groups = [
                Group(row.metric, tuple((_short(s), row.estimates[s]) for s in subjects if s in row.estimates))
                for row in shown
            ]
            rates = unit[1] == "rate"
            axis = (
                Axis("rate", 0.0, 1.0, percent=True) if rates else Axis(unit[0] or "mean", reference=_middle(unit[0]))
            )
            word = "".join(c if c.isalnum() else "-" for c in f"{name} {unit[0] or unit[1]}").strip("-")
            path = folder / f"{word}.png"
            save_png(forest(groups, axis, WIDTH), path)
            paths.append(path)
    return paths


def _middle(unit: str) -> float | None:
    """Log-odds have a middle that means something."""
    return 0.0 if unit == "nats" else None
