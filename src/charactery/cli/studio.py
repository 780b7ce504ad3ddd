"""Command to open the studio."""

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charactery.cli import app
from charactery.cli.conversations import Store
from charactery.errors import CharacteryError

if TYPE_CHECKING:
    from collections.abc import Callable

    import uvicorn

    from charactery.conversations import Voice
    from charactery.models.speaker import Models
    from charactery.studio.desk import How


@app.command()
def studio(
    subject: Annotated[str | None, typer.Argument(help="Who answers at first.", show_default="smollm2+captain")] = None,
    store: Store = None,
    characters: Annotated[Path, typer.Option(help="The folder of the character files to write.")] = Path("characters"),
    runs: Annotated[Path, typer.Option(help="Where the runs are.")] = Path("runs"),
    host: Annotated[str, typer.Option(help="Where to listen. Beyond this machine a token is asked for.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes one that is free.")] = 8421,
    device: Annotated[str, typer.Option(help="auto, cpu, mps or cuda.")] = "auto",
    browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page, where there is a terminal and a desktop.")
    ] = True,
) -> None:
    """Talk to characters in the browser, write them, train them, and look through the runs.

    Needs `pip install charactery[studio]`. The pages ask nothing of other machines.

    Example: charactery studio runs/captain
    """
    try:
        import uvicorn

        from charactery.studio import Desk, create_app
    except ModuleNotFoundError as error:
        raise CharacteryError(f"the studio needs {error.name}: `pip install charactery[studio]`") from None
    import secrets
    import socket

    from charactery.conversations import open_store
    from charactery.models.speaker import Models
    from charactery.studio.guard import LOOPBACK
    from charactery.studio.traits import TraitReader

    def say(line: str) -> None:
        typer.echo(line, err=True)
        desk.tell(line)

    models = Models(device, say)
    desk = Desk(open_store(store), _voices(models), _subjects(subject), TraitReader(models), characters, runs)
    token = None if host in LOOPBACK else secrets.token_urlsafe(16)
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        raise CharacteryError(f"cannot listen on {host}:{port} ({error.strerror}); give another --port") from None
    port = listening.getsockname()[1]
    addresses = [f"http://{name}:{port}/{f'?token={token}' if token else ''}" for name in _names(host)]
    typer.echo("\n".join([*addresses, "Ctrl-C ends the studio."]), err=True)
    server = uvicorn.Server(
        uvicorn.Config(create_app(desk, token=token), log_level="warning", timeout_graceful_shutdown=1)
    )
    if browser and sys.stderr.isatty() and _has_desktop():
        threading.Thread(target=_open_page, args=(server, addresses[0]), daemon=True).start()
    server.run(sockets=[listening])


def _names(host: str) -> list[str]:
    """The names by which a browser reaches a host: of one that stands for all of them, here and from elsewhere."""
    import socket

    if host not in ("0.0.0.0", "::"):
        return [f"[{host}]" if ":" in host else host]
    names = ["localhost"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # nothing is sent: this tells by which of its addresses the machine would
        names.append(probe.getsockname()[0])
    return names


def _has_desktop() -> bool:
    """Whether a browser would have a window; one in the terminal would hide what the studio says."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open_page(server: "uvicorn.Server", address: str) -> None:
    """Open the first page once it is there."""
    import webbrowser

    while not server.started:
        if server.should_exit:
            return
        time.sleep(0.05)
    webbrowser.open(address)


def _subjects(first: str | None) -> list[str]:
    """Who can be talked to at any time: the one named, and the bundled characters in the embedded model's prompt."""
    from charactery.constitution.library import bundled_names
    from charactery.models.subject import DEFAULT, parse_subject

    if first is not None:
        parse_subject(first)
    bundled = [f"{DEFAULT}+{name}" for name in bundled_names()]
    named = [first] if first else [f"{DEFAULT}+captain"]
    return list(dict.fromkeys([*named, *bundled, DEFAULT]))


def _voices(models: "Models") -> "Callable[[How], Voice]":
    """Voices of Subjects, each base loaded once."""
    from charactery.models.local import Sampler
    from charactery.models.subject import parse_subject
    from charactery.models.voice import SpeakerVoice

    def voice(how: "How") -> "Voice":
        sampler = Sampler(how.max_tokens, how.temperature)
        return SpeakerVoice(models.speaker(parse_subject(how.subject)), sampler)

    return voice
