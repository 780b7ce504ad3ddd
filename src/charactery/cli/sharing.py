"""Commands to hand a character on: merge, share, open."""

from pathlib import Path
from typing import Annotated

import typer

from charactery.cli import app
from charactery.cli.runs import named
from charactery.cli.talk import Who


@app.command()
def merge(
    subject: Who,
    to: Annotated[Path, typer.Option(help="A new folder, or a new file ending in .gguf.", show_default=False)],
    dtype: Annotated[
        str | None,
        typer.Option(help="float32, float16 or bfloat16.", show_default="float32 in a folder, float16 in .gguf"),
    ] = None,
) -> None:
    """Write a model with its adapter in the weights, for transformers or for llama.cpp and Ollama.

    \b
    Examples:
      charactery merge runs/captain --to captain-merged
      charactery merge runs/captain@0.5 --to captain.gguf
    """
    from charactery.models.speaker import Models
    from charactery.models.subject import parse_subject
    from charactery.share.merge import merge as merge_into

    models = Models("cpu", lambda line: typer.echo(line, err=True))
    written = merge_into(parse_subject(subject), to, models, dtype)
    files = [written] if written.is_file() else [path for path in written.iterdir() if path.is_file()]
    typer.echo(f"{written} written, {sum(path.stat().st_size for path in files) / 1e6:.0f} MB")


@app.command()
def share(
    run: Annotated[Path, typer.Argument(help="A run's folder, or its name in runs/.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="A new .zip file, or a new folder.", show_default="NAME.zip")] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            help="Leave out report, figures, conversations, card or modelfile. May be given again.", show_default=False
        ),
    ] = None,
    gguf: Annotated[bool, typer.Option("--gguf", help="Put the merged model in too, as Ollama takes it.")] = False,
    to_hub: Annotated[
        str | None, typer.Option(metavar="USER/NAME", help="Upload it to the hub as well.", show_default=False)
    ] = None,
) -> None:
    """Make a bundle of a trained character, to give to somebody else: `charactery open` takes it.

    \b
    Examples:
      charactery share runs/captain
      charactery share captain --out captain-bundle --without conversations
    """
    import tempfile

    from charactery.constitution.character import slug
    from charactery.models.speaker import Models
    from charactery.runs import read_run
    from charactery.share.hub import token, upload
    from charactery.share.packing import share as share_run

    folder = named(run)
    models = Models("cpu", lambda line: typer.echo(line, err=True))
    if to_hub:
        token()  # before anything is written
    out = out or Path(f"{slug(str(read_run(folder).manifest['settings']['character'])) or 'character'}.zip")
    share_run(folder, out, models, without or (), gguf)
    typer.echo(f"{out} written. Elsewhere: charactery open {out.name}")
    if to_hub:
        with tempfile.TemporaryDirectory() as scratch:
            laid_out = out
            if out.is_file():
                from charactery.share.bundle import unpack_all

                laid_out = unpack_all(out, Path(scratch))
            typer.echo(upload(laid_out, to_hub))


@app.command("open")
def open_(
    bundle: Annotated[Path, typer.Argument(help="A bundle: a .zip file or a folder.", show_default=False)],
    to: Annotated[
        Path | None, typer.Option(help="The run's folder to make.", show_default="runs/ and the bundle's own name")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Take this model as the base.", show_default="the one the bundle names")
    ] = None,
    check: Annotated[
        bool, typer.Option(help="On another base than it was trained on, ask some prompts again and compare.")
    ] = True,
) -> None:
    """Check a bundle that somebody made with `charactery share`, and make it a run to talk to.

    \b
    Examples:
      charactery open captain.zip
      charactery open captain.zip --to runs/their-captain
    """
    from charactery.models.speaker import Models
    from charactery.share.opening import open_bundle

    opened = open_bundle(bundle, Models("cpu", lambda line: typer.echo(line, err=True)), to, base, check)
    for warning in opened.warnings:
        typer.echo(f"charactery: {warning}", err=True)
    typer.echo(f"{opened.folder} is ready: charactery chat {opened.folder}")
