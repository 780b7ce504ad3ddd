"""Commands on character files: init, show, lint, import, export."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from charactery.cli import app
from charactery.errors import CharacteryError

Given = Annotated[str, typer.Argument(help="A character file, or the name of a bundled character.", show_default=False)]
Dials = Annotated[
    list[str] | None,
    typer.Option(
        "--dial", metavar="NAME=VALUE", help="Turn a dial, from 0 to 1. May be given again.", show_default=False
    ),
]


def chosen(name: str, dials: list[str] | None, profile: str | None = None):  # type: ignore[no-untyped-def]
    """A character by name or path, deployed under a profile, its dials turned."""
    from charactery.constitution import find_character

    character = find_character(name)
    if profile:
        character = character.deployed(profile)
    turned = {}
    for dial in dials or []:
        key, _, value = dial.partition("=")
        try:
            turned[key] = float(value)
        except ValueError:
            raise CharacteryError(f"--dial {dial}: give a name and a number from 0 to 1, such as warmth=0.8") from None
    return character.turned(turned)


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="The character's name; the file is named after it.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Where to write it.", show_default="NAME.md")] = None,
) -> None:
    """Write a commented character file that trains as it is.

    Example: charactery init Rosalind
    """
    from charactery.constitution import BUNDLED, parse_character, slug
    from charactery.runs import write_text

    name = name.removesuffix(".md")
    path = out or Path(f"{slug(name) or 'character'}.md")
    if path.exists():
        raise CharacteryError("is there already; nothing was written. Give another name, or --out", path)
    text = (
        (BUNDLED / "_template.md").read_text().replace("name: NAME", f"name: {json.dumps(name, ensure_ascii=False)}", 1)
    )
    parse_character(text, path)
    write_text(path, text)
    typer.echo(f"{path} written. Next: edit it, then\n  charactery lint {path}\n  charactery train {path}")


@app.command()
def show(
    character: Given,
    as_: Annotated[
        Literal["prompt", "rubric", "document"], typer.Option("--as", help="What a model, a judge or a person reads.")
    ] = "prompt",
    mix: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="From 0, in words, to 1, in examples.", show_default="the file's"),
    ] = None,
    dial: Dials = None,
    profile: Annotated[str | None, typer.Option(help="One of the file's deployments.", show_default=False)] = None,
) -> None:
    """Print a character as a system prompt, a judge's rubric or a document.

    Example: charactery show captain --as rubric --mix 0.5 --dial bluntness=1
    """
    from charactery.constitution import document, rubric, system_prompt

    render = {"prompt": system_prompt, "rubric": rubric, "document": document}[as_]
    typer.echo(render(chosen(character, dial, profile), mix))


@app.command()
def lint(
    characters: Annotated[list[str] | None, typer.Argument(help="Character files or bundled names.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    run: Annotated[
        Path | None, typer.Option(help="A run whose manifest the character's claims are held against.")
    ] = None,
    meaning: Annotated[
        bool, typer.Option("--meaning", help="Look for repeats by meaning too, with the embedded sentence encoder.")
    ] = False,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules and stop.")] = False,
) -> None:
    """Find fault with constitutions, with line numbers. Exits 1 where there are faults.

    Example: charactery lint captain.md --run runs/captain
    """
    from charactery.constitution import find_character
    from charactery.constitution.lint import lint as find_faults
    from charactery.constitution.lint import rules as all_rules
    from charactery.runs import read_manifest

    if rules:
        for rule in all_rules():
            typer.echo(f"{rule.id:16} {rule.finds}")
        return
    if not characters:
        raise CharacteryError("lint needs a character file; `charactery lint --rules` lists what it looks for")
    manifest = read_manifest(run) if run else None
    similar = None
    if meaning:
        from charactery.models.sentences import SentenceEncoder

        similar = SentenceEncoder()
    reports = [find_faults(find_character(name), manifest=manifest, similar=similar) for name in characters]
    if as_json:
        named = [{"character": name, **report.to_dict()} for name, report in zip(characters, reports, strict=True)]
        typer.echo(json.dumps(named, ensure_ascii=False, indent=2))
    else:
        for report in reports:
            for fault in report.faults:
                typer.echo(f"{fault}")
            if report.without_judge:
                typer.echo(f"(by words alone, without a judge of meaning: {', '.join(report.without_judge)})", err=True)
            for unrun, why in report.not_run:
                typer.echo(f"({unrun} did not run: {why})", err=True)
    if not as_json and not any(r.faults for r in reports):
        typer.echo("no faults found")
    if any(r.faults for r in reports):
        raise typer.Exit(1)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="OpenCharacterTraining JSON, markdown, or a card (JSON or PNG).")],
    out: Annotated[Path, typer.Option(help="The character file to write.", show_default=False)],
) -> None:
    """Turn someone else's character format into a character file, losing nothing.

    Example: charactery import seraphina.png --out seraphina.md
    """
    from charactery.constitution.formats import write_import

    character = write_import(file, out)
    traits = sum(1 for _ in character.traits())
    typer.echo(f"{out} written: {character.name}, {traits} traits. Next: charactery lint {out}")


@app.command()
def export(
    character: Given,
    out: Annotated[Path, typer.Option(help="The file to write; its ending tells the format.", show_default=False)],
    format: Annotated[
        str | None, typer.Option(help="card-v2, card-v3, open-character-training, markdown.", show_default="by ending")
    ] = None,
) -> None:
    """Write a character in someone else's format.

    Example: charactery export captain --out captain.png
    """
    from charactery.constitution import find_character
    from charactery.constitution.formats import export_character

    typer.echo(f"{export_character(find_character(character), out, format)} written", file=sys.stdout)
