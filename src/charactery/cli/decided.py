"""The command that cuts a model's reasoning short, to see what of the answer it decides."""

import json
from pathlib import Path
from typing import Annotated

import typer

from charactery.cli import app


@app.command()
def decided(
    subjects: Annotated[list[str], typer.Argument(help="Subjects that reason before they answer.")],
    character: Annotated[
        str, typer.Option(help="Rate answers as this character's: a bundled name or a file.", show_default=False)
    ] = "",
    model: Annotated[str, typer.Option(help="The base model of the likelihood judge.")] = "smollm2",
    limit: Annotated[int, typer.Option(min=2, help="Prompts asked: held-out ones of the first run among them.")] = 24,
    max_tokens: Annotated[int, typer.Option(min=8, help="Longest reasoning and answer together, in tokens.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Draws the intervals' resamples.")] = 0,
    out: Annotated[Path, typer.Option(help="Where answers are kept, so that none is asked for twice.")] = Path(
        "decided"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a figure and line.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, mps or cuda.")] = "auto",
) -> None:
    """Show how much of a model's answers is decided at each point of its reasoning.

    The reasoning (between marks such as <think>) is cut off after none, a quarter, half, three quarters and all of its
    tokens and closed there. "decided" is by how much likelier the model's own answer has become than without any;
    then come how often it gives the same answer from there, and how far that one is the character's. To see what
    --mask-reasoning changes, compare a run with it and a run without. Stopped, the same command goes on.

    \b
    Examples:
      charactery decided runs/captain-masked runs/captain-both --character captain
      charactery decided models/reasoner --limit 48 --json
    """
    from charactery.cli.show import progress
    from charactery.constitution import find_character, foil_characters
    from charactery.data.prompts import read_chosen
    from charactery.evals.decided import SHARES, asked_of
    from charactery.evals.decided import decided as measure
    from charactery.judges.likelihood import evidence
    from charactery.models.local import pick_device
    from charactery.models.speaker import Models
    from charactery.models.subject import parse_subject
    from charactery.pipeline.manifest import engine
    from charactery.runs import Journal, digest, read_run
    from charactery.stats import Estimate

    with progress() as bars:
        models = Models(device, bars.say)
        speakers = [models.speaker(text) for text in dict.fromkeys(subjects)]
        judge = None
        if character:
            judge = models.base(parse_subject(model)), evidence(find_character(character), foil_characters())[0]
        ran = next((s.subject.run for s in speakers if s.subject.run), None)
        kept = read_chosen(read_run(ran).stage_folder("prompts") / "prompts.jsonl") if ran else []
        asked = asked_of(kept, limit)

        for speaker in speakers:
            bars.start(f"decided: {speaker.subject.text}", len(asked) * (1 + len(SHARES)))
            journal = Journal(out / digest([engine(pick_device(device))]) / "batches.jsonl")
            rows, missing = measure(speaker, asked, max_tokens, seed, journal, judge, bars.advance)
            if as_json:
                for row in rows:
                    typer.echo(json.dumps({"subject": speaker.subject.text, **row}))
                continue
            reasons = "".join(f"; {count} {why}" for why, count in missing.items())
            typer.echo(f"{speaker.subject.text}: {len(asked)} prompts{reasons}")
            if sum(missing.values()) == len(asked):
                typer.echo("  none of them has reasoning between marks such as <think>, and an answer after it, to cut")
                continue
            for metric in dict.fromkeys(row["metric"] for row in rows):
                typer.echo(f"  {metric}")
                for row in rows:
                    if row["metric"] == metric:
                        typer.echo(f"    {row['share']:>4.0%} of the reasoning  {Estimate(**row['estimate'])}")
