"""Subjects side by side: every metric's estimates, and each subject's difference from the first, paired by case."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from charactery.errors import CharacteryError
from charactery.evals.results import estimate_of
from charactery.runs import Row
from charactery.stats import (
    Estimate,
    balanced_mean,
    clustered_difference,
    clustered_mean,
    holm,
    paired_difference,
    paired_p,
)

# metrics whose parts are asked after one by one, a character's traits and claims about oneself: each is a family
APART = ("trait", "claim")


@dataclass(frozen=True)
class Difference:
    """A subject's mean less the first subject's, over the cases that both answered; p as it is and by Holm."""

    estimate: Estimate
    p: float | None
    p_holm: float | None = None


@dataclass(frozen=True)
class Compared:
    """One metric of one eval: estimates by subject, differences from the first subject, and answers that were lost."""

    eval: str
    source: str
    data: str
    metric: str
    unit: str
    kind: str
    estimates: dict[str, Estimate]
    differences: dict[str, Difference]
    detail: bool = False
    lost: dict[str, int] = field(default_factory=dict)


def compare(results: Sequence[Row], samples: Sequence[Row], subjects: Sequence[str], seed: int = 0) -> list[Compared]:
    """All metrics that the first subject has, of rows that share a seed.

    Where a figure is declined, so is its difference: it rests on the same values, and is in no family.

    A family for Holm is all differences within one eval, source and data, but for details and the metrics in APART:
    each of those is one.

    Raises CharacteryError where a metric was read in different ways, or by different versions of an eval.
    """
    by_eval: dict[tuple[str, str, str], list[Row]] = {}
    for row in results:
        by_eval.setdefault((row["eval"], row["source"], row["data"]), []).append(row)
    out = []
    for (name, source, data), rows in by_eval.items():
        _alike(name, rows)
        metrics = dict.fromkeys(row["metric"] for row in rows if row["subject"] == subjects[0])
        values: dict[tuple[str, str], dict[str, Row]] = {}
        for s in samples:
            if (s["eval"], s["source"], s["data"], s["seed"]) == (name, source, data, rows[0]["seed"]):
                values.setdefault((s["metric"], s["subject"]), {})[s["id"]] = s
        out += _adjusted([_compared(metric, rows, values, subjects, seed) for metric in metrics])
    return out


def _alike(name: str, rows: Sequence[Row]) -> None:
    by_metric: dict[str, dict[str, list[str]]] = {}  # one eval may read options in one figure and words in another
    for row in rows:
        if row["scoring"]:
            by_metric.setdefault(row["metric"], {}).setdefault(row["scoring"], []).append(row["subject"])
    for ways in by_metric.values():
        if len(ways) == 1:
            continue
        told = "; ".join(f"{way}: {', '.join(dict.fromkeys(mine))}" for way, mine in ways.items())
        raise CharacteryError(
            f"the figures of {name} were read in different ways ({told}) and do not compare. Measure them alike, with "
            f"`charactery eval {name} --method samples` say"
        )
    if len(judges := {row["judge"] or "none" for row in rows}) > 1:
        raise CharacteryError(
            f"the figures of {name} were judged by {', '.join(sorted(judges))}; measure them with the same --judge"
        )
    if len(versions := {row["version"] for row in rows}) > 1:
        raise CharacteryError(
            f"the figures of {name} come from versions {', '.join(map(str, sorted(versions)))} of it; run it again"
        )


def _compared(
    metric: str,
    rows: Sequence[Row],
    values: dict[tuple[str, str], dict[str, Row]],
    subjects: Sequence[str],
    seed: int,
) -> Compared:
    mine = [row for row in rows if row["metric"] == metric]
    first = mine[0]
    own = {subject: row for subject in subjects for row in mine if row["subject"] == subject}
    estimates = {subject: estimate_of(row) for subject, row in own.items()}
    differences = {
        other: difference(values.get((metric, subjects[0]), {}), values.get((metric, other), {}), seed)
        for other in subjects[1:]
        if other in estimates and not (estimates[subjects[0]].declined or estimates[other].declined)
    }
    return Compared(
        first["eval"], first["source"], first["data"], metric, first["unit"] or "", first["kind"], estimates,
        differences, bool(first.get("detail")), {subject: row.get("lost") or 0 for subject, row in own.items()},
    )  # fmt: skip


def difference(first: dict[str, Row], other: dict[str, Row], seed: int = 0) -> Difference:
    """Other less first: Newcombe for independent rates, as two shares for other rates and shares, else as a mean.

    The test turns the signs of the clusters' differences at random.
    """
    keys = [key for key in first if key in other]
    rows = [first[key] for key in keys]
    a, b = [other[key]["value"] for key in keys], [row["value"] for row in rows]
    apart = [None if x is None or y is None else x - y for x, y in zip(a, b, strict=True)]
    clusters, strata = [row["cluster"] for row in rows], [row["stratum"] for row in rows]
    if not rows:
        return Difference(Estimate(None, None, None, 0), None)
    unit = rows[0]["unit"] or ""
    weights = [1.0] * len(rows)
    if rows[0]["balanced"]:
        told = balanced_mean(apart, clusters, strata, unit)
        known = [s for s, d in zip(strata, apart, strict=True) if d is not None]
        weights = [len(known) / (len(set(known)) * known.count(s)) if s in known else 0.0 for s in strata]
    elif rows[0]["kind"] == "rate" and len(set(clusters)) == len(clusters) and {*a, *b} <= {None, 0, 1}:
        told = paired_difference(a, b, seed, unit)
    elif rows[0]["kind"] in ("rate", "share"):
        told = clustered_difference(a, b, clusters, unit)
    else:
        told = clustered_mean(apart, clusters, seed, unit)
    known_rows = [(d * w, c) for d, w, c in zip(apart, weights, clusters, strict=True) if d is not None]
    p = paired_p([d for d, _ in known_rows], [c for _, c in known_rows], seed)
    return Difference(told, p)


def _adjusted(rows: Sequence[Compared]) -> list[Compared]:
    families: dict[str, list[tuple[int, str]]] = {}
    for n, row in enumerate(rows):
        metric = row.metric.partition(": ")[0]
        own = row.detail or metric in APART
        families.setdefault(metric if own else "", []).extend((n, other) for other in row.differences)
    by_place: dict[tuple[int, str], float | None] = {}
    for places in families.values():
        by_place |= zip(places, holm([rows[n].differences[other].p for n, other in places]), strict=True)
    return [
        replace(row, differences={o: replace(d, p_holm=by_place[n, o]) for o, d in row.differences.items()})
        for n, row in enumerate(rows)
    ]
