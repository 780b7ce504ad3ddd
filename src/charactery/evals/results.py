"""Results on disk: `results.parquet`, a row an eval, metric, subject and seed; `samples.parquet`, the values behind."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet

from charactery.errors import BadData, CharacteryError
from charactery.evals.asks import OUTCOMES
from charactery.evals.definition import BUNDLED, Eval, Figure, Scored, cluster_of
from charactery.runs import Row, disk_error
from charactery.stats import Estimate

RESULTS, SAMPLES = "results.parquet", "samples.parquet"
KEY = ("eval", "source", "data", "subject", "seed")
READABLE = 20  # figures of a detail that are printed; of more, their number
_TEXT, _REAL, _WHOLE = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
_OF_BOTH = {"eval": _TEXT, "source": _TEXT, "data": _TEXT, "version": _WHOLE, "metric": _TEXT, "subject": _TEXT,
            "seed": _WHOLE, "scoring": _TEXT}  # fmt: skip
_MISSING = dict.fromkeys(OUTCOMES[1:], _WHOLE)
SCHEMAS = {
    RESULTS: pyarrow.schema([*{
        **_OF_BOTH, "identity": _TEXT, "value": _REAL, "low": _REAL, "high": _REAL, "n": _WHOLE, "missing": _WHOLE,
        **_MISSING, "lost": _WHOLE, "method": _TEXT, "judge": _TEXT, "unit": _TEXT, "kind": _TEXT, "cases": _WHOLE,
        "limit": _WHOLE, "method_given": _TEXT, "log": _TEXT, "detail": pyarrow.bool_(),
    }.items()]),
    SAMPLES: pyarrow.schema([*{
        **_OF_BOTH, "id": _TEXT, "cluster": _TEXT, "stratum": _TEXT, "value": _REAL, "outcome": _TEXT, "kind": _TEXT,
        "balanced": pyarrow.bool_(), "unit": _TEXT,
    }.items()]),
}  # fmt: skip
# columns that came later, and what is said of rows from before
ADDED = {"data": "", "lost": None, "limit": None, "method_given": None, "detail": False}


def figure_rows(eval: Eval, figures: Sequence[Figure], common: Row) -> list[Row]:
    """Rows of results.parquet; `common` has what is the same for all: source, data, subject, identity, seed, log."""
    return [
        {"eval": eval.name, "version": eval.version, "metric": f.name, "kind": f.metric.kind, **common,
         **f.estimate.as_dict(), **f.missing, "lost": f.lost, "detail": f.metric.detail}
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
                "cluster": cluster_of(metric, one.case), "stratum": one.case.stratum, "value": value,
                "outcome": one.outcome, "scoring": one.scoring, "kind": metric.kind, "balanced": metric.balanced,
                "unit": metric.unit, **common,
            })  # fmt: skip
    return rows


def estimate_of(row: Row) -> Estimate:
    """The estimate in a row of results.parquet."""
    names = ("value", "low", "high", "n", "missing", "method", "unit", "scoring")
    return Estimate(**{name: row[name] for name in names})


def commands(rows: Sequence[Row]) -> list[list[str]]:
    """The commands that measured rows of results.parquet, but for where they went and the seed.

    Rows from before `--limit` and `--method` were kept are taken to have had neither.
    """
    measured: dict[tuple[tuple[str, ...], str], dict[str, None]] = {}  # subjects, by what was given and the eval
    for row in rows:
        given = {
            "--source": row["source"] if row["source"] != BUNDLED else "", "--data": row["data"],
            "--judge": row["judge"], "--limit": row["limit"],
            "--method": row["method_given"] if row["method_given"] != "auto" else "",
        }  # fmt: skip
        options = tuple(part for name, value in given.items() if value for part in (name, str(value)))
        measured.setdefault((options, row["eval"]), {})[row["subject"]] = None
    together: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}  # evals, by what was given and the subjects
    for (options, eval), subjects in measured.items():
        together.setdefault((options, tuple(subjects)), []).append(eval)
    return [
        ["charactery", "eval", *evals, *(part for subject in subjects for part in ("--subject", subject)), *options]
        for (options, subjects), evals in together.items()
    ]


def too_many(details: Sequence[str]) -> dict[str, int]:
    """Of figures of details, by name, the metrics that have more than a table can show, and how many they have."""
    counts = Counter(name.partition(": ")[0] for name in details)
    return {metric: count for metric, count in counts.items() if count > READABLE}


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

    What a table from an earlier version lacks is as in ADDED.
    """
    path = folder / name
    if not path.exists():
        return []
    try:
        table = pyarrow.parquet.read_table(path)
        schema = SCHEMAS[name]
        for place, column in enumerate(schema.names):
            if column in ADDED and column not in table.column_names:
                values = pyarrow.array([ADDED[column]] * len(table), schema.field(column).type)
                table = table.add_column(place, column, values)
        return list(table.cast(schema).to_pylist())
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
