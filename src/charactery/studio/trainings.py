"""Trainings begun on a page: `charactery train`, each in a process of its own that outlives page and studio.

What was begun is kept in `.trainings/` beside the runs, since a run's folder is not there before its first stage.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from charactery.constitution import Character, find_character
from charactery.errors import CharacteryError
from charactery.pipeline.order import Order
from charactery.pipeline.recipe import DEFAULT, PERSON, Recipe, find_recipe, with_options
from charactery.runs import disk_error, write_json
from charactery.studio.shelf import Shelf

NAMED = re.compile(r"[^\W_][\w.-]{0,79}")  # what a Subject's name can hold without meaning more by it
COMMAND = ("charactery", "train")  # what is ever run
TAIL = 20_000  # bytes of a log that are read
SAID = {
    "train": "--train", "held_out": "--held-out", "held_out_conversations": "--talks", "elsewhere": "--elsewhere",
    "tasks": "--tasks",
}  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """How much of a recipe's data a run takes: its sizes by their settings, and the longest answer."""

    about: str
    sizes: dict[str, int]
    max_tokens: int | None = None


SCALES = {
    "shipped": Scale("As the recipe has it", {}),
    "half": Scale(
        "About half, with wider intervals",
        {"train": 52, "held_out": 40, "held_out_conversations": 6, "elsewhere": 20, "tasks": 16},
    ),
    "small": Scale(
        "A first look: enough to see that it runs, too little to believe its figures",
        {"train": 32, "held_out": 12, "held_out_conversations": 4, "elsewhere": 8, "tasks": 8}, 40,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A training as a page asks for it. `character` is `NAME.md` for one of the writer's, else a bundled one's name."""

    character: str
    name: str
    model: str = "smollm2"
    recipe: str = DEFAULT
    scale: str = "shipped"
    seed: int = 0
    sham: bool = False
    profile: str = ""
    dials: tuple[tuple[str, float], ...] = ()

    def order(self, shelf: Shelf, runs: Path) -> Order:
        """What `train` would make of it. Raises CharacteryError for what it would refuse at once."""
        if not NAMED.fullmatch(self.name):
            raise CharacteryError(
                f"{self.name[:80]!r} is no name for a run: letters, digits and . _ - make one, beginning with a letter "
                "or digit"
            )
        if self.scale not in SCALES:
            raise CharacteryError(f"there is no size {self.scale[:80]!r}; there are {', '.join(SCALES)}")
        if self.model.startswith("-") or not self.model.strip():
            raise CharacteryError("give the model to train: a name, folder, .gguf or hub id")
        if "/" in self.recipe or self.recipe.endswith(".toml"):
            raise CharacteryError("choose one of the recipes; `charactery train --recipe FILE` takes your own")
        character = named_character(self.character, shelf, self.profile).turned(dict(self.dials))
        return Order(
            character, runs / self.name, self.model, seed=self.seed, sham=self.sham, recipe=self._recipe(),
            command=tuple(self.command(shelf, runs)),
        )  # fmt: skip

    def _recipe(self) -> Recipe:
        scale = SCALES[self.scale]
        sizes = {"sizes": scale.sizes, "sampler": {"max_tokens": scale.max_tokens}}
        return with_options(find_recipe(self.recipe), sizes)

    def command(self, shelf: Shelf, runs: Path) -> list[str]:
        """The same as one types it."""
        scale = SCALES[self.scale]
        who = str(shelf.path(self.character.removesuffix(".md"))) if is_own(self.character) else self.character
        said = ["charactery", "train", who, "--out", str(runs / self.name)]
        said += ["--recipe", self.recipe] if self.recipe != DEFAULT else []
        said += ["--model", self.model] if self.model != "smollm2" else []
        said += ["--profile", self.profile] if self.profile else []
        for name, value in self.dials:
            said += ["--dial", f"{name}={value:g}"]
        said += ["--seed", str(self.seed)] if self.seed else []
        said += ["--sham"] if self.sham else []
        for name, value in scale.sizes.items():
            said += [SAID[name], str(value)]
        return [*said, *(["--max-tokens", str(scale.max_tokens)] if scale.max_tokens else [])]


def is_own(character: str) -> bool:
    """Whether a character's name is that of a file of the writer's."""
    return character.endswith(".md")


def named_character(character: str, shelf: Shelf, profile: str = "") -> Character:
    """A character of a Plan, deployed under a profile. Raises CharacteryError where there is none."""
    if not is_own(character) and not re.fullmatch(r"[\w-]+", character):
        raise CharacteryError(f"there is no character {character[:80]!r}")
    name = str(shelf.path(character.removesuffix(".md"))) if is_own(character) else character
    return find_character(name).deployed(profile) if profile else find_character(name)


def default_recipe(character: Character) -> str:
    """The recipe that `train` takes where none is named."""
    return PERSON if character.writings else DEFAULT


@dataclass(frozen=True)
class Begun:
    """A process that trains: what it was told, its number, and when that process and the first of its kind began."""

    command: tuple[str, ...]
    pid: int
    born: float
    time: float
    stopped: bool = False

    @property
    def line(self) -> str:
        """The command as one types it."""
        return shlex.join(self.command)


class Trainings:
    """Trainings of the runs in a folder."""

    def __init__(self, runs: Path) -> None:
        self.runs, self.kept = runs, runs / ".trainings"
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Those that were begun on a page, as far as it can still be read."""
        return sorted(path.stem for path in self.kept.glob("*.json") if self.begun(path.stem))

    def begun(self, name: str) -> Begun | None:
        """What is known of one, or None."""
        try:
            row = json.loads((self.kept / f"{name}.json").read_text(encoding="utf-8"))
            return Begun(**{**row, "command": tuple(map(str, row["command"]))})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def free(self, name: str) -> str:
        """This name, or the first with a number behind it that no run has."""
        taken = {*self.names(), *(path.name for path in self.runs.glob("*"))}
        return next(n for n in (name, *(f"{name}-{k}" for k in range(2, len(taken) + 3))) if n not in taken)

    def start(self, name: str, command: list[str]) -> None:
        """Begin. Raises CharacteryError where there is a run of this name, or the disk does not take it."""
        with self._lock:
            if os.path.lexists(self.runs / name) or self.begun(name):
                raise CharacteryError(f"there is a run {name} already; give another name")
            self._start(name, command, time.time())

    def go_on(self, name: str) -> None:
        """Begin again with the same command, which goes on where it was. Nothing where it is at work."""
        with self._lock:
            begun = self._known(name)
            if begun.command[:2] != COMMAND:
                file = self.kept / f"{name}.json"
                raise CharacteryError("holds another command than a training's, which a page does not run", file)
            if not self.at_work(name):
                self._start(name, list(begun.command), begun.time)

    def stop(self, name: str) -> None:
        """End its process; what is done is kept. Nothing where it has ended."""
        with self._lock:
            begun = self._known(name)
            if (process := self._process(name, begun)) is not None:
                try:
                    write_json(self.kept / f"{name}.json", asdict(replace(begun, stopped=True)))
                finally:  # on a full disk, too
                    _end(process)

    def forget(self, name: str) -> None:
        """Take a training that never made a folder out of the list. Raises CharacteryError for another."""
        with self._lock:
            self._known(name)
            if self.at_work(name) or (self.runs / name).exists():
                raise CharacteryError(f"{name} has a folder; delete {self.runs / name} by hand if it is to go")
            for path in (self.kept / f"{name}.json", self.kept / f"{name}.log"):
                path.unlink(missing_ok=True)

    def at_work(self, name: str) -> bool:
        """Whether its process is there."""
        begun = self.begun(name)
        return begun is not None and self._process(name, begun) is not None

    def lines(self, name: str, most: int = 12) -> list[str]:
        """The last lines that it wrote."""
        try:
            with (self.kept / f"{name}.log").open("rb") as stream:
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - TAIL))
                return stream.read().decode(errors="replace").splitlines()[-most:]
        except OSError:
            return []

    def _known(self, name: str) -> Begun:
        begun = self.begun(name) if NAMED.fullmatch(name) else None
        if begun is None:
            raise CharacteryError(f"the training of {name[:80]!r} was not begun here; go on with it in a terminal")
        return begun

    def _start(self, name: str, command: list[str], first: float) -> None:
        log = self.kept / f"{name}.log"
        try:
            self.kept.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as stream:
                child = subprocess.Popen(
                    [sys.executable, "-m", *command], stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                    start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            raise disk_error(error, log) from error
        self._children[name] = child
        born = psutil.Process(child.pid).create_time()  # not reaped yet, so it is there even if it has ended
        try:
            write_json(self.kept / f"{name}.json", asdict(Begun(tuple(command), child.pid, born, first)))
        except CharacteryError:  # nobody could find it again, to stop it
            child.terminate()
            raise

    def _process(self, name: str, begun: Begun) -> psutil.Process | None:
        """The process that was begun, and no other that got its number."""
        if (child := self._children.get(name)) is not None and child.poll() is not None:
            return None
        try:
            process = psutil.Process(begun.pid)
            there = abs(process.create_time() - begun.born) < 2 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return None
        return process if there else None


def _end(process: psutil.Process) -> None:
    """Have a process end, which it may have done meanwhile."""
    with suppress(psutil.NoSuchProcess):
        process.terminate()
        try:
            process.wait(10)
        except psutil.TimeoutExpired:
            process.kill()
