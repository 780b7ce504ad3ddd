"""The command that sets the best of n beside trainings on the same judge."""

import json
from pathlib import Path
from typing import Annotated

import typer

from charactery.cli import app
from charactery.cli.runs import named


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
    from charactery.pipeline.distil import Watch
    from charactery.pipeline.frontier import comparable, every_point, in_common, measure_frontier
    from charactery.pipeline.plan import foresee_answers
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
