"""How far judges can be trusted: how often they prefer the better answer of pairs in which that is known."""

import shlex
from typing import Any

from charactery.judges.labelled import MEASURED, measured
from charactery.judges.rating import LIKELIHOOD, STUDENT
from charactery.report.blocks import Block, Table, Text
from charactery.report.figures import read_estimate
from charactery.report.files import stage_file, stage_json
from charactery.report.numbers import interval, short_interval
from charactery.report.source import Source
from charactery.runs import Row, Run

WHO = {"likelihood": "the likelihood judge", "authorship": "the authorship judge"}
OUTCOMES = {
    "first": "the first answer", "second": "the second", "tie": "a tie", "refusal": "the judge refused",
    "unparsed": "nothing that could be read", "order": "another with the answers the other way about",
    "rated": "rated", "empty": "none, the answer was empty", "too long": "none, the answer did not fit the context",
}  # fmt: skip


def trusted(run: Run) -> tuple[Block, ...]:
    """How far the judge that compared a run's answers can be trusted; nothing where the run did not ask that."""
    path = stage_file(run, "judge", "agreement.json")
    found: dict[str, Any] | None = stage_json(run, "judge", "agreement.json")
    if not found or path is None:
        return ()
    name = found["judge"]
    judges = list(dict.fromkeys((name, LIKELIHOOD)))
    length = read_estimate(found["by_length"], path)
    rows = []
    for judge in judges:
        for row in found[judge]["agreement"]:
            e = read_estimate(row["estimate"], path)
            what = "All pairs" if row["group"] == "all" else f"{row['group'].capitalize()}: {row['value']}"
            rows.append((WHO.get(judge, judge), what, interval(e), f"{e.n:,}", f"{e.missing:,}"))
    said = "Answers were compared by "
    said += (
        f"{WHO.get(name, name)}. How often it prefers the better answer of pairs in which that is known; choosing the "
    )
    said += f"longer one is right in {short_interval(length, percent=True)}."
    kappas = [(judge, read_estimate(found[judge]["kappa"], path)) for judge in judges if "kappa" in found[judge]]
    if kappas:  # runs of before have none
        told = ", ".join(f"{interval(e)} for {WHO.get(judge, judge)} (n {e.n:,})" for judge, e in kappas)
        said += f" Cohen's kappa, of which a coin has 0: {told}."
    blocks: list[Block] = [Text(said)]
    if STUDENT in (run.manifest.get("notes") or []):
        blocks.append(Text(STUDENT, "warning"))
    header = ("Judge", "Pairs", "Right [95%]", "n", "Without a verdict")
    blocks.append(Table(header, tuple(rows), frozenset({"Right [95%]", "n", "Without a verdict"})))
    whole = read_estimate(found[name]["agreement"][0]["estimate"], path)
    if whole.low is None or whole.low <= 0.5:
        said = "This judge is not clearly better than a coin on these pairs; what it chose may be anything."
        blocks.append(Text(said, "warning"))
    outcomes = [row for judge in judges for row in outcome_rows(found[judge], WHO.get(judge, judge))]
    blocks.append(Table(("Judge", "What it said", "How often"), tuple(outcomes), frozenset({"How often"})))
    if same := found.get("same as the likelihood judge"):
        said = (
            f"Where both have a verdict, it agrees with the likelihood judge in {interval(read_estimate(same, path))}."
        )
        blocks.append(Text(said))
    return tuple(blocks)


def outcome_rows(found: dict[str, Any], judge: str = "") -> list[tuple[str, str, str]]:
    """What the judge said how often, what was no verdict with it; none of the runs that did not count it."""
    return [(judge, OUTCOMES.get(k, k), f"{n:,}") for k, n in (found.get("outcomes") or {}).items() if n]


def likelihood_right(source: Source) -> tuple[Block, ...]:
    """How often the likelihood judge is right, by this run's base: as measured in the run, or beforehand, or not."""
    if not any("likelihood" in figure.metric for figure in source.figures):
        return ()
    settings = source.run.manifest["settings"]
    path = stage_file(source.run, "judge", "agreement.json")
    if path is not None:
        found = stage_json(source.run, "judge", "agreement.json")
        return _right({"by_length": found["by_length"], **found[LIKELIHOOD]}, path, "Measured in this run.")
    known = measured()
    if (settings.get("model"), settings.get("base_hash")) == (known["model"], known["base_hash"]):
        whence = f"Measured beforehand by {known['by']} with these weights, {known['model']} {known['base_hash']}."
        return _right(known, MEASURED, whence)
    command = shlex.join(["charactery", "judge", LIKELIHOOD, "--model", str(settings.get("model", "MODEL"))])
    return (Text(
        "How often the likelihood judge prefers the better answer of pairs in which that is known was not measured "
        f"with this model. This measures it: {command}"
    ),)  # fmt: skip


def _right(found: Row, path: Any, whence: str) -> tuple[Block, ...]:
    shares = {row["value"]: read_estimate(row["estimate"], path) for row in found["agreement"]
              if row["group"] in ("all", "difficulty")}  # fmt: skip
    whole = shares.pop("all")
    said = f"The likelihood judge prefers the better answer of labelled pairs in {interval(whole)} (n {whole.n:,}"
    said += f", {whole.missing:,} without a verdict)" if whole.missing else ")"
    said += f", where choosing the longer one is right in {interval(read_estimate(found['by_length'], path))}"
    said += f"; Cohen's kappa {interval(read_estimate(found['kappa'], path))}." if "kappa" in found else "."
    told = [f"{short_interval(e)} of the {value} (n {e.n:,})" for value, e in shares.items()]
    said += f" It is right in {', '.join(told)}." if told else ""
    return (Text(f"{said} {whence}"),)
