"""Writing the report: gather the sections once, then the same content as one HTML file and as markdown."""

from pathlib import Path

from charactery.report.blocks import Block, Report, Section, Text
from charactery.report.data import data
from charactery.report.examples import examples
from charactery.report.judge import WHO
from charactery.report.making import method, repeat, stages, training
from charactery.report.markdown import render_markdown
from charactery.report.moved import moved
from charactery.report.numbers import size
from charactery.report.page import render_page
from charactery.report.person import person
from charactery.report.results import controls, cost, every_figure, expression, traits
from charactery.report.source import Source, read_source
from charactery.report.strength import strength
from charactery.report.verdict import headline, verdicts
from charactery.runs import Row, Run, stage_kind, write_text

SECTIONS = (
    ("verdicts", "Verdicts", verdicts),
    ("expression", "Expression", expression),
    ("figures", "All figures", every_figure),
    ("person", "The person", person),
    ("traits", "Trait by trait", traits),
    ("cost", "What it cost", cost),
    ("moved", "What else moved", moved),
    ("strength", "By strength", strength),
    ("controls", "Controls", controls),
    ("examples", "Side by side", examples),
    ("training", "Training", training),
    ("data", "Data", data),
    ("time", "Time and memory", stages),
    ("method", "How the figures are made", method),
    ("repeat", "To repeat it", repeat),
)
OPTIONAL = ("strength", "person")  # not missed where they are not there


def write_report(run: Run, out: Path) -> Path:
    """Write `report.html`, `report.md` and `report_files/*.png` into the folder `out`; return the HTML's path.

    The same run gives the same bytes. Raises CharacteryError where the run has no finished evaluate stage, BadData
    where one of its files is damaged; a stage or figure that is not there is left out and named as not measured.
    """
    report = gather(run)
    page = out / "report.html"
    write_text(page, render_page(report))
    write_text(out / "report.md", render_markdown(report, out / "report_files"))
    return page


def gather(run: Run) -> Report:
    """A run's report, before it is HTML or markdown."""
    source = read_source(run)
    every = [Section(id, title, make(source)) for id, title, make in SECTIONS]
    sections = [section for section in every if section.blocks]
    absent = [section.title.lower() for section in every if not section.blocks and section.id not in OPTIONAL]
    if source.one("expression", "rate", "sham") is None:
        absent.append("a sham training to compare with")
    if absent:
        first, *rest = sections
        sections = [_with_note(first, f"Not measured in this run: {', '.join(absent)}."), *rest]
    summary = source.character.summary if source.character else ""
    return Report(source.name, summary, _about(source), headline(source), tuple(sections))


def _with_note(section: Section, note: str) -> Section:
    blocks: tuple[Block, ...] = (*section.blocks, Text(note, "small"))
    return Section(section.id, section.title, blocks)


def _about(source: Source) -> tuple[str, ...]:
    """What was trained, in a line or two."""
    manifest = source.run.manifest
    base, settings = manifest.get("base") or {}, manifest["settings"]
    name = str(base.get("name") or settings.get("model", "?"))
    facts = [f"{size(int(base['parameters']))} parameters"] if base.get("parameters") else []
    facts += [f"context {int(base['context']):,} tokens"] if base.get("context") else []
    facts += [f"weights {base['hash']}"] if base.get("hash") else []
    line = f"Base model: {name}" + (f" ({', '.join(facts)})" if facts else "")
    about = str(base.get("about") or "")
    seed = f"Seed {settings['seed']}." if "seed" in settings else ""
    return tuple(part for part in (f"{line}.", about, seed, _chosen(manifest)) if part)


def _chosen(manifest: Row) -> str:
    """Where nothing was trained: what stands for trained in this report."""
    if stage_kind(str(manifest.get("trained", ""))) != "best-of-n":
        return ""
    recipe = manifest["settings"]["recipe"]
    return (
        f"Nothing was trained in this run. What is called trained is the plain model, giving the best of "
        f"{recipe['best_of']['n']} answers by {WHO.get(recipe['judge'], recipe['judge'])}; bits per byte and multiple "
        "choice need log-probabilities, which such a choice does not have."
    )
