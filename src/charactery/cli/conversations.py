"""Commands on what was said: list, show, search, export, share, import."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated

import typer

from charactery.cli import app
from charactery.errors import BadData, CharacteryError

if TYPE_CHECKING:
    from charactery.conversations import Glimpse, Node, Tree

conversations = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The tree of everything said: every talk, with all its branches."
)
app.add_typer(conversations, name="conversations")

Store = Annotated[
    str | None,
    typer.Option(
        help="Where conversations are kept: a file, or postgresql://…",
        show_default="CHARACTERY_CONVERSATIONS, or your own",
    ),
]
Id = Annotated[str, typer.Argument(help="The beginning of a conversation's or turn's id.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
ENDED = {None: "half an answer", "stopped": "stopped", "length": "cut off", "error": "broken off"}


@conversations.command("list")
def list_(
    store: Store = None,
    n: Annotated[int | None, typer.Option("-n", min=1, help="At most so many.", show_default="all")] = None,
    as_json: Json = False,
) -> None:
    """List conversations, the one spoken in last first.

    Example: charactery conversations list -n 10
    """
    from charactery.conversations import open_store

    opened = open_store(store)
    found = opened.summaries(n)
    if not found and not as_json:
        typer.echo(f"nothing was said yet that {opened.place} keeps. `charactery chat smollm2+captain` begins a talk")
    for one in found:
        if as_json:
            typer.echo(json.dumps(vars(one), ensure_ascii=False))
        else:
            name = shorten(one.title or one.begins or "(nothing said)", 60)
            typer.echo(f"{one.id[:8]}  {_when(one.time)}  {one.turns:>5,} turns  {name}")


@conversations.command()
def show(
    id: Id,
    store: Store = None,
    tree: Annotated[bool, typer.Option("--tree", help="All branches, a line a turn.")] = False,
    prompt: Annotated[bool, typer.Option("--prompt", help="The exact text that was read for this turn.")] = False,
    as_json: Json = False,
) -> None:
    """Show a conversation to where it stands, or to a turn; where it forks, how many branches there are.

    \b
    Examples:
      charactery conversations show 1a2b3c4d
      charactery conversations show 1a2b3c4d --tree
    """
    from charactery.conversations import cursor, open_store

    opened = open_store(store)
    conversation, turn = opened.find(id)
    at = turn or cursor(opened, conversation)
    if prompt:
        read = opened.prompt(at) if at else None
        if read is None:
            raise CharacteryError(f"the turn {(at or id)[:8]} has no prompt: give the id of an answer")
        typer.echo(read, nl=False)
    elif tree:
        for line in _drawn(opened.glimpses(conversation), at, as_json):
            typer.echo(line)
    else:
        whole = opened.tree(conversation)
        for node in whole.path(at) if at else []:
            typer.echo(json.dumps(vars(node), default=vars, ensure_ascii=False) if as_json else _told(node, whole))


def _told(node: "Node", tree: "Tree") -> str:
    """A turn as text: who, what, how it ended, and what lies beside it."""
    beside = sum(other.parent == node.parent for other in tree.nodes)
    about = [node.id[:8], node.subject, ENDED.get(node.ending, ""), f"{beside} branches" if beside > 1 else ""]
    about += [f"{mark.kind} {mark.text}".strip() for mark in tree.marks if mark.node == node.id]
    return f"{node.role} ({', '.join(filter(None, about))})\n{node.text}\n"


def _drawn(turns: Sequence["Glimpse"], at: str | None, as_json: bool) -> list[str]:
    """A line a turn, in the order of reading; what follows a fork is set in, so a long talk stays narrow."""
    children: dict[str | None, list[Glimpse]] = {}
    for turn in turns:
        children.setdefault(turn.parent, []).append(turn)
    lines: list[str] = []
    waiting = [(turn, len(children[None]) > 1) for turn in reversed(children.get(None, []))]
    depth: dict[str | None, int] = {None: 0}
    while waiting:
        turn, forked = waiting.pop()
        depth[turn.id] = depth[turn.parent] + forked
        sign = "*" if turn.id == at else "-"
        half = "" if turn.ending else " …(half)"
        begins = shorten(turn.begins, 60, placeholder="…")
        lines.append(
            json.dumps({**vars(turn), "depth": depth[turn.id]}, ensure_ascii=False)
            if as_json
            else f"{'  ' * depth[turn.id]}{sign} {turn.id[:8]} {turn.role}: {begins}{half}"
        )
        after = children.get(turn.id, [])
        waiting += [(child, len(after) > 1) for child in reversed(after)]
    return lines


@conversations.command()
def search(
    words: Annotated[str, typer.Argument(help="What to look for, as it stands.", show_default=False)],
    store: Store = None,
    within: Annotated[str | None, typer.Option("--in", help="Only in this conversation.", show_default="all")] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="At most so many.")] = 20,
    as_json: Json = False,
) -> None:
    """Find turns, and notes and tags on them, by the words in them.

    Example: charactery conversations search "the green ship"
    """
    from charactery.conversations import open_store
    from charactery.conversations import search as look

    opened = open_store(store)
    found = look(opened, words, opened.find(within)[0] if within else None, n)
    if not found and not as_json:
        typer.echo(f"nobody said {words!r}")
    for one in found:
        if as_json:
            typer.echo(json.dumps(vars(one), ensure_ascii=False))
        else:
            place = max(one.text.casefold().find(words.casefold()) - 20, 0)
            seen = shorten(one.text[place:], 80, placeholder="…")
            typer.echo(f"{one.conversation[:8]} {one.node[:8]}  {_when(one.time)}  {one.role}: {seen}")


@conversations.command()
def export(
    out: Annotated[
        Path, typer.Option(help="The file to write; a folder where the format has a file for each.", show_default=False)
    ],
    ids: Annotated[
        list[str] | None, typer.Argument(help="Beginnings of ids.", show_default="all conversations")
    ] = None,
    format: Annotated[
        str, typer.Option(help="charactery, chatgpt, open-webui, librechat, sharegpt or sillytavern.")
    ] = "charactery",
    store: Store = None,
) -> None:
    """Write conversations to a file: all there is of them, or what another program's format has a place for.

    \b
    Examples:
      charactery conversations export --out everything.jsonl
      charactery conversations export 1a2b3c4d --out talk.json --format chatgpt
    """
    from charactery.conversations import open_store
    from charactery.conversations.formats import export_file

    opened = open_store(store)
    wanted = [opened.find(id)[0] for id in ids] if ids else [one.id for one in opened.summaries()]
    if not wanted:
        raise CharacteryError("there are no conversations to write yet", opened.place)
    done = export_file([opened.tree(id) for id in dict.fromkeys(wanted)], out, format)
    for path in done.paths:
        typer.echo(f"{path} written")
    if done.left_out:
        typer.echo(f"{done.left_out:,} turns have no place in the format and are left out", err=True)


@conversations.command()
def share(
    id: Id,
    out: Annotated[
        Path,
        typer.Option(
            help="The file to write: .html, .png, .pdf, .md, or .zip for page, pictures and recipe.", show_default=False
        ),
    ],
    of: Annotated[
        list[str] | None,
        typer.Option(help="An answer to this turn, to lay beside others. May be given again.", show_default=False),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Leave out names, recipe, prompts, marks or times. May be given again.", show_default=False),
    ] = None,
    dark: Annotated[bool, typer.Option("--dark", help="A dark picture or PDF.")] = False,
    store: Store = None,
) -> None:
    """Write a conversation to where it stands, or to a turn, for somebody to read, with how each answer was drawn.

    A page or a PDF is one file; of a long talk there are several pictures, FILE-1.png and on.

    \b
    Examples:
      charactery conversations share 1a2b3c4d --out talk.png
      charactery conversations share 5e6f7a8b --of 9c0d1e2f --of 3a4b5c6d --without prompts --out answers.pdf
    """
    from charactery.conversations import cursor, open_store
    from charactery.runs import write_bytes
    from charactery.share.files import as_files
    from charactery.share.transcript import transcript

    opened = open_store(store)
    conversation, turn = opened.find(id)
    at = turn or cursor(opened, conversation)
    if at is None:
        raise CharacteryError(f"nothing was said yet in {id}", opened.place)
    beside = [opened.find(answer)[1] or answer for answer in of or ()]
    shared = transcript(opened, at, beside, without or ())
    files = {out.with_name(name): data for name, data in as_files(shared, out.suffix[1:], out.stem, dark).items()}
    for path in files:
        if path.exists():
            raise BadData("is there already; choose another name, or move it away", path)
    for path, data in files.items():
        write_bytes(path, data)
        typer.echo(f"{path} written")


@conversations.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A file of any of the formats of export.", show_default=False)],
    store: Store = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Read conversations from a file, told by its content. The same file again adds nothing.

    What cannot be used is set aside in FILE.set_aside.jsonl, with its line and the reason.

    Example: charactery conversations import conversations.json
    """
    from charactery.cli.show import progress
    from charactery.conversations import open_store
    from charactery.conversations.formats import import_file

    opened = open_store(store)
    if as_json or not file.exists() or file.stat().st_size < 5_000_000:
        done = import_file(opened, file)
    else:
        with progress() as bars:
            bars.say(f"reading {file}")
            done = import_file(opened, file, lambda n, of: bars.start("import", of) if n == 1 else bars.advance(1))
    added = done.added
    if as_json:
        row = {
            "format": done.format, "conversations": list(done.conversations), **vars(added),
            "set_aside": len(done.faults),
        }  # fmt: skip
        typer.echo(json.dumps(row))
        return
    many = f"{len(done.conversations):,} conversation{'s' * (len(done.conversations) != 1)}"
    typer.echo(f"{many} ({done.format}): {added.new:,} turns new, {added.known:,} were here")
    if added.edited:
        typer.echo(f"{added.edited:,} turns have another text here under the same id: the new text stands beside it")
    if done.set_aside:
        for fault in done.faults[:3]:
            typer.echo(f"{file}:{fault.line}: {fault.reason}", err=True)
        typer.echo(f"{len(done.faults):,} set aside in {done.set_aside}", err=True)


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M") if seconds else "no date         "
