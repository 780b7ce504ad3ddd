"""The command that lists recipes."""

import json
from typing import Annotated

import typer

from charactery.cli import app


@app.command()
def recipes(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with every setting.")] = False,
) -> None:
    """List the recipes that `train --recipe` knows.

    A recipe is a TOML file: copy one, edit it, and give its path.

    \b
    Examples:
      charactery recipes
      charactery train captain --recipe rlaif --out runs/captain-rlaif
    """
    from charactery.pipeline.recipe import HERE, recipes

    found = recipes()
    if as_json:
        typer.echo(json.dumps([recipe.row() for recipe in found], indent=2, ensure_ascii=False))
        return
    width = max(len(recipe.name) for recipe in found)
    for recipe in found:
        typer.echo(f"{recipe.name:<{width}}  {recipe.about}")
        typer.echo(f"{'':<{width}}  {' → '.join(recipe.own_stages)}")
    typer.echo(f"\ntheir files: {HERE}")
