"""Runs as the gallery shows them: how far each is, what came out, and a line that it said."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charactery.constitution import load_character
from charactery.errors import CharacteryError
from charactery.report.figures import evaluate_folder
from charactery.report.numbers import duration, short_interval
from charactery.report.source import Source, read_source
from charactery.report.verdict import TURN, headline
from charactery.runs import Run, read_rows, read_run
from charactery.stats import Estimate
from charactery.studio.trainings import NAMED, Trainings

BEATS = 20  # seconds without a sign after which nobody is taken to work on a stage; the clock beats every five
WHO = {"plain": "Plain", "prompted": "Prompted", "trained": "Trained", "sham": "Sham"}
STEP = re.compile(r"(\S+): (\d+)(?: of (\d+), about (\d+) s left| to do)")


@dataclass(frozen=True)
class StageView:
    """A stage: `done`, `now` or `later`; what it took, and of the present one how much of how much."""

    name: str
    state: str
    took: str = ""
    done: int = 0
    units: int = 0
    left: str = ""


@dataclass(frozen=True)
class RateView:
    """A rate as it is drawn, in hundredths, and as it is written."""

    who: str
    role: str
    at: float
    low: float
    high: float
    said: str


@dataclass(frozen=True)
class Card:
    """A run: `state` is done, working, stopped, broken off, or damaged with what is wrong in `fault`."""

    name: str
    subject: str
    state: str
    title: str = ""
    summary: str = ""
    recipe: str = ""
    model: str = ""
    seed: int | None = None
    opened: str = ""
    headline: str = ""
    sentence: str = ""
    rates: tuple[RateView, ...] = ()
    n: int = 0
    costs: tuple[tuple[str, str], ...] = ()
    asked: str = ""
    said: str = ""
    stages: tuple[StageView, ...] = ()
    command: str = ""
    begun_here: bool = False
    report: bool = False
    adapter: bool = False
    plate: bool = False
    fault: str = ""

    @property
    def now(self) -> StageView | None:
        """The stage that is next, or under way."""
        return next((stage for stage in self.stages if stage.state == "now"), None)

    @property
    def done(self) -> int:
        """Stages that are finished."""
        return sum(stage.state == "done" for stage in self.stages)


def cards(runs: Path, trainings: Trainings) -> list[Card]:
    """All runs of a folder, those at work first, then by when something last happened to them, the damaged last."""
    names = {path.parent.name for path in runs.glob("*/manifest.json")} | {*trainings.names()}
    names = {name for name in names if NAMED.fullmatch(name)}
    drawn = [(card(runs, name, trainings), _touched(runs / name)) for name in names]
    rank = {"working": 0, "damaged": 2}
    return [one for one, _ in sorted(drawn, key=lambda pair: (rank.get(pair[0].state, 1), -pair[1], pair[0].name))]


def _touched(folder: Path) -> float:
    try:
        return max(path.stat().st_mtime for path in (folder, folder / "report.html") if path.exists())
    except (ValueError, OSError):
        return time.time()


def card(runs: Path, name: str, trainings: Trainings) -> Card:
    """One run. Raises CharacteryError for a name that is no run's; a damaged one is a card that says so."""
    folder = runs / name
    if not NAMED.fullmatch(name) or not (folder.is_dir() or trainings.begun(name)):
        raise CharacteryError(f"there is no run {name[:80]!r} in {runs}")
    begun, at_work = trainings.begun(name), trainings.at_work(name)
    ended = "stopped" if begun and begun.stopped else "broken off"
    if begun and not (folder / "manifest.json").exists():
        state = "working" if at_work else ended
        return Card(name, str(folder), state, name, command=begun.line, begun_here=True)
    try:
        run = read_run(folder)
        at_work = at_work or (begun is None and _beats(run))
        return _card(run, trainings, at_work, ended if begun else "stopped")
    except CharacteryError as error:
        fault = str(error)
    except (LookupError, TypeError, ValueError, AttributeError, OSError) as error:
        fault = f"is damaged ({type(error).__name__}: {error}); restore it, or delete the run"
    return Card(name, str(folder), "damaged", name, fault=fault, begun_here=begun is not None)


def _card(run: Run, trainings: Trainings, at_work: bool, ended: str) -> Card:
    name, manifest, settings = run.folder.name, run.manifest, run.manifest["settings"]
    stages = stage_views(run, trainings.lines(name, 200) if at_work else ())
    complete = all(stage.state == "done" for stage in stages)
    kept = run.folder / "character.md"
    character = load_character(kept) if kept.exists() else None
    words, sentence, source = "", "", None
    if "evaluate" in manifest["stages"] and run.is_done("evaluate"):
        source = read_source(run)
        words, sentence = headline(source)
    asked, said = _line(run) if source else ("", "")
    rates = [f for f in source.figures.where("expression", "rate", TURN, "") if f.subject in WHO] if source else []
    trained = run.stage_folder(str(manifest.get("trained") or manifest["stages"][0])) / "adapter"
    return Card(
        name, str(run.folder), "done" if complete else "working" if at_work else ended,
        character.name if character else str(settings["character"]), character.summary if character else "",
        str((settings.get("recipe") or {}).get("name") or ""), str(settings["model"]).rpartition("/")[2],
        settings.get("seed"), str((manifest.get("opened") or {}).get("from") or ""), words, sentence,
        tuple(_rate(WHO[f.subject], f.subject, f.estimate) for f in rates if f.estimate.value is not None),
        max((f.estimate.n for f in rates), default=0), _costs(source) if source else (), asked, said, stages,
        str(manifest.get("command") or ""), trainings.begun(name) is not None, (run.folder / "report.html").is_file(),
        (trained / "adapter_model.safetensors").is_file(), character is not None,
    )  # fmt: skip


def _beats(run: Run) -> bool:
    """Whether some process works on it, one begun in a terminal say: a stage's clock has been written just now."""
    clocks = [run.stage_folder(name) / "clock.json" for name in run.manifest["stages"] if not run.is_done(name)]
    return any(clock.exists() and time.time() - clock.stat().st_mtime < BEATS for clock in clocks)


def stage_views(run: Run, lines: Sequence[str]) -> tuple[StageView, ...]:
    """The stages, and how far the present one is as the process's lines tell."""
    views, present = [], True
    for name in run.manifest["stages"]:
        record = run.record(name)
        if record is not None:
            where = f", in {Path(record.taken_from).name}" if record.taken_from else ""
            views.append(StageView(name, "done", f"{duration(record.seconds)}{where}" if record.seconds else ""))
        elif present:
            views.append(_present(name, lines))
            present = False
        else:
            views.append(StageView(name, "later"))
    return tuple(views)


def _present(name: str, lines: Sequence[str]) -> StageView:
    for line in reversed(lines):
        if (found := STEP.fullmatch(line)) and found[1] == name:
            if found[3]:
                return StageView(name, "now", "", int(found[2]), int(found[3]), duration(int(found[4])))
            return StageView(name, "now", "", 0, int(found[2]))
    return StageView(name, "now")


def _rate(who: str, role: str, estimate: Estimate) -> RateView:
    value, low, high = (100 * (x or 0.0) for x in (estimate.value, estimate.low, estimate.high))
    return RateView(who, role, round(value, 2), round(low, 2), round(high, 2), short_interval(estimate, percent=True))


def _costs(source: Source) -> tuple[tuple[str, str], ...]:
    """What else a card tells, each with its interval, where it was measured."""
    wanted = (
        ("Of what it does prompted", "expression", "ratio to prompted", TURN, False),
        ("In character where it should not be", "elsewhere", "rate", None, True),
        ("Multiple choice, less the plain model's", "multiple choice", "difference from plain", None, False),
        ("Bits per byte of prose, over the plain model's", "cost", "bits per byte ratio", "prose", False),
    )
    told = []
    for label, eval_, metric, condition, percent in wanted:
        if figure := source.one(eval_, metric, "trained", condition):
            told.append((label, f"{short_interval(figure.estimate, percent)}, n {figure.estimate.n:,}"))
    return tuple(told)


def _line(run: Run) -> tuple[str, str]:
    """What the trained model was asked first among the examples, which were drawn at random, and what it said."""
    path = evaluate_folder(run) / "examples.jsonl"
    for row in read_rows(path) if path.exists() else []:
        answer: Any = (row.get("answers") or {}).get("trained")
        if row.get("condition") == TURN and not row.get("history") and answer:
            return _begins(str(row.get("prompt", "")), 160), _begins(str(answer), 280)
    return "", ""


def _begins(text: str, most: int) -> str:
    """The beginning of a text, cut between words, its lines as they are."""
    text = text.strip()
    return text if len(text) <= most else f"{text[:most].rpartition(' ')[0] or text[:most]}…"
