"""Command to open the studio."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charactery.cli import app
from charactery.cli.conversations import Store
from charactery.errors import CharacteryError

if TYPE_CHECKING:
    from collections.abc import Callable

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

    models = Models(device, lambda line: typer.echo(line, err=True))
    desk = Desk(open_store(store), _voices(models), _subjects(subject), TraitReader(models), characters, runs)
    token = None if host in LOOPBACK else secrets.token_urlsafe(16)
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        raise CharacteryError(f"cannot listen on {host}:{port} ({error.strerror}); give another --port") from None
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"
    typer.echo(f"{address}{f'?token={token}' if token else ''}\nCtrl-C ends the studio.", err=True)
    server = uvicorn.Server(
        uvicorn.Config(create_app(desk, token=token), log_level="warning", timeout_graceful_shutdown=1)
    )
    server.run(sockets=[listening])


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
