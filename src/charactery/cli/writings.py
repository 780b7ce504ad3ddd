"""Commands on a person's writings."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from charactery.cli import app

writings = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="A person's writings, in place of a constitution."
)
app.add_typer(writings, name="writings")


@writings.command()
def check(
    path: Annotated[Path, typer.Argument(help="A folder of .txt and .md files, or a .jsonl.", show_default=False)],
    author: Annotated[str, typer.Option(help="Whose they are, to find other hands.", show_default=False)] = "",
    language: Annotated[str, typer.Option(help="The language they are in.")] = "en",
    write: Annotated[
        bool, typer.Option("--write", help="Write the suspects to a list that leaves them out, for you to edit.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Report what a person's writings hold: words, dates, duplicates, captions, quotations and other hands.

    What is found are suspicions. With --write they go to `exclude.txt` in the folder (or FILE.exclude.txt beside a
    .jsonl), one a line with the reason; edit that list, and what is on it is left out.

    \b
    Examples:
      charactery writings check letters/ --author "Abraham Lincoln"
      charactery writings check letters/ --author "Abraham Lincoln" --write
    """
    from charactery.data.writings import (
        exclusions_beside,
        kept,
        read_writings,
        suspicions,
        write_exclusions,
    )
    from charactery.errors import CharacteryError

    unread: dict[str, str] = {}
    found = read_writings(path, unread)
    doubts = suspicions(found, author, language, unread)
    beside = exclusions_beside(path)
    left = kept(found, beside)
    if write and beside.exists():
        raise CharacteryError("is there already, and may have been edited; delete or rename it first", beside)
    years = Counter(w.date[:4] or "undated" for w in found)
    report = {
        "writings": len(found), "words": sum(w.words for w in found), "years": dict(sorted(years.items())),
        "suspicions": dict(Counter(d.kind for d in doubts)), "suspects": len({d.id for d in doubts}),
        "suspect_words": sum(w.words for w in found if w.id in {d.id for d in doubts}),
        "left_out": len(found) - len(left), "words_left": sum(w.words for w in left),
    }  # fmt: skip
    if write:
        write_exclusions(beside, doubts)
    if as_json:
        typer.echo(json.dumps(report | {"found": [vars(d) for d in doubts]}, indent=2, ensure_ascii=False))
        return
    typer.echo(f"{report['writings']:,} writings, {report['words']:,} words")
    dated = [year for year in years if year != "undated"]
    span = f"from {min(dated)} to {max(dated)}, " if dated else ""
    typer.echo(f"{span}{years['undated']:,} undated")
    for kind, count in Counter(d.kind for d in doubts).most_common():
        typer.echo(f"  {count:>5,}  {kind}")
        for doubt in [d for d in doubts if d.kind == kind][:3]:
            title = next(w.title for w in found if w.id == doubt.id)
            typer.echo(f"         {doubt.id} {' '.join(title.split())[:50]}: {doubt.why}")
    typer.echo(f"in all {report['suspects']:,} of them are suspects, {report['suspect_words']:,} words")
    if write:
        typer.echo(f"{beside} written: edit it, and what is on it is left out")
    elif len(left) < len(found):
        typer.echo(f"{beside} leaves out {report['left_out']:,}; {report['words_left']:,} words are left")
    elif doubts:
        typer.echo("--write makes a list of them that leaves them out, for you to edit")
