"""A bundle to the hub, where a token is given."""

from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from charactery.errors import CharacteryError


def upload(folder: Path, repo: str) -> str:
    """Put a bundle's folder into a repository of the hub, made private where it is new; returns its address.

    Raises CharacteryError where there is no token, or the hub refuses or cannot be reached.
    """
    api = HfApi(token=token())
    no_answer: Any = (OSError, *HfHubHTTPError.__bases__)
    try:
        address = api.create_repo(repo, private=True, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="A character trained with Charactery")
    except HFValidationError as error:
        raise CharacteryError(f"{repo!r} is no name of a hub repository: {str(error).splitlines()[0]}") from error
    except HfHubHTTPError as error:
        raise CharacteryError(
            f"the hub does not take {repo!r} ({str(error).splitlines()[0]}). Check the name, and that the token "
            "may write"
        ) from error
    except no_answer as error:
        raise CharacteryError(f"the hub cannot be reached ({error}); nothing was uploaded") from error
    return str(address)


def token() -> str:
    """The token of who is logged in. Raises CharacteryError where there is none."""
    found = get_token()
    if not found:
        raise CharacteryError("there is no token for the hub; run `hf auth login` or set HF_TOKEN, with leave to write")
    return found
