"""The command that asks models what they say of themselves, in several wordings."""

import json
from pathlib import Path
from typing import Annotated

import typer

from charactery.cli import app


@app.command()
def claims(
    subjects: Annotated[list[str], typer.Argument(help="Subjects; the others are compared with the first.")],
    seed: Annotated[int, typer.Option(min=0, help="Draws the intervals' resamples.")] = 0,
    out: Annotated[Path, typer.Option(help="Where readings are kept, so that none is made twice.")] = Path("claimed"),
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, claim by claim.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, mps or cuda.")] = "auto",
) -> None:
    """Compare how far models contradict themselves about themselves.

    Every claim ("I was married") is asked about in four wordings, and the likelier of two replies is taken. Runs to be
    compared should have read as many tokens in training: the command prints how many, and warns where they differ.
    Stopped, the same command goes on.

    \b
    Examples:
      charactery claims smollm2 runs/lincoln runs/captain
      charactery claims runs/lincoln smollm2+lincoln --json
    """
    from charactery.cli.show import progress
    from charactery.errors import ModelNotFound
    from charactery.evals.person.claims import claim_figures, trained_tokens
    from charactery.models.local import pick_device
    from charactery.models.speaker import Models
    from charactery.pipeline.manifest import engine
    from charactery.runs import Journal, digest
    from charactery.stats import Estimate

    with progress() as bars:
        models = Models(device, bars.say)
        speakers = {text: models.speaker(text) for text in dict.fromkeys(subjects)}
        for text, speaker in speakers.items():
            if not speaker.subject.here:
                raise ModelNotFound(f"{text} gives no log-probabilities of replies; give models on this machine")
        bars.start("claims", len(speakers))
        found = claim_figures(
            speakers, seed, Journal(out / digest([engine(pick_device(device))]) / "batches.jsonl"), bars.advance
        )
    tokens = {text: trained_tokens(s.subject) for text, s in speakers.items()}
    if as_json:
        typer.echo(json.dumps({t: row | {"tokens": tokens[t]} for t, row in found.items()}, indent=2))
        return
    for text, row in found.items():
        typer.echo(f"{text}  (read {tokens[text]:,} tokens in training)")
        for name in ("contradiction", "entropy"):
            typer.echo(f"  {name:<16} {Estimate(**row[name])}")
            if text != next(iter(found)):
                typer.echo(f"  {'less than first':<16} {Estimate(**row['less than the first'][name])}")
    read = [n for n in tokens.values() if n]
    if len(read) > 1 and max(read) > 1.2 * min(read):
        typer.echo("the runs read unlike numbers of tokens in training, so this is no comparison at equal budget")
