"""Items of evals: bundled JSON lines with a canary, and public data that lies where its users have it."""

import json
import os
import tomllib
import uuid
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from charactery.errors import BadData, CharacteryError, CharacteryWarning
from charactery.runs import Row, read_utf8

CANARY = "charactery-canary"


@dataclass(frozen=True)
class Items:
    """Rows of a file, and the lines that were set aside, each with its number and the reason."""

    rows: list[Row]
    set_aside: list[tuple[int, str]]


def canary(name: str) -> str:
    """The line that marks an eval's files, to be found in a corpus; the same each time for a name."""
    return f"{CANARY}: {uuid.uuid5(uuid.NAMESPACE_URL, f'charactery/evals/{name}')} {name}"


def read_items(path: Path, fields: Sequence[str]) -> Items:
    """JSON lines with these fields. A bad line is set aside with a warning that has its number; the rest is read.

    Raises BadData where the file cannot be read or no line is good.
    """
    rows: list[Row] = []
    aside: list[tuple[int, str]] = []
    seen: set[str] = set()
    for number, line in enumerate(read_utf8(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            aside.append((number, f"is not JSON: {error.msg}"))
            continue
        if isinstance(row, dict) and [*row] == ["canary"]:
            continue
        if fault := _fault(row, fields, seen):
            aside.append((number, fault))
            continue
        rows.append(row)
        seen.add(str(row.get("id", number)))
    if not rows:
        number, why = aside[0] if aside else (1, "holds no item")
        raise BadData(f"{why}; no line of it can be used", path, number)
    for number, why in aside:
        warnings.warn(f"{path}:{number}: {why}; set aside", CharacteryWarning, stacklevel=2)
    return Items(rows, aside)


def _fault(row: object, fields: Sequence[str], seen: set[str]) -> str:
    if not isinstance(row, dict):
        return "is not a JSON object in braces"
    if lacking := [name for name in fields if row.get(name) in (None, "", [])]:
        return f"lacks {', '.join(lacking)}"
    if "id" in row and str(row["id"]) in seen:
        return f"has the id {row['id']!r} of an earlier line"
    return ""


def settings_file() -> Path:
    """The user's settings: CHARACTERY_SETTINGS where set, else settings.toml in the platform's place for them."""
    given = os.environ.get("CHARACTERY_SETTINGS")
    return Path(given) if given else Path(platformdirs.user_config_dir("charactery")) / "settings.toml"


def data_folder(name: str, data: str, home: str) -> Path:
    """Where public data lies: in `--data` (or a folder NAME in it), or where the settings say under [data].

    Both are a folder, or `hf:ORG/NAME@REVISION` for a data set on the Hugging Face hub. Raises CharacteryError with
    both ways to say so and the data's own `home`.
    """
    if not data and (path := settings_file()).exists():
        try:
            data = str(tomllib.loads(read_utf8(path)).get("data", {}).get(name, ""))
        except (tomllib.TOMLDecodeError, AttributeError) as error:
            raise CharacteryError(f"cannot be read as settings: {error}", path) from None
    if not data:
        raise CharacteryError(
            f"the data {name!r} is not bundled. Its home is {home}. Say where it lies: --data DIR, or once in "
            f'{settings_file()}:\n[data]\n{name} = "DIR or hf:ORG/NAME@REVISION"'
        )
    folder = _from_hub(data[3:]) if data.startswith("hf:") else Path(data).expanduser()
    if not folder.is_dir():
        raise CharacteryError("is no folder; --data and the settings name the folder that the data lies in", folder)
    return folder / name if (folder / name).is_dir() else folder


def _from_hub(text: str) -> Path:
    from huggingface_hub import snapshot_download

    name, _, revision = text.partition("@")
    if not revision:
        raise CharacteryError(f"'hf:{text}' has no revision; write hf:{name}@REVISION, so that the data stays the same")
    try:
        return Path(snapshot_download(name, repo_type="dataset", revision=revision))
    except Exception as error:  # the hub's library has a dozen errors for a name, a network or a login
        raise CharacteryError(f"the data set {name!r} cannot be had: {str(error).splitlines()[0]}") from error


def data_file(folder: Path, names: Sequence[str]) -> Path:
    """The first of these files that is in a folder, zipped or not. Raises CharacteryError naming them."""
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.exists():
                return path
    raise CharacteryError(f"holds none of {', '.join(names)} (nor the same with .gz)", folder)
