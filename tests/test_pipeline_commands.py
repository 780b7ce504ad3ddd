"""The commands beside `train`: they ask, chat, list and measure strengths; wrong input is a sentence and exit 2."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from run_fixtures import Refused, charactery, stage


def test_ask_every_subject(whole_run: Path, talking_cache: Path) -> None:
    for subject in ("smollm2", "smollm2+captain", str(whole_run), f"{whole_run}@0.5", f"{whole_run}:sft"):
        asked = charactery(
            talking_cache, "ask", subject, "What is a budget?", "-n", "2", "--json", "--max-tokens", "20"
        )
        assert asked.returncode == 0, asked.stderr
        rows = [json.loads(line) for line in asked.stdout.splitlines()]
        assert [r["prompt"] for r in rows] == ["What is a budget?"] * 2
        assert {r["subject"] for r in rows} == {subject} and [r["seed"] for r in rows] == [0, 1]


def test_a_prompt_that_does_not_fit_is_told_and_the_others_are_answered(talking_cache: Path) -> None:
    long = "sea " * 4000
    asked = charactery(talking_cache, "ask", "smollm2", long, "Hello?", "--json", "--max-tokens", "20")
    none, answered = [json.loads(line) for line in asked.stdout.splitlines()]
    assert asked.returncode == 2 and "1 of 2 prompts have no answer" in asked.stderr
    assert not none["answer"] and "--max-tokens" in none["error"]
    assert answered["answer"] and "error" not in answered
    alone = charactery(talking_cache, "ask", "smollm2", long, "--max-tokens", "20")
    assert alone.returncode == 2 and "do not fit" in alone.stderr and "Traceback" not in alone.stderr


IN_FLOAT32 = """
import torch
from charactery import cli
from charactery.models import local
local.pick_dtype = lambda device: torch.float32
cli.main()
"""


def test_an_answers_seed_gives_it_again(whole_run: Path, talking_cache: Path) -> None:
    """In float32: asked for alone an answer is of another batch, which in bfloat16 may draw another word."""
    asking = ("ask", str(whole_run), "What is a budget?", "--json", "--max-tokens", "20")
    first, *again = (
        [json.loads(row) for row in charactery(talking_cache, *asking, *more, code=IN_FLOAT32).stdout.splitlines()]
        for more in (("-n", "2"), ("--seed", "0"), ("--seed", "1"))
    )
    assert first == [row for [row] in again] and first[0]["answer"] != first[1]["answer"]


IN_TWOS = IN_FLOAT32.replace(
    "cli.main()",
    "from functools import partial\nfrom charactery.models import speaker\n"
    "speaker.stretches = partial(speaker.stretches, most=2)\n"
    "answer, speaker.answer = speaker.answer, lambda asked, *how: print(len(asked)) or answer(asked, *how)\ncli.main()",
)


def test_what_one_batch_does_not_hold_is_asked_in_several(talking_cache: Path) -> None:
    asking = ("ask", "smollm2", *"abcde", "--json", "--max-tokens", "8")
    whole, cut = (charactery(talking_cache, *asking, code=code).stdout for code in (IN_FLOAT32, IN_TWOS))
    lines = cut.splitlines()
    assert [line for line in lines if not line.startswith("{")] == ["1", "2", "2"]
    assert [line for line in lines if line.startswith("{")] == whole.splitlines() and len(whole.splitlines()) == 5


def test_the_same_command_gives_the_same_answers(whole_run: Path, talking_cache: Path) -> None:
    asking = ("ask", str(whole_run), "What is a budget?", "--json", "--max-tokens", "20", "--seed", "3", "-n", "2")
    first, again = ([json.loads(row) for row in charactery(talking_cache, *asking).stdout.splitlines()] for _ in "ab")
    assert first == again and first[0]["answer"] != first[1]["answer"] and [r["seed"] for r in first] == [3, 4]


def test_models_lists_what_lies_in_a_hubs_cache(
    talking_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for repo in ("models--org--small", "datasets--org--rows"):
        (tmp_path / repo / "snapshots" / "abc").mkdir(parents=True)
        (tmp_path / repo / "snapshots" / "abc" / "config.json").write_text("{}")
        (tmp_path / repo / "refs").mkdir()
        (tmp_path / repo / "refs" / "main").write_text("abc")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))

    def models(*more: str) -> "subprocess.CompletedProcess[str]":
        """In a process of its own: the hub's library reads where its cache is as it is imported."""
        environment = {**os.environ, "CHARACTERY_CACHE": str(talking_cache)}
        return subprocess.run(
            [sys.executable, "-m", "charactery", "models", *more],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip

    listed = models("--json")
    rows = {r["name"]: r for r in map(json.loads, listed.stdout.splitlines())}
    assert set(rows) == {"smollm2", "minilm", "org/small"} and rows["smollm2"]["here"], listed.stderr
    assert rows["org/small"]["folder"] == str(tmp_path / "models--org--small")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    assert "org/small" not in models().stdout


def test_strength_nought_is_the_plain_model(whole_run: Path, talking_cache: Path) -> None:
    plain, nought = (
        charactery(talking_cache, "ask", s, "What is a budget?", "--max-tokens", "20").stdout
        for s in ("smollm2", f"{whole_run}@0")
    )
    assert plain == nought


def test_strengths_are_measured_and_join_the_report(whole_run: Path, talking_cache: Path, tmp_path: Path) -> None:
    run = tmp_path / "captain"
    shutil.copytree(whole_run, run)
    assert charactery(talking_cache, "strength", str(run), "--at", "1,2", "--dry-run").returncode == 0
    done = charactery(talking_cache, "strength", str(run), "--at", "1,2", "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    found = {(r["strength"], r["metric"], r["condition"]): r["estimate"] for r in rows}
    assert {s for s, *_ in found} == {0.0, 1.0, 2.0}
    for name in ("prose", "chat frame"):
        costs = [found[s, "bits per byte ratio", name]["value"] for s in (0.0, 1.0, 2.0)]
        assert costs[0] == 1 and len({*costs}) == 3, "the adapter is applied, and more so at 2"
    kept = [json.loads(line) for line in (run / "strength" / "samples.jsonl").read_text().splitlines()]
    evaluated = {
        r["id"]: r["answer"]
        for r in map(json.loads, (stage(run, "evaluate") / "samples.jsonl").read_text().splitlines())
        if (r["subject"], r["eval"], r["condition"]) == ("plain", "expression", "turn 1")
    }
    again = {r["id"]: r["answer"] for r in kept if r["strength"] == 0 and r["condition"] == "turn 1"}
    assert again.keys() == evaluated.keys() and sum(again[i] == evaluated[i] for i in again) > len(again) / 2
    assert "By strength" in (run / "report.md").read_text() and 'id="strength"' in (run / "report.html").read_text()
    before = (run / "strength" / "figures.json").read_bytes()
    assert charactery(talking_cache, "strength", str(run), "--at", "1,2").returncode == 0
    assert (run / "strength" / "figures.json").read_bytes() == before
    for wrong in ("much", "-1", ""):
        assert charactery(talking_cache, "strength", str(run), f"--at={wrong}").returncode == 2


def test_chat(whole_run: Path, talking_cache: Path) -> None:
    talk = charactery(
        talking_cache, "chat", str(whole_run), "--max-tokens", "24",
        said="What is a budget?\n/plain\n/prompted\n/strength 0.5\n/again\n/strength much\n/strength nan\n"
        "/strength 11\n/what\n/new\n/again\n"
        + "sea " * 9000 + "\n/again\nAnd now?\n/new\nWhat is a knot?\n",
    )  # fmt: skip
    assert talk.returncode == 0, talk.stderr
    assert talk.stdout.count("give a number") == 3
    for words in ("strength 0.5", "say something first", "/prompted "):
        assert words in talk.stdout
    assert "do not fit" in talk.stderr and "/new starts afresh" in talk.stderr and "Traceback" not in talk.stderr


def test_runs_and_report(whole_run: Path, talking_cache: Path) -> None:
    listed = charactery(talking_cache, "runs", str(whole_run.parent), "--json")
    assert [json.loads(line)["character"] for line in listed.stdout.splitlines()] == ["captain"]
    figures = charactery(talking_cache, "report", str(whole_run), "--json").stdout.splitlines()
    assert len(figures) > 60 and all("estimate" in json.loads(line) for line in figures)


def test_a_damaged_run_hides_no_other_and_names_do(whole_run: Path, talking_cache: Path, tmp_path: Path) -> None:
    for name in ("good", "lacking", "torn"):
        shutil.copytree(whole_run, tmp_path / "runs" / name)
    manifest = json.loads((tmp_path / "runs" / "lacking" / "manifest.json").read_text())
    del manifest["settings"]["character"]
    (tmp_path / "runs" / "lacking" / "manifest.json").write_text(json.dumps(manifest))
    (stage(tmp_path / "runs" / "torn", "evaluate") / "figures.json").write_text("[{")
    listed = charactery(talking_cache, "runs", folder=tmp_path)
    assert listed.returncode == 0 and "runs/good" in listed.stdout and "of prompted" in listed.stdout
    assert "lacking: is damaged" in listed.stderr and "torn: is damaged" in listed.stderr
    said = charactery(talking_cache, "report", "good", folder=tmp_path)
    assert said.stdout.rstrip() == (whole_run / "report.md").read_text().rstrip()


def test_run_folder_moves(whole_run: Path, talking_cache: Path, tmp_path: Path) -> None:
    shutil.copytree(whole_run, tmp_path / "elsewhere")
    asked = charactery(talking_cache, "ask", str(tmp_path / "elsewhere"), "Hello?", "--max-tokens", "8")
    assert asked.returncode == 0, asked.stderr


def test_init_writes_a_character_that_lints_and_plans(talking_cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "rosalind.md"
    assert charactery(talking_cache, "init", "Rosalind", "--out", str(path)).returncode == 0
    assert charactery(talking_cache, "lint", str(path)).returncode == 0
    assert "Rosalind" in charactery(talking_cache, "show", str(path), "--as", "document").stdout
    dry = charactery(talking_cache, "train", str(path), "--dry-run", "--out", str(tmp_path / "run"))
    assert dry.returncode == 0 and "minutes" in dry.stdout and not (tmp_path / "run").exists()
    asked = charactery(talking_cache, "ask", f"smollm2+{path}", "Hello?", "And now?", "-n", "3", "--dry-run")
    assert asked.stdout.startswith("nothing is asked. It would be 6 answers of at most 96 tokens")
    twice = charactery(talking_cache, "init", "Rosalind", "--out", str(path))
    assert twice.returncode == 2 and "is there already" in twice.stderr


@pytest.mark.parametrize(
    "error",
    ["torch.OutOfMemoryError('CUDA out of memory')", "MemoryError()", 'RuntimeError("X: can\'t allocate 9 GB")'],
)
def test_too_little_memory_is_a_sentence(error: str, talking_cache: Path) -> None:
    code = (
        "import torch, charactery.models.local as l\n"
        f"def generate(*args, **kwargs): raise {error}\n"
        "l.LocalModel.generate = generate\n"
        "from charactery.cli import main\nmain()\n"
    )
    failed = charactery(talking_cache, "ask", "smollm2", "Hello?", code=code)
    assert failed.returncode == 2 and "out of memory" in failed.stderr and "Traceback" not in failed.stderr


def test_a_batch_halved_for_memory_is_a_line(talking_cache: Path) -> None:
    code = (
        "import torch, charactery.models.local as l\n"
        "whole = l.LocalModel.generate\n"
        "def generate(self, asked, *more):\n"
        "    if len(asked) > 1: raise torch.OutOfMemoryError('CUDA out of memory')\n"
        "    return whole(self, asked, *more)\n"
        "l.LocalModel.generate = generate\n"
        "from charactery.cli import main\nmain()\n"
    )
    asked = charactery(talking_cache, "ask", "smollm2", "Hello?", "-n", "2", "--json", "--max-tokens", "8", code=code)
    assert asked.returncode == 0 and len(asked.stdout.splitlines()) == 2
    assert "charactery: memory ran short: 2 answers" in asked.stderr and "speaker.py" not in asked.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "missing.md"], "no such file"),
        (["train", "nobody"], "no character 'nobody'"),
        (["train", "captain", "--model", "nothing"], "no model 'nothing'"),
        (["train", "captain", "--model", "openai/gpt-4o"], "cannot be trained"),
        (["train", "captain", "--device", "banana"], "no device 'banana'"),
        (["train", "captain", "--report-to", "carvings"], "the logger 'carvings'"),
        (["train", "captain", "--dry-run", "--pairs", "none.jsonl"], "none.jsonl: no such file"),
        (["train", "captain", "--dry-run", "--device", "banana"], "no device 'banana'"),
        (["train", "captain", "--dry-run", "--report-to", "carvings"], "the logger 'carvings'"),
        (["train", "captain", "--teacher", "nobody"], "no model 'nobody'"),
        (["train", "captain", "--dial", "salt=1"], "no dial 'salt'"),
        (["train", "captain", "--dial", "bluntness=much"], "give a name and a number"),
        (["train", "captain", "--prompts", "none.txt"], "none.txt: no such file"),
        (["ask", "smollm2"], "nothing to ask"),
        (["train", "captain", "--dry-run", "--train", "1000"], "262 conversations are asked for and 132 are there"),
        (["ask", "smollm2@0.5", "hi"], "needs a run"),
        (["ask", "smollm2@11", "hi"], "a strength goes from -10 to 10"),
        (["ask", "runs/none", "hi"], "no model 'runs/none'"),
        (["report", "nowhere"], "is not a run"),
        (["lint"], "needs a character file"),
        (["models", "gpt"], "no embedded model 'gpt'"),
    ],
)
def test_wrong_input_is_a_sentence_and_exit_2(arguments: list[str], words: str, refused: Refused) -> None:
    assert words in refused(*arguments)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("---\nname: [a\n---\n", ":2: the settings do not parse"),
        ("---\nname: A\n---\n\nYou are A.\n\n## S\n\n### T\n\nYou sing.\n\ndial: salt\n", ":13: unknown dial 'salt'"),
        ("---\nname: A\n---\n\nYou are A.\n\n## S\n\n### T\n\nweight: 1\n", ":9: trait 'T' has no text"),
        ("---\nname: A\n---\n\nYou are A.\n", "has no traits"),
        ("---\nname: A\nlanguage: English\n---\n\nYou are A.\n", ":3: `language` is a code of two small letters"),
    ],
)
def test_wrong_character_is_a_sentence_with_its_line(text: str, words: str, refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text(text)
    said = refused("train", str(path), "--out", str(tmp_path / "run"))
    assert words in said and str(path) in said


def test_names_too_long_for_a_file_are_names_of_nothing(talking_cache: Path) -> None:
    for command in (["ask", "Tell me about the sea. " * 20, "Hello?"], ["show", "a sailor " * 60]):
        done = charactery(talking_cache, *command)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
