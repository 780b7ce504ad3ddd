"""Whole runs on a tiny model that talks, made once a session, and the command line in processes of its own."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import forked
from charactery.constitution import dump_character, find_character
from charactery.pipeline.recipe import HERE
from conftest import shared
from letters import write_letters

SIZES = ["--train", "32", "--held-out", "12", "--talks", "4", "--elsewhere", "8", "--tasks", "8", "--max-tokens", "40"]
FEW = ["--held-out", "8", "--talks", "2", "--elsewhere", "4"]  # where what is measured is not looked at
STAGES = ["prompts", "drafts", "pairs", "sft", "self-play", "dpo", "evaluate", "report"]


# Kills its own process, as kill -9 would, at the nth call of a function of the package; then runs the command line.
ASSASSIN = """
import importlib, os, signal, sys
where, nth, after = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "after"
module, _, path = where.partition(":")
owner = importlib.import_module(module)
*outer, name = path.split(".")
for part in outer:
    owner = getattr(owner, part)
real, calls = getattr(owner, name), []
def deadly(*args, **kwargs):
    calls.append(1)
    if len(calls) == nth and not after:
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*args, **kwargs)
    if len(calls) == nth:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(owner, name, deadly)
sys.argv = ["charactery", *sys.argv[4:]]
from charactery.cli import main
main()
"""


@pytest.fixture(scope="session")
def talking_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads of tiny products only wait for each other

    def make(cache: Path) -> None:
        command = [sys.executable, str(Path(__file__).parent / "talker.py"), str(cache)]
        subprocess.run(command, check=True, env=environment)

    return shared(tmp_path_factory, "talking-cache", make)


def charactery(
    cache: Path, *arguments: str, code: str | None = None, said: str = "", folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CHARACTERY_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    return forked.run([*arguments], environment, code, said, folder)


Refused = Callable[..., str]


@pytest.fixture
def refused(talking_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """The command line in this process, to save the seconds that loading takes: what it says where it exits with 2."""

    def run(*arguments: str) -> str:
        from charactery.cli import main

        monkeypatch.setenv("CHARACTERY_CACHE", str(talking_cache))
        monkeypatch.setattr(sys, "argv", ["charactery", *arguments])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 2
        return capsys.readouterr().err

    return run


@pytest.fixture(scope="session")
def whole_run(talking_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        done = charactery(talking_cache, "train", "captain", "--out", str(folder / "captain"), *SIZES)
        assert done.returncode == 0, done.stderr

    return shared(tmp_path_factory, "runs", make) / "captain"


def smaller(name: str, numbers: Mapping[str, Mapping[str, float]]) -> str:
    """A recipe that ships, as TOML with these numbers in its tables: what it does is what its own file says."""
    table = tomllib.loads((HERE / f"{name}.toml").read_text())
    for title, values in numbers.items():
        table[title] = table.get(title, {}) | values
    return "\n".join([
        *(f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)),
        *(f"[{title}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
          for title, values in table.items() if isinstance(values, dict)),
    ])  # fmt: skip


SPEC = """
stages = ["pairs", "documents", "cases", "sft"]
draws = 1
[documents]
count = 40
tokens = 48
without = ["keeps-an-honest-log"]
[cases]
count = 30
tokens = 48
[sft]
epochs = 1.0
"""


def of_recipe(
    recipe: str, name: str, cache: Path, factory: pytest.TempPathFactory, letters: bool = False, *options: str
) -> tuple[Path, list[str]]:
    """A run by a recipe of one's own, with `letters` one that learns from letters, and the command less --out."""

    def arguments(folder: Path) -> list[str]:
        who, texts = "captain", list[str]()
        if letters:
            who = str(folder / "captain.md")
            texts = ["--writings", str(folder / "mine"), "--others", str(folder / "theirs")]
        return ["train", who, "--recipe", str(folder / f"{name}.toml"), *texts, *SIZES, *options]

    def make(folder: Path) -> None:
        (folder / f"{name}.toml").write_text(recipe)
        if letters:
            assert write_letters(folder) == (folder / "mine", folder / "theirs")
            # his name would be in no letter but as a signature, which is cut off
            (folder / "captain.md").write_text(dump_character(find_character("captain")))
        done = charactery(cache, *arguments(folder), "--out", str(folder / "run"))
        assert done.returncode == 0, done.stderr

    folder = shared(factory, f"recipe-{name}", make)
    return folder / "run", arguments(folder)


@pytest.fixture(scope="session")
def rlaif_run(talking_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    numbers = {"sft": {"epochs": 1.0}, "samples": {"prompts": 16}}
    return of_recipe(smaller("rlaif", numbers), "rlaif", talking_cache, tmp_path_factory)


A_PERSON = {  # numbers for a handful of letters, and a judge that knows their author
    "writings": {"passages": 12, "judged": 10, "words": 30, "held_out": 0.5, "tested": 12, "shown": 1},
    "sft": {"epochs": 1.0}, "authors": {"epochs": 12.0, "learning_rate": 3e-3}, "samples": {"prompts": 16, "each": 3},
}  # fmt: skip


@pytest.fixture(scope="session")
def person_run(talking_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    return of_recipe(smaller("person", A_PERSON), "person", talking_cache, tmp_path_factory, True, "--sham")


@pytest.fixture(scope="session")
def filter_run(talking_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    return of_recipe(smaller("person-filter", A_PERSON), "person-filter", talking_cache, tmp_path_factory, True, *FEW)


@pytest.fixture(scope="session")
def online_run(talking_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    arguments = ["train", "captain", "--recipe", "grpo", *SIZES, "--grpo-steps", "4", "--sham"]

    def make(folder: Path) -> None:
        done = charactery(talking_cache, *arguments, "--out", str(folder / "run"))
        assert done.returncode == 0, done.stderr

    return shared(tmp_path_factory, "grpo", make) / "run", arguments


@pytest.fixture(scope="session")
def best_run(talking_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        arguments = ["train", "captain", "--recipe", "best-of-n", "--out", str(folder / "run"), *SIZES]
        done = charactery(talking_cache, *arguments)
        assert done.returncode == 0, done.stderr

    return shared(tmp_path_factory, "best", make) / "run"


def stage(run: Path, name: str) -> Path:
    return next((run / "stages").glob(f"[0-9][0-9]-{name}"))


def begun_again(run: Path, own: str, folder: Path) -> Path:
    """A copy of a finished run in which the stage `own` and all that come after it are to be done again.

    The shams stay, which learn from what was before.
    """
    again = folder / "again"
    shutil.copytree(run, again)
    (again / "report.html").unlink()
    names = json.loads((run / "manifest.json").read_text())["stages"]
    for name in names[names.index(own) :]:
        if not name.startswith("sham-"):
            shutil.rmtree(stage(again, name))
    return again


def survives(cache: Path, arguments: list[str], out: Path, kills: list[tuple[str, int, str]]) -> None:
    """The same command again and again, killed at each of these places and then left to finish.

    What was finished before a kill stands where it stood, and is not done again.
    """
    journals: dict[Path, bytes] = {}
    stamps: dict[Path, int] = {}
    for kill in (*kills, None):
        if kill:
            done = charactery(cache, *map(str, kill), *arguments, code=ASSASSIN)
            assert done.returncode == -9 and not (out / "report.html").exists(), (kill, done.stderr)
        else:
            done = charactery(cache, *arguments)
            assert done.returncode == 0, done.stderr
        for path, before in journals.items():
            assert path.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
            keys = [json.loads(line)["key"] for line in path.read_text().splitlines()]
            assert len(set(keys)) == len(keys), "a finished batch was computed again"
        assert all(path.stat().st_mtime_ns == then for path, then in stamps.items())
        journals = {
            p: p.read_bytes() for name in ("batches", "likelihoods") for p in out.glob(f"stages/*/{name}.jsonl")
        }
        stamps = {p: p.stat().st_mtime_ns for p in out.glob("stages/*/done")}


def assert_same(one: Path, other: Path, *files: tuple[str, str]) -> None:
    """Of two runs, files by stage."""
    for name, file in files:
        assert (stage(one, name) / file).read_bytes() == (stage(other, name) / file).read_bytes(), (name, file)
