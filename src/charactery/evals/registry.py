"""What Inspect finds of Charactery: the providers and the tasks (the package's `inspect_ai` entry point).

An eval of the framework is any folder here, or anywhere else, whose `task.py` has an `EVAL`.
"""

import difflib
import importlib
import importlib.util
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

from charactery.errors import CharacteryError
from charactery.evals.definition import Eval
from charactery.evals.expression.task import expression
from charactery.evals.scored import cost, multiple_choice
from charactery.evals.scripted import scripted
from charactery.evals.sycophancy_preferences.data_set import pairs
from charactery.judges.best_of import choosing
from charactery.models.inspect_provider import CharacteryAPI, charactery
from charactery.models.speaker import Models

CharacteryAPI.models = partial(Models, choosing=choosing)  # the provider stands below the judges

__all__ = ["charactery", "cost", "expression", "find_eval", "multiple_choice", "names", "pairs", "scripted"]

HERE = Path(__file__).parent


def names() -> list[str]:
    """The bundled evals; a folder's underscores are hyphens in the name."""
    found = [p.parent for p in HERE.glob("*/task.py") if (p.parent / "about.md").exists()]
    return sorted(folder.name.replace("_", "-") for folder in found)


def find_eval(name: str) -> Eval:
    """A bundled eval by its name, or one in a folder. Raises CharacteryError with near names for one there is not."""
    if name in names():
        return _eval(importlib.import_module(f"charactery.evals.{name.replace('-', '_')}.task"), HERE / name)
    path = Path(name)
    if (path / "task.py").exists():
        return _eval(_from_file(path / "task.py"), path / "task.py")
    near = difflib.get_close_matches(name, names(), 3, 0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names())}"
    raise CharacteryError(f"no eval {name!r}, and no folder of that name with a task.py; {hint}")


def _eval(module: ModuleType, path: Path) -> Eval:
    found = getattr(module, "EVAL", None)
    if not isinstance(found, Eval):
        raise CharacteryError("defines no EVAL; `charactery eval --new NAME` writes one to start from", path)
    return found


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"charactery_eval_{path.parent.name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file does
        raise CharacteryError(f"cannot be loaded: {type(error).__name__}: {error}", path) from error
    return module


for _name in names():  # so that `inspect eval charactery/NAME` finds each task
    importlib.import_module(f"charactery.evals.{_name.replace('-', '_')}.task")
