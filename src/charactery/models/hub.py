"""What went wrong with the hub, in a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from charactery.errors import CharacteryError


@contextmanager
def hub_errors(name: str, refused: tuple[str, str], unreached: str, kind: type[CharacteryError]) -> Iterator[None]:
    """Raise what the hub says of the repository `name` as `kind`.

    `refused` is what the hub does not do, and what to look at; `unreached` what it means that it cannot be reached.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    no_answer: Any = (OSError, *HfHubHTTPError.__bases__)  # the system's, and its HTTP client's, whichever that is
    try:
        yield
    except HFValidationError as error:
        raise kind(f"{name!r} is no hub id: {str(error).splitlines()[0]}") from error
    except HfHubHTTPError as error:
        does_not, mend = refused
        raise kind(f"the hub does not {does_not} {name!r} ({str(error).splitlines()[0]}). {mend}") from error
    except no_answer as error:
        raise kind(f"the hub cannot be reached ({error}); {unreached}") from error
