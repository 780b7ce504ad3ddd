"""Figures: what the evaluate stage measured, one estimate each with what it is of."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from charactery.errors import BadData, CharacteryError
from charactery.report.files import read_json
from charactery.runs import Run
from charactery.stats import Estimate

SUBJECTS = ("plain", "prompted", "trained", "sham")  # the order in which a report names them


@dataclass(frozen=True)
class Figure:
    """One measured figure: an eval's metric of a subject, under a condition, for a trait ("" for the whole)."""

    eval: str
    metric: str
    subject: str
    condition: str
    trait: str
    estimate: Estimate
    expected: float | None


@dataclass(frozen=True)
class Figures:
    """All figures of a run, in the order the evals gave them."""

    all: tuple[Figure, ...]

    def __iter__(self) -> Iterator[Figure]:
        return iter(self.all)

    def where(
        self, eval: str, metric: str | None = None, condition: str | None = None, trait: str | None = None
    ) -> list[Figure]:
        """The figures of an eval that fit what is given."""
        return [
            f
            for f in self.all
            if f.eval == eval
            and metric in (None, f.metric)
            and condition in (None, f.condition)
            and trait in (None, f.trait)
        ]

    def one(self, eval: str, metric: str, subject: str, condition: str | None = None) -> Figure | None:
        """The first measured figure of a subject over the whole character, or None."""
        found = (f for f in self.where(eval, metric, condition, trait="") if f.subject == subject)
        return next((f for f in found if f.estimate.value is not None), None)


def read_estimate(row: Any, path: Path) -> Estimate:
    """An Estimate from its JSON. Raises BadData where it is none."""
    try:
        return Estimate(**{f.name: row[f.name] for f in fields(Estimate) if f.name in row})
    except (TypeError, KeyError):
        raise BadData(
            f"holds an estimate that cannot be read: {row!r}. Delete the stage and run it again", path
        ) from None


def subject_order(names: Iterable[str]) -> list[str]:
    """Subjects without repeats: the four known ones first, in their order, others after as they came."""
    seen = list(dict.fromkeys(names))
    return sorted(seen, key=lambda name: SUBJECTS.index(name) if name in SUBJECTS else len(SUBJECTS))


def evaluate_folder(run: Run) -> Path:
    """Where the finished evaluate stage lies. Raises CharacteryError where there is none, saying what to do."""
    if "evaluate" not in run.manifest["stages"]:
        raise CharacteryError(
            "has no evaluate stage, so there is nothing to report; train with a recipe that evaluates", run.folder
        )
    if not run.is_done("evaluate"):
        command = run.manifest.get("command") or "the command that made it"
        raise CharacteryError(f"is not evaluated yet; finish it with: {command}", run.folder)
    return run.stage_folder("evaluate")


def load_figures(run: Run) -> list[Figure]:
    """All figures of a run, in the order the evals gave them.

    Raises CharacteryError where the run has no finished evaluate stage, BadData where its figures cannot be read.
    """
    path = evaluate_folder(run) / "figures.json"
    rows = read_json(path)
    if rows is None:
        raise BadData("is missing; delete the evaluate stage's `done` file and run the same command again", path)
    figures = []
    for row in rows:
        try:
            names = {name: str(row.get(name) or "") for name in ("subject", "condition", "trait")}
            estimate = read_estimate(row["estimate"], path)
            figures.append(Figure(row["eval"], row["metric"], **names, estimate=estimate, expected=row.get("expected")))
        except (KeyError, TypeError, AttributeError):
            raise BadData(f"holds a figure that cannot be read: {row!r}. Run the evaluate stage again", path) from None
    return figures
