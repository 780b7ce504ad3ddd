"""The command line: parses, calls a documented function, prints. No torch is imported before a command needs it."""

import errno
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from charactery import __version__
from charactery.errors import CharacteryError, CharacteryWarning

app = typer.Typer(
    name="charactery",
    help="Write a character as a text file, train a model into it, find out whether it took.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: charactery init NAME, then charactery train NAME.md. To see it work: charactery train captain.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"charactery {__version__}")
        raise typer.Exit


@app.callback()
def _options(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True)) -> None:
    """Write a character as a text file, train a model into it, find out whether it took."""


from charactery.cli import (  # noqa: E402, F401 - each adds its commands to the app
    characters,
    claims,
    conversations,
    decided,
    evals,
    judges,
    recipes,
    runs,
    sharing,
    studio,
    talk,
    train,
    writings,
)


def _lacking(error: Exception) -> str:
    """A sentence where what an error means is too little disk or memory, "" for any other."""
    if isinstance(error, OSError):
        name = f" writing {error.filename}" if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return f"the disk is full{name}. Free some space and run the same command" if full else ""
    # by the names and words of torch and safetensors, which are not imported here
    if any(words in str(error) for words in ("No space left", "PytorchStreamWriter", "unexpected pos")):
        return "the disk is full: a checkpoint could not be written. Free some space and run the same command"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate" in str(error):
        return (
            "out of memory. Close what else uses it, take a smaller model, or fewer --max-tokens; "
            "`charactery train --dry-run` says how much a run needs"
        )
    return ""


# whose work is kept as it is done; controls are there to try the code as it is, and so are drawn anew
RESUMED = frozenset({"train", "strength", "frontier", "eval", "curve", "judge"})


def _stopped(arguments: Sequence[str]) -> str:
    """What is said where Ctrl-C has stopped a command."""
    if "--controls" in arguments:
        return "stopped; the same command begins anew, as nothing of controls is kept"
    return "stopped; the same command goes on from here" if {*arguments[:1]} & RESUMED else "stopped"


def hush() -> None:
    """Have other libraries say nothing of their own; they look when they are imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")


def main() -> None:
    """Run the command line. What the user can mend is one sentence and exit code 2; Ctrl-C is 130."""
    hush()
    if not sys.warnoptions:
        import warnings

        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"(torch|transformers|peft|trl)\.")
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, CharacteryWarning):  # a sentence for people, not a place in our code
                print(f"charactery: {message}", file=sys.stderr)
            else:
                shown(message, category, *where, **more)

        warnings.showwarning = show
    try:
        app(standalone_mode=True)
    except CharacteryError as error:
        print(f"charactery: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if not (said := _lacking(error)):
            raise
        print(f"charactery: {said}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as stopped:
        if stopped.code == 130:  # typer has caught Ctrl-C
            print(f"\n{_stopped(sys.argv[1:])}", file=sys.stderr)
        raise
