"""Results on disk: `results.parquet`, a row an eval, metric, subject and seed; `samples.parquet`, the values behind."""

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet

from charactery.errors import BadData, CharacteryError
from charactery.evals.asks import OUTCOMES
from charactery.evals.definition import Eval, Figure, Scored
from charactery.runs import Row, disk_error
from charactery.stats import Estimate

RESULTS, SAMPLES = "results.parquet", "samples.parquet"
KEY = ("eval", "source", "data", "subject", "seed")
_TEXT, _REAL, _WHOLE = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
_OF_BOTH = {"eval": _TEXT, "source": _TEXT, "data": _TEXT, "version": _WHOLE, "metric": _TEXT, "subject": _TEXT,
            "seed": _WHOLE, "scoring": _TEXT}  # fmt: skip
_LOST = dict.fromkeys(OUTCOMES[1:], _WHOLE)
ADDED = {"data": "", "halved": None}  # columns that older tables lack, and what stands in them then
SCHEMAS = {
    RESULTS: pyarrow.schema([*{
        **_OF_BOTH, "identity": _TEXT, "value": _REAL, "low": _REAL, "high": _REAL, "n": _WHOLE, "missing": _WHOLE,
        **_LOST, "method": _TEXT, "judge": _TEXT, "unit": _TEXT, "kind": _TEXT, "cases": _WHOLE, "halved": _WHOLE,
        "log": _TEXT,
    }.items()]),
    SAMPLES: pyarrow.schema([*{
        **_OF_BOTH, "id": _TEXT, "cluster": _TEXT, "stratum": _TEXT, "value": _REAL, "outcome": _TEXT, "kind": _TEXT,
        "balanced": pyarrow.bool_(), "unit": _TEXT,
    }.items()]),
}  # fmt: skip


def figure_rows(eval: Eval, figures: Sequence[Figure], common: Row) -> list[Row]:
    """Rows of results.parquet; `common` has what is the same for all: source, data, subject, identity, seed, log.

    `halved` among it is how many answers and scores are from a batch that memory halved.
    """
    return [
        {"eval": eval.name, "version": eval.version, "metric": f.name, "kind": f.metric.kind, **common,
         **f.estimate.as_dict(), **f.missing}
        for f in figures
    ]  # fmt: skip


def sample_rows(eval: Eval, scored: Sequence[Scored], common: Row) -> list[Row]:
    """Rows of samples.parquet: a value of a metric each, None where it is missing."""
    rows = []
    for one in scored:
        for name, value in one.values.items():
            metric = eval.metric(name)
            rows.append({
                "eval": eval.name, "version": eval.version, "metric": name, "id": one.case.id,
                "cluster": one.case.cluster, "stratum": one.case.stratum, "value": value, "outcome": one.outcome,
                "scoring": one.scoring, "kind": metric.kind, "balanced": metric.balanced, "unit": metric.unit, **common,
            })  # fmt: skip
    return rows


def estimate_of(row: Row) -> Estimate:
    """The estimate in a row of results.parquet."""
    names = ("value", "low", "high", "n", "missing", "method", "unit", "scoring")
    return Estimate(**{name: row[name] for name in names})


def add_rows(folder: Path, name: str, rows: Sequence[Row]) -> None:
    """Put rows into a table of a results folder, in place of earlier ones that are alike in KEY."""
    fresh = {tuple(row[k] for k in KEY) for row in rows}
    kept = [row for row in read_table(folder, name) if tuple(row[k] for k in KEY) not in fresh]
    columns = SCHEMAS[name].names
    table = pyarrow.Table.from_pylist([{c: row.get(c) for c in columns} for row in [*kept, *rows]], SCHEMAS[name])
    path = folder / name
    scratch = path.with_name(f"{name}.{os.getpid()}.tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(table, scratch)
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise disk_error(error, path) from error


def read_table(folder: Path, name: str) -> list[Row]:
    """All rows of a table; none where there is no table yet. Raises BadData for a file that is none of ours.

    Columns that an older table lacks are empty.
    """
    path = folder / name
    if not path.exists():
        return []
    try:
        table = pyarrow.parquet.read_table(path)
        for column in [c for c in SCHEMAS[name].names if c in ADDED and c not in table.column_names]:
            place = SCHEMAS[name].get_field_index(column)
            empty = pyarrow.array([ADDED[column]] * len(table), SCHEMAS[name].field(column).type)
            table = table.add_column(place, column, empty)
        return list(table.cast(SCHEMAS[name]).to_pylist())
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise BadData(
            f"cannot be read as this version's results ({str(error).splitlines()[0]}); give --out another folder", path
        ) from error


def results_of(folder: Path, subjects: Sequence[str], evals: Sequence[str] = (), seed: int = 0) -> list[Row]:
    """Rows of results.parquet of these subjects at a seed, in their order. Raises CharacteryError for one without."""
    rows = [r for r in read_table(folder, RESULTS) if r["seed"] == seed and (not evals or r["eval"] in evals)]
    out = []
    for subject in subjects:
        mine = [row for row in rows if row["subject"] == subject]
        if not mine:
            there = ", ".join(dict.fromkeys(row["subject"] for row in rows)) or "nothing yet"
            name = evals[0] if evals else "NAME"
            raise CharacteryError(
                f"has no results of {subject!r}; there are results of {there}. "
                f"`charactery eval {name} --subject {subject} --out {folder}` makes them",
                folder,
            )
        out += mine
    return out
