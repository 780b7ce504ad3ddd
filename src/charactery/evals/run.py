"""Running evals on Subjects: through Inspect, into a results folder, and on from where it was stopped."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inspect_ai.model import Model

from charactery.errors import CharacteryError
from charactery.evals.asking import PROMPT, TOP
from charactery.evals.asks import FAILED
from charactery.evals.controls import quiet
from charactery.evals.definition import BUNDLED, Case, Eval, Figure
from charactery.evals.duplicates import learnt_texts, near_duplicates
from charactery.evals.inspecting import inspect_eval
from charactery.evals.judged import agreement
from charactery.evals.results import RESULTS, SAMPLES, add_rows, figure_rows, sample_rows
from charactery.evals.tasks import GRADER, answered_cases, failures, scored_cases, task_of, unjudged
from charactery.evals.trust import KAPPA, declined
from charactery.judges.best_of import choosing
from charactery.models.inspect_provider import count_halved, subject_model
from charactery.models.speaker import Models, Speaker
from charactery.models.subject import Subject, parse_subject
from charactery.runs import Journal, Row, digest, write_rows, write_text
from charactery.stats import Estimate

LONGEST_NAME = 150  # letters of a file's name: of what is longer, its beginning and a digest


@dataclass(frozen=True)
class Order:
    """What to run and where to put it. `limit` takes the first cases only; `judge` is a Subject for judged metrics."""

    out: Path
    source: str = BUNDLED
    data: str = ""
    method: str = "auto"
    seed: int = 0
    limit: int | None = None
    device: str = "auto"
    judge: str = ""


@dataclass(frozen=True)
class _Judge:
    text: str
    model: Model
    agreed: Estimate


def run_evals(
    evals: Sequence[Eval],
    subjects: Sequence[str],
    order: Order,
    say: Callable[[str], None] = lambda line: None,
    start: Callable[[str, int], None] = lambda name, units: None,
    advance: Callable[[int], None] = lambda units: None,
) -> list[Row]:
    """Every eval on every subject; rows of results.parquet, which they are added to as each is done.

    Answers and log-probabilities are kept in the folder's journal: the same command goes on where it was stopped.
    Raises CharacteryError for whatever the user can mend, before anything is loaded where that can be; for a subject
    that fails in every case, with its earlier rows as they were; for a judge that stops giving verdicts, once the
    figures that need none are in the tables.
    """
    asked = [(eval, eval.made(order.source, order.data)[: order.limit]) for eval in evals]
    wanted = [parse_subject(text) for text in subjects]
    if order.method in (PROMPT, TOP) and (chosen := next((s.text for s in wanted if s.best_of), None)):
        raise CharacteryError(
            f"{chosen!r} is the best of several answers and has no log-probabilities; give --method samples"
        )
    models = Models(order.device, say, choosing)
    journal = Journal(order.out / "journal.jsonl")
    start("evals", len(asked) * len(wanted))
    judges = {e.name: _judge(e, order, models, journal, say) for e in evals if e.judging is not None}
    rows: list[Row] = []
    for subject in wanted:  # each is loaded once, whatever number of evals it takes
        speaker = models.speaker(subject)
        for eval, cases in asked:
            rows += _run(eval, cases, speaker, judges.get(eval.name), order, journal, say)
            advance(1)
    return rows


def _judge(eval: Eval, order: Order, models: Models, journal: Journal, say: Callable[[str], None]) -> _Judge | None:
    """The judge with its agreement on the eval's labelled set; None where the order names none."""
    assert eval.judging is not None
    if not order.judge:
        unread = (
            f", and what a judge alone reads ({', '.join(alone)}) is not asked" if (alone := eval.judging.alone) else ""
        )
        say(f"{eval.name}: without --judge SUBJECT, its judged metrics are left out{unread}")
        return None
    model = subject_model(models.speaker(order.judge), journal=journal)
    agreed = agreement(eval, model, order.out / "logs", order.seed)
    say(f"{eval.name}: the judge {order.judge} agrees with the labelled set with kappa {agreed}")
    return _Judge(order.judge, model, agreed)


def _run(
    eval: Eval,
    cases: Sequence[Case],
    speaker: Speaker,
    judge: _Judge | None,
    order: Order,
    journal: Journal,
    say: Callable[[str], None],
) -> list[Row]:

    subject = speaker.subject
    cases = cases if judge else [eval.without_judge(case) for case in cases]
    agreed = judge.agreed if judge else None
    task = task_of(eval, cases, order.source, order.method, order.seed, agreed)
    model = subject_model(speaker, journal=journal)
    roles: dict[str, Any] = {"model_roles": {GRADER: judge.model}} if judge else {}
    [log] = inspect_eval(task, model=model, **roles, **quiet(order.out / "logs"))
    scored = scored_cases(eval, log, cases)
    if why := failures(log):
        failed = sum(s.outcome == FAILED for s in scored)
        if failed == len(scored):
            raise CharacteryError(
                f"{subject.text} answered nothing in {eval.name}: {why[0]}. Earlier figures are as they were; once it "
                "can be reached, the same command goes on",
                order.out,
            )
        say(f"{eval.name}, {subject.text}: {failed} cases failed: {why[0]}")
    common = {"source": order.source, "data": order.data, "subject": subject.text, "seed": order.seed}
    figures = declined(eval.figures(scored, order.seed), agreed)
    if agreed:
        figures.append(Figure(KAPPA, KAPPA.name, agreed, {}))
    of_run = {"judge": judge.text if judge else "", "identity": speaker.identity, "cases": len(cases),
              "limit": order.limit, "method_given": order.method, "halved": count_halved(model)}  # fmt: skip
    rows = figure_rows(eval, figures, {**common, **of_run, "log": str(log.location)})
    add_rows(order.out, SAMPLES, sample_rows(eval, scored, common))
    add_rows(order.out, RESULTS, rows)
    if judge and (why := unjudged(log)):
        raise CharacteryError(
            f"the judge {judge.text} stopped giving verdicts in {eval.name} on {subject.text}: {why[0]}. What is done "
            "is kept; once it can be reached, the same command goes on",
            order.out,
        )
    name = _file_name(eval.name, subject, order)
    _list_duplicates(cases, subject, order.out / "near_duplicates" / f"{name}.jsonl", eval.name, say)
    if eval.page:
        path = order.out / "pages" / f"{name}.html"
        write_text(path, eval.page(subject.text, answered_cases(log)))
        say(f"{eval.name}, {subject.text}: {path}")
    return rows


def _file_name(name: str, subject: Subject, order: Order) -> str:
    """Of what is kept of an eval and Subject: with the source and the data, where it is not the bundled items."""
    parts = [name, subject.text, *([] if order.source == BUNDLED else [order.source, order.data])]
    plain = ("".join(c if c.isalnum() else "-" for c in part).strip("-") for part in parts)
    whole = "-".join(part for part in plain if part)
    return whole if len(whole) <= LONGEST_NAME else f"{whole[: LONGEST_NAME - 17]}-{digest(parts)}"


def _list_duplicates(
    cases: Sequence[Case], subject: Subject, path: Path, name: str, say: Callable[[str], None]
) -> None:
    """Of a run, list the cases that are nearly a text it was trained on."""
    if subject.run is None or not (learnt := learnt_texts(subject.run)):
        return
    found = near_duplicates(cases, learnt)
    write_rows(path, [asdict(d) for d in found])
    if found:
        say(f"{name}: {len(found)} cases are nearly texts that {subject.text} was trained on; see {path}")
