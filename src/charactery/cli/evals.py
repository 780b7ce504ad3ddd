"""Commands on evals: eval, compare, curve."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charactery.cli import app
from charactery.errors import CharacteryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from charactery.evals.controls import Recovered
    from charactery.evals.definition import Eval, Metric

ALL = "all"


@app.command(name="eval")
def evaluate(
    names: Annotated[
        list[str] | None, typer.Argument(help="Evals by name, `all`, or an eval's folder.", show_default=False)
    ] = None,
    subject: Annotated[
        list[str] | None, typer.Option(help="Whom to measure; may be given several times.", show_default=False)
    ] = None,
    controls: Annotated[
        bool, typer.Option("--controls", help="Measure scripted subjects; 1 where one comes out wrong.")
    ] = False,
    sets: Annotated[int, typer.Option(min=0, help="With --controls: data sets drawn of each.")] = 200,
    new: Annotated[
        str | None, typer.Option("--new", help="Write the skeleton of an eval of this name here.", show_default=False)
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first cases.", show_default=False)] = None,
    source: Annotated[str, typer.Option(help="bundled, or public data that the eval names.")] = "bundled",
    data: Annotated[
        str, typer.Option(help="Where that data lies: a folder, or hf:ORG/NAME@REVISION.", show_default=False)
    ] = "",
    method: Annotated[
        str, typer.Option(help="How options are read: auto, prompt_logprobs, top_logprobs or samples.")
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
    judge: Annotated[
        str, typer.Option(help="A Subject that judges, for metrics that need one.", show_default=False)
    ] = "",
    out: Annotated[Path, typer.Option(help="The results folder; it may hold earlier ones.")] = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a figure and line.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, mps or cuda.")] = "auto",
) -> None:
    """Measure Subjects, or the evals themselves.

    Without a name, the evals there are. Results go to `results.parquet` in the results folder, Inspect's logs to
    `logs/` in it (`inspect view --log-dir results/logs`). Stopped, the same command goes on; controls begin anew.

    \b
    Examples:
      charactery eval sycophancy --subject runs/captain
      charactery eval all --subject smollm2 --subject smollm2+captain --limit 40
      charactery eval who --controls
      charactery eval recall --controls --source openai_model_spec --data model_spec
      charactery eval --new kindness
    """
    if new is not None:
        from charactery.evals.new import new_eval

        for path in new_eval(new, Path.cwd()):
            typer.echo(str(path))
        return
    from charactery.evals.registry import find_eval
    from charactery.evals.registry import names as all_names

    if not names:
        for name in all_names():
            typer.echo(name)
            for metric in find_eval(name).metrics:
                typer.echo(f"  {metric.name:<18} {metric.about}{_without(metric)}")
        return
    wanted = [name for given in names for name in (all_names() if given == ALL else [given])]
    if controls:
        _controls([*dict.fromkeys(wanted)], sets, source, data, as_json)
        return
    evals = [find_eval(name) for name in dict.fromkeys(wanted)]
    if not subject:
        raise CharacteryError("whom should it measure? Give --subject smollm2 say, or --controls")
    from charactery.cli.show import progress
    from charactery.evals.run import Order, run_evals

    order = Order(out, source, data, method, seed, limit, device, judge)
    with progress() as bars:
        rows = run_evals(evals, subject, order, bars.say, bars.start, bars.advance)
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row, ensure_ascii=False))
        return
    _print(rows)
    typer.echo(f"\nresults: {out / 'results.parquet'}   logs: inspect view --log-dir {out / 'logs'}")


def _without(metric: "Metric") -> str:
    none = [] if metric.none is None else [f"{metric.none:g} without the behaviour"]
    luck = [] if metric.luck in (None, metric.none) else [f"by luck {_luck(metric.luck)}"]
    return f" ({', '.join([*none, *luck])})" if none or luck else ""


def _luck(luck: float | str | None) -> str:
    return f"as often as {luck}" if isinstance(luck, str) else f"{luck:g}"


def _print(rows: list[dict[str, object]]) -> None:
    from charactery.evals.results import estimate_of, too_many

    width = max((len(str(row["metric"])) for row in rows), default=0)
    last = None
    many: dict[str, int] = {}
    for row in rows:
        if (head := (row["eval"], row["subject"])) != last:
            last = head
            mine = [r for r in rows if (r["eval"], r["subject"]) == head]
            many = too_many([str(r["metric"]) for r in mine if r["detail"]])
            where = f"{row['source']} {row['data']}".strip()
            scoring = next((str(r["scoring"]) for r in mine if r["scoring"]), "")
            typer.echo(f"\n{row['eval']} (version {row['version']}, {where}, {row['cases']} cases) on "
                       f"{row['subject']}{f', read by {scoring}' if scoring else ''}")  # fmt: skip
            for metric, count in many.items():
                typer.echo(f"  {metric:<{width}}  {count} figures: with --json, or in the results")
        if str(row["metric"]).partition(": ")[0] in many:
            continue
        counted = ("refused", "empty", "unparsable", "failed", "lost")
        lost = ", ".join(f"{row[what]} {what}" for what in counted if row.get(what))
        told = estimate_of(row)
        said = told.method if told.declined else str(told)
        typer.echo(f"  {row['metric']:<{width}}  {said}{f': {lost}' if lost else ''}")


def _controls(names: list[str], sets: int, source: str, data: str, as_json: bool) -> None:
    """Print planted against recovered. Exits 1 where they disagree."""
    agreed = True
    for eval, rows in _controlled(names, sets, source, data):
        agreed &= all(row.agrees for row in rows)
        if as_json:
            for row in rows:
                typer.echo(json.dumps({"eval": eval.name, "source": source, **row.row()}, ensure_ascii=False))
            continue
        name = eval.name if source == "bundled" else f"{eval.name} ({source})"
        typer.echo(f"\n{name}: planted, recovered through Inspect, and how often the 95% interval holds it")
        for row in rows:
            planted = f"{'at most ' if row.bound else ''}{row.planted:g}"
            covered = "" if row.coverage is None else f"{row.coverage:.3f} of {row.sets}"
            covered = covered if row.mean is None else f"mean {row.mean:.3g} of {row.sets}"
            wrong = "" if row.agrees else "  DISAGREES" if row.inspected else "  DISAGREES: Inspect's path differs"
            typer.echo(f"  {row.control:<28} {row.metric:<28} {planted:<12} {row.estimate!s:<44} {covered}{wrong}")
    if not agreed:
        raise typer.Exit(1)


def _controlled(names: list[str], sets: int, source: str, data: str) -> "Iterator[tuple[Eval, list[Recovered]]]":
    from charactery.cli.show import progress
    from charactery.evals.control_runs import control_runs
    from charactery.evals.registry import find_eval

    evals = {name: find_eval(name) for name in names}
    with control_runs(names, sets, source=source, data=data) as runs:
        for name, eval in evals.items():
            rows = []
            with progress() as bars:
                bars.start(eval.name, len(runs[name]))
                for run in runs[name]:
                    rows += run.result()
                    bars.advance(1)
            yield eval, rows


@app.command()
def compare(
    subjects: Annotated[list[str], typer.Argument(help="Subjects measured before.", show_default=False)],
    evals: Annotated[
        list[str] | None, typer.Option("--eval", help="Only this eval; may be repeated.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed they were measured with.")] = 0,
    out: Annotated[Path, typer.Option(help="The results folder.")] = Path("results"),
    csv: Annotated[Path | None, typer.Option(help="Write the figures as CSV.", show_default=False)] = None,
    latex: Annotated[Path | None, typer.Option(help="Write tables for LaTeX.", show_default=False)] = None,
    plots: Annotated[Path | None, typer.Option(help="Draw into this folder.", show_default=False)] = None,
    page: Annotated[
        Path | None, typer.Option(help="Write one page of all into this folder.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a metric and line.")] = False,
) -> None:
    """Put Subjects side by side: their figures, and how each differs from the first, case by case.

    Figures that were read in different ways are refused: measure both with the same `--method`.

    \b
    Examples:
      charactery compare smollm2 smollm2+captain runs/captain
      charactery compare smollm2 runs/captain --eval who --plots plots --csv who.csv
      charactery compare smollm2 smollm2+captain runs/captain --page side-by-side
    """
    import shlex
    from dataclasses import asdict

    from charactery.evals.comparison import compare as compared
    from charactery.evals.results import SAMPLES, commands, read_table, results_of
    from charactery.report.comparison import as_text, draw, write_csv, write_latex, write_page

    results = results_of(out, subjects, evals or [], seed)
    rows = compared(results, read_table(out, SAMPLES), subjects)
    if as_json:
        for row in rows:
            typer.echo(json.dumps(asdict(row), ensure_ascii=False))
    else:
        typer.echo(as_text(rows, subjects))
    if csv:
        write_csv(rows, csv)
    if latex:
        write_latex(rows, subjects, latex)
    if page:
        only = [part for name in evals or [] for part in ("--eval", name)]
        kept = ["--seed", str(seed), "--out", str(out)]
        there = {(row.eval, row.source, row.data) for row in rows}
        on_it = [row for row in results if (row["eval"], row["source"], row["data"]) in there]
        lines = [[*command, *kept] for command in commands(on_it)]
        lines.append(["charactery", "compare", *subjects, *only, *kept, "--page", str(page)])
        typer.echo(str(write_page(rows, subjects, "\n".join(map(shlex.join, lines)), page)))
    for path in draw(rows, subjects, plots) if plots else []:
        typer.echo(str(path), err=True)


@app.command()
def curve(
    name: Annotated[str, typer.Argument(help="An eval by name, or an eval's folder.")],
    subjects: Annotated[
        str,
        typer.Option(help="Subjects in a row, commas between; RUN:STAGE/* is every checkpoint.", show_default=False),
    ],
    metric: Annotated[
        list[str] | None, typer.Option(help="Only this metric; may be repeated.", show_default=False)
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first cases.", show_default=False)] = None,
    source: Annotated[str, typer.Option(help="bundled, or public data that the eval names.")] = "bundled",
    data: Annotated[str, typer.Option(help="Where that data lies.", show_default=False)] = "",
    method: Annotated[str, typer.Option(help="How options are read, as for `eval`.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
    judge: Annotated[str, typer.Option(help="A Subject that judges.", show_default=False)] = "",
    out: Annotated[Path, typer.Option(help="The results folder; it may hold earlier ones.")] = Path("results"),
    device: Annotated[str, typer.Option(help="auto, cpu, mps or cuda.")] = "auto",
) -> None:
    """Draw an eval's figures along a row of Subjects: the checkpoints of a training, or more and more answers to choose
    from.

    Subjects are measured as `charactery eval` measures them, and go on where that was stopped. The picture is
    `curve-NAME.png` in the results folder; parts of a metric are drawn where `--metric` names them. With the best of
    several answers in the row, all Subjects are read by samples: it has no log-probabilities.

    \b
    Examples:
      charactery curve sycophancy --subjects "smollm2,runs/captain:sft/*,runs/captain:dpo/*"
      charactery curve sycophancy --subjects "smollm2,runs/captain-best:best-of-n/*" --limit 24
      charactery curve took --subjects "smollm2,runs/captain:sft/*" --metric "character: captain"
    """
    from charactery.cli.show import progress
    from charactery.evals.asking import SAMPLES as BY_SAMPLES
    from charactery.evals.comparison import compare as compared
    from charactery.evals.registry import find_eval
    from charactery.evals.results import SAMPLES, read_table, results_of
    from charactery.evals.run import Order, run_evals
    from charactery.models.subject import expand_subjects, parse_subject
    from charactery.report.comparison import as_text
    from charactery.report.curve import curve as drawn
    from charactery.report.picture import save_png

    eval, row = find_eval(name), expand_subjects(subjects)
    with progress() as bars:
        if method == "auto" and any(parse_subject(subject).best_of for subject in row):
            method = BY_SAMPLES
            bars.say("the best of several answers has no log-probabilities: all Subjects are read by samples")
        run_evals([eval], row, Order(out, source, data, method, seed, limit, device, judge), bars.say, bars.start,
                  bars.advance)  # fmt: skip
    found = [
        one
        for one in compared(results_of(out, row, [eval.name], seed), read_table(out, SAMPLES), row)
        if (one.source, one.data) == (source, data) and (one.metric in metric if metric else ":" not in one.metric)
    ]
    if not found:
        raise CharacteryError(f"{eval.name} gave no {' or '.join(metric or ['figure'])}; `charactery eval` lists them")
    typer.echo(as_text(found, row))
    path = out / f"curve-{eval.name}.png"
    save_png(drawn(found, row), path)
    typer.echo(str(path), err=True)
