"""Reading a run's files where they are there: a stage that was not run is no error, a damaged file is."""

import json
from pathlib import Path
from typing import Any

from charactery.errors import BadData
from charactery.runs import Row, Run, read_rows


def read_json(path: Path) -> Any:
    """A JSON file's value, or None where there is no such file. Raises BadData for a damaged one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise BadData("is damaged; delete this stage's folder and run the same command again", path) from None


def stage_file(run: Run, stage: str, name: str) -> Path | None:
    """A file of a finished stage, or None where the recipe has no such stage, or it or the file is not there."""
    if stage not in run.manifest["stages"] or not run.is_done(stage):
        return None
    path = run.stage_folder(stage) / name
    return path if path.exists() else None


def stage_json(run: Run, stage: str, name: str) -> Any:
    """The value of a stage's JSON file, or None."""
    path = stage_file(run, stage, name)
    return read_json(path) if path else None


def stage_rows(run: Run, stage: str, name: str) -> list[Row]:
    """The rows of a stage's JSON lines, none where the file is not there."""
    path = stage_file(run, stage, name)
    return read_rows(path) if path else []
