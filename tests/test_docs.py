"""Every command in the documentation runs, in the order of its page, from an empty folder."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from run_fixtures import charactery

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")))]


def commands(page: str) -> list[list[str]]:
    """The `$ charactery …` lines of a page's console blocks, as argument lists."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", (ROOT / page).read_text(), re.DOTALL):
        for line in re.findall(r"^\$ (.+)$", block, re.MULTILINE):
            arguments = shlex.split(line, comments=True)
            if Path(arguments[0]).name == "charactery":
                found.append(arguments[1:])
    return found


def failed(page: str, run: Callable[..., subprocess.CompletedProcess[str]]) -> str:
    """The first command of a page that fails, with what it said; those after it may need what it makes."""
    for arguments in commands(page):
        done = run(*arguments)
        if done.returncode:
            return f"{page}: charactery {shlex.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return ""


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)])
def test_commands_run(page: str, tmp_path: Path, talking_cache: Path) -> None:
    """On the tiny model, standing in for the embedded one."""
    assert not failed(page, lambda *arguments: charactery(talking_cache, *arguments, folder=tmp_path))


@pytest.mark.smollm2
@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)])
def test_commands_run_on_the_embedded_model(page: str, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "charactery", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, input="", check=False)

    assert not failed(page, run)


def test_the_pages_have_commands() -> None:
    """A change of style that hides the commands from this test must not go unseen."""
    assert len(commands("README.md")) >= 5
    assert len(commands("docs/first-character.md")) >= 10


def mentions(page: str) -> list[list[str]]:
    """Commands that are shown and not run, for want of a hub, a key or hours: sh blocks and code within sentences."""
    text = re.sub(r"```console\n.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(charactery\s[^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("charactery")]


def unknown_in(arguments: list[str]) -> list[str]:
    """What of a command line the program does not know: the command, or options of it."""
    from typer.main import get_command

    from charactery.cli import app

    if arguments[0].startswith("-"):
        return []
    command: Any = get_command(app)
    while hasattr(command, "commands"):  # a group: what follows is one of its commands
        if not arguments:  # it is named as a whole
            return []
        name, *arguments = arguments
        if name not in command.commands:
            return [name]
        command = command.commands[name]
    known = {"--help", *(o for p in command.params for o in (*p.opts, *p.secondary_opts))}
    return [a for a in arguments if a.startswith("-") and a != "--" and a.split("=")[0] not in known]


@pytest.mark.parametrize("page", [p for p in PAGES if p != "docs/cli.md" and mentions(p)])
def test_what_is_only_shown_exists(page: str) -> None:
    wrong = {shlex.join(m): unknown_in(m) for m in mentions(page) if unknown_in(m)}
    assert not wrong


def test_unknown_commands_and_options_would_be_seen() -> None:
    assert unknown_in(["trian", "captain"]) == ["trian"]
    assert unknown_in(["train", "captain", "--seeds", "1"]) == ["--seeds"]
    assert unknown_in(["train", "captain", "--seed", "1"]) == []
    assert unknown_in(["writings", "chekc", "letters"]) == ["chekc"]
    assert any("hf:openai/gpt-oss-20b" in m for m in mentions("docs/models.md"))


def test_the_python_in_the_docs_runs(tmp_path: Path) -> None:
    """In a folder with a card called ada.png, which is what the pages suppose."""
    from test_formats import card, picture

    blocks = [b for p in PAGES for b in re.findall(r"```python\n(.*?)```", (ROOT / p).read_text(), re.DOTALL)]
    assert blocks
    for number, block in enumerate(blocks):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "ada.png").write_bytes(picture({"chara": card()}))
        done = subprocess.run([sys.executable, "-c", block], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stderr}"


def test_every_command_is_in_the_reference() -> None:
    from typer.main import get_command

    from charactery.cli import app

    reference = (ROOT / "docs" / "cli.md").read_text()
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        for one in [f"{name} {inner}" for inner in getattr(command, "commands", ())] or [name]:
            assert f"## charactery {one}\n" in reference


def test_every_bundled_character_is_described() -> None:
    from charactery.constitution.library import BUNDLED, bundled_names

    readme = (BUNDLED / "README.md").read_text()
    for name in [*bundled_names(), "_template"]:
        assert name in readme
