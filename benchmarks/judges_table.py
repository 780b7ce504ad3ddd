"""Judges and teachers as one page: how far each can be trusted, what it takes, and what it is good for.

    python benchmarks/judges_table.py                               judges; no run needed
    python benchmarks/judges_table.py --run runs/captain …          also these runs' classifiers and teachers
    python benchmarks/judges_table.py --judge openai/gpt-5-mini     one more judge

Figures go to benchmarks/judges_table.json and the page to docs/judges.md; those of the likelihood judge also into the
package, for reports to show (MEASURED). What is there is not measured again, and a killed run goes on where it was.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from charactery import __version__
from charactery.constitution import foil_characters
from charactery.data.drafts import CHARACTER
from charactery.judges.classifier import ClassifierJudge
from charactery.judges.labelled import (
    MEASURED,
    Labelled,
    agreement,
    chance_corrected,
    labelled_character,
    labelled_pairs,
)
from charactery.judges.likelihood import evidence
from charactery.judges.rating import LIKELIHOOD
from charactery.models.sentences import SentenceEncoder
from charactery.models.subject import parse_subject
from charactery.pipeline.judging import check_judge
from charactery.pipeline.watch import Watch
from charactery.report.numbers import short_interval
from charactery.runs import Row, Run, digest, read_rows, read_run, write_json, write_text
from charactery.stats import Estimate, rate

HERE = Path(__file__).parent
KEPT, PAGE, KNOWN = HERE / "judges_table.json", HERE.parent / "docs" / "judges.md", HERE / "judges_page.md"
JUDGES = (LIKELIHOOD, "smollm2")


class Spent:
    """CPU seconds of this process, kept in a file as work advances, so that a killed attempt's are counted too."""

    def __init__(self, path: Path) -> None:
        self.path, self.began = path, time.process_time()
        self.before = float(path.read_text()) if path.exists() else 0.0

    def __call__(self, units: int = 0) -> float:
        """All of them so far."""
        total = self.before + time.process_time() - self.began
        write_text(self.path, f"{total:.1f}")
        return total


def checked(name: str, out: Path) -> Row:
    """A judge on the labelled pairs."""
    spent = Spent(out / f"{name.replace('/', '-')}.cpu")
    found = check_judge(name, watch=Watch(say=print, advance=spent), out=out)
    by = {"by": f"benchmarks/judges_table.py of Charactery {__version__}", "read": what_is_read()}
    return found | {"cpu": round(spent())} | (by if name == LIKELIHOOD else {})


def what_is_read() -> str:
    """A digest of all that the likelihood judge is shown of this set: with another its figures are others."""
    pairs, foils = labelled_pairs(), foil_characters()
    whole = [evidence(labelled_character(pair), foils)[0] for pair in pairs]
    return digest([[vars(pair), held.text, held.foils] for pair, held in zip(pairs, whole, strict=True)])


def shipped(row: Row) -> Row:
    """Of the likelihood judge's row what reports show."""
    names = ("by", "model", "base_hash", "read", "pairs", "agreement", "kappa", "by_length")
    return {name: row[name] for name in names}


def of_choices(name: str, pairs: Sequence[Labelled], right: Sequence[bool | None], cpu: float) -> Row:
    """The same of a judge whose choices are there."""
    return {
        "judge": name, "pairs": len(pairs), "agreement": agreement(pairs, right), "cpu": round(cpu),
        "kappa": chance_corrected(pairs, right).as_dict(), "outcomes": {},
    }  # fmt: skip


def by_length() -> Row:
    """The longer answer, in words."""
    pairs = labelled_pairs()
    words = [(len(p.better.split()), len(p.worse.split())) for p in pairs]
    return of_choices("length", pairs, [None if a == b else a > b for a, b in words], 0)


def by_classifier(run: Run) -> Row:
    """The classifier judge of a run, on the pairs of its character."""
    began, character = time.process_time(), _character(run)
    pairs = [p for p in labelled_pairs() if p.character == character]
    odds = _classifier(run).log_odds(SentenceEncoder()([text for p in pairs for text in (p.better, p.worse)]))
    name = f"classifier of {character}, seed {run.manifest['settings']['seed']}"
    return of_choices(name, pairs, [bool(a > b) for a, b in odds.reshape(-1, 2)], time.process_time() - began)


def teaching(run: Run) -> Row:
    """What a run's teacher is worth: how much of what it wrote is kept and in character, and what was learnt of it."""
    drafts, settings = run.stage_folder("drafts"), run.manifest["settings"]
    kept = read_rows(drafts / "drafts.jsonl")
    written = [row["text"] for row in kept if row["side"] == CHARACTER and row["kind"] != "task"]
    heard = _classifier(run).hear(written, SentenceEncoder())
    figures = json.loads((run.stage_folder("evaluate") / "figures.json").read_text())

    def figure(metric: str, subject: str) -> Any:
        wanted = ("expression", metric, subject, "turn 1")
        return next(
            f["estimate"] for f in figures
            if (f["eval"], f["metric"], f["subject"], f["condition"]) == wanted and not f["trait"]
        )  # fmt: skip

    record = run.record("drafts")
    return {
        "character": _character(run), "seed": settings["seed"], "teacher": _teacher(run),
        "recipe": settings["recipe"]["name"], "drafts": len(kept),
        "set aside": len(read_rows(drafts / "set_aside.jsonl")),
        "written": rate([None if odds is None else odds > 0 for odds in heard]).as_dict(),
        "student": figure("rate", "trained"), "plain": figure("rate", "plain"),
        "likelihood": figure("likelihood", "trained"), "seconds": round(record.seconds if record else 0),
    }  # fmt: skip


def _teacher(run: Run) -> str:
    """Who it was; of a run, by which recipe it was trained."""
    settings = run.manifest["settings"]
    if not settings.get("teacher"):
        return f"{settings['model']}, prompted"
    subject = parse_subject(settings["teacher"]["subject"])
    if subject.run is None:
        return subject.text
    taught = read_run(subject.run).manifest["settings"]
    return f"{taught['model']}, trained by `{taught['recipe']['name']}`"


def _classifier(run: Run) -> ClassifierJudge:
    return ClassifierJudge.from_row(json.loads((run.stage_folder("evaluate") / "judge.json").read_text()))


def _character(run: Run) -> str:
    return str(run.manifest["settings"]["character"])


def page(judges: Sequence[Row], teachers: Sequence[Row]) -> str:
    """docs/judges.md: the tables, in the page that says what they mean."""
    groups = ("all", "easy", "medium", "hard")
    lines = [
        "| judge | pairs | right | easy | medium | hard | kappa | no verdict | order disagreed | CPU seconds |",
        f"|{'---|' * 10}",
    ]
    for row in judges:
        by = {r["value"]: r["estimate"] for r in row["agreement"]}
        shares = " | ".join(_cell(by.get(name)) for name in groups)
        order, missing = row["outcomes"].get("order", "–"), by["all"]["missing"]
        cells = [row["judge"], row["pairs"], shares, _cell(row["kappa"]), missing, order, row["cpu"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    told = [
        "| character | seed | teacher | drafts kept | set aside | in character | student of `distill` | plain | "
        "student, likelihood | seconds |",
        f"|{'---|' * 10}",
    ]
    for row in teachers:
        told.append(
            f"| {row['character']} | {row['seed']} | {row['teacher']} | {row['drafts']} | {row['set aside']} | "
            f"{_cell(row['written'])} | {_cell(row['student'])} | {_cell(row['plain'])} | {_cell(row['likelihood'])} | "
            f"{row['seconds']} |"
        )
    text = KNOWN.read_text()
    return text.replace("JUDGES", "\n".join(lines)).replace("TEACHERS", "\n".join(told))


def _cell(estimate: Row | None) -> str:
    if estimate is None or estimate["value"] is None:
        return "–"
    return short_interval(Estimate(**estimate))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, action="append", default=[], help="a finished run")
    parser.add_argument("--judge", action="append", default=[], help="a Subject")
    parser.add_argument("--out", type=Path, default=Path("runs/judged"), help="where verdicts are kept")
    options = parser.parse_args()
    kept: Row = json.loads(KEPT.read_text()) if KEPT.exists() else {"judges": {}, "teachers": {}}

    def keep(kind: str, name: str, row: Row) -> None:
        kept[kind][name] = row
        write_json(KEPT, kept)
        write_text(PAGE, page([*kept["judges"].values()], [*kept["teachers"].values()]))

    if "length" not in kept["judges"]:
        keep("judges", "length", by_length())
    for name in (*JUDGES, *options.judge):
        if name not in kept["judges"]:
            keep("judges", name, checked(name, options.out))
    write_json(MEASURED, shipped(kept["judges"][LIKELIHOOD]))
    for folder in options.run:
        run = read_run(folder)
        if any(p.character == _character(run) for p in labelled_pairs()):
            row = by_classifier(run)
            keep("judges", row["judge"], row)
        if run.manifest["settings"]["recipe"]["name"] != "distill":
            parser.error(f"{folder} is of another recipe; teachers are compared by what `distill` makes of them")
        row = teaching(run)
        keep("teachers", f"{row['character']} {row['seed']}, {row['teacher']}", row)
    write_text(PAGE, page([*kept["judges"].values()], [*kept["teachers"].values()]))


if __name__ == "__main__":
    main()
