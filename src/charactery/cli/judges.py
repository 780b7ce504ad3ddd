"""The command that says how far judges can be trusted."""

import json
from pathlib import Path
from typing import Annotated

import typer

from charactery.cli import app


@app.command()
def judge(
    judges: Annotated[
        list[str], typer.Argument(help="`likelihood`, or a Subject that compares answers.", show_default=False)
    ],
    model: Annotated[str, typer.Option(help="The base model of the likelihood judge.")] = "smollm2",
    pairs: Annotated[
        Path | None,
        typer.Option(help="Your own labelled pairs (JSON lines) in place of those that ship.", show_default=False),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first pairs.", show_default=False)] = None,
    out: Annotated[Path, typer.Option(help="Where verdicts are kept, so that none is asked for twice.")] = Path(
        "judged"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a judge and line.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, mps or cuda.")] = "auto",
) -> None:
    """Check judges on pairs of answers whose better one is known.

    Pairs on which a judge gives no verdict (a tie, a refusal, another answer when the two change places) are counted
    as missing, and never as right or wrong. Stopped, the same command goes on.

    Your own pairs are JSON lines of prompt, better, worse and character (a name, or a path from the file's folder);
    id, difficulty and contrast may stand beside them:

    \b
      {"prompt": "Tea?", "better": "Aye, black.", "worse": "Yes, please.", "character": "captain"}

    Look at the share by length alone: far from one half, on either side, length gives the better answer away.

    \b
    Examples:
      charactery judge likelihood
      charactery judge likelihood smollm2 openai/gpt-5-mini --json
      charactery judge likelihood --pairs mine.jsonl
    """
    from charactery.cli.show import progress
    from charactery.pipeline.judging import check_judge
    from charactery.pipeline.watch import Watch
    from charactery.stats import Estimate

    for name in judges:
        with progress() as bars:
            found = check_judge(name, model, device, Watch(bars.say, bars.start, bars.advance), limit, out, pairs)
        if as_json:
            typer.echo(json.dumps(found, ensure_ascii=False))
            continue
        typer.echo(f"{name}: {found['pairs']} pairs in {found['seconds']} s")
        for row in found["agreement"]:
            said = Estimate(**row["estimate"])
            what = "right" if row["group"] == "all" else f"{row['group']} {row['value']}"
            typer.echo(f"  {what:<26} {said}")
        typer.echo(f"  {'kappa':<26} {Estimate(**found['kappa'])}")
        length = Estimate(**found["by_length"])
        typer.echo(f"  {'by length alone':<26} {length}")
        if length.low is not None and length.high is not None and not length.low <= 0.5 <= length.high:
            typer.echo(
                "  length gives the better answer away: a judge may be right by it and know nothing of character"
            )
        outcomes = ", ".join(f"{count} {name}" for name, count in found["outcomes"].items() if count)
        typer.echo(f"  verdicts: {outcomes}\n")
