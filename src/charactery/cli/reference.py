"""The CLI reference, generated from the commands themselves: `python -m charactery.cli.reference [--check] FILE`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from charactery.cli import app


def reference() -> str:
    """docs/cli.md: every command with its help text, arguments and options."""
    root = get_command(app)
    context = typer.Context(root, info_name="charactery")
    out = [
        "# Command line",
        "Generated from the code by `make docs`. Every command has `--help`. What you can mend is one sentence on\n"
        "standard error and exit code 2; `lint` exits 1 where it finds faults, `eval --controls` where a figure comes\n"
        "out wrong; Ctrl-C is 130.",
    ]
    out += [part for command, inner in _commands(root, context) for part in _described(command, inner)]
    return "\n\n".join(out) + "\n"


def _commands(group: Any, context: typer.Context) -> Iterator[tuple[Any, typer.Context]]:
    """Every command, and those of a group in its place."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inner = typer.Context(command, info_name=name, parent=context)
        if hasattr(command, "list_commands"):
            yield from _commands(command, inner)
        else:
            yield command, inner


def _described(command: Any, inner: typer.Context) -> list[str]:
    out = [f"## {inner.command_path}"]
    help_lines = (command.help or "").replace("\b\n", "").strip().splitlines()
    told = "\n".join(f"    {line.strip()}" if line.startswith("  ") else line for line in help_lines)
    out.append(told.replace("Examples:\n", "Examples:\n\n"))  # indented lines are code only after an empty one
    out.append("```text\n" + "\n".join(_usage(command, inner)) + "\n```")
    rows = [record for p in command.get_params(inner) if (record := p.get_help_record(inner))]
    if rows:
        out.append("\n".join(["| | |", "|---|---|", *(f"| `{_cell(a)}` | {_cell(b)} |" for a, b in rows)]))
    return out


def _usage(command: Any, context: typer.Context) -> list[str]:
    return [" ".join([context.command_path, *command.collect_usage_pieces(context)])]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def main(arguments: list[str]) -> int:
    """Write the reference, or with --check say whether the file is up to date."""
    path = Path(arguments[-1])
    text = reference()
    if "--check" in arguments:
        if not path.exists() or path.read_text() != text:
            print(f"{path} is not what the code says; run `make docs`", file=sys.stderr)
            return 1
        return 0
    path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
