"""A bundle to the hub, where a token is given."""

from pathlib import Path

from huggingface_hub import HfApi, get_token

from charactery.errors import CharacteryError
from charactery.models.hub import hub_errors


def upload(folder: Path, repo: str) -> str:
    """Put a bundle's folder into a repository of the hub, made private where it is new; returns its address.

    Raises CharacteryError where there is no token, or the hub refuses or cannot be reached.
    """
    api = HfApi(token=token())
    refused = ("take", "Check the name, and that the token may write")
    with hub_errors(repo, refused, "nothing was uploaded", CharacteryError):
        address = api.create_repo(repo, private=True, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="A character trained with Charactery")
    return str(address)


def token() -> str:
    """The token of who is logged in. Raises CharacteryError where there is none."""
    found = get_token()
    if not found:
        raise CharacteryError("there is no token for the hub; run `hf auth login` or set HF_TOKEN, with leave to write")
    return found
