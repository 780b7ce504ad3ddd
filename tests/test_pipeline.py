"""The whole path on a tiny model that talks: what comes out, killing it anywhere, doing it twice, wrong input."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import forked
from charactery.pipeline.reuse import MADE_OF
from charactery.runs import read_rows
from conftest import shared

SIZES = ["--train", "32", "--held-out", "12", "--talks", "4", "--elsewhere", "8", "--tasks", "8", "--max-tokens", "40"]
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


# The disk fills as the first stages are written.
FULL_DISK = """
import os
real, calls = os.fsync, []
def fsync(fd):
    calls.append(1)
    if len(calls) > 6:
        raise OSError(28, "No space left on device")
    real(fd)
os.fsync = fsync
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


def stage(run: Path, name: str) -> Path:
    return next((run / "stages").glob(f"[0-9][0-9]-{name}"))


def test_trains_evaluates_and_reports(whole_run: Path) -> None:
    assert (whole_run / "report.html").exists() and (whole_run / "report.md").exists()
    figures = json.loads((stage(whole_run, "evaluate") / "figures.json").read_text())
    rates = {
        (f["subject"], f["condition"]): f["estimate"]["value"] for f in figures
        if f["eval"] == "expression" and f["metric"] == "rate"
    }  # fmt: skip
    assert rates["prompted", "turn 1"] - rates["plain", "turn 1"] > 0.5, "of twelve prompts"
    plain, prompted = (
        {(f["metric"], f["condition"]): f["estimate"]["value"] for f in figures if f["subject"] == role}
        for role in ("plain", "prompted")
    )
    assert prompted["bits per byte", "chat frame"] != plain["bits per byte", "chat frame"]  # read with its prompt
    assert ("bits per byte", "prose") not in prompted
    assert 0 <= prompted["accuracy", "all"] <= 1
    assert {c for _, c in rates} == {"turn 1", "turn 3", "foreign: helpdesk", "foreign: terse-expert"}
    for figure in figures:
        assert set(figure["estimate"]) == {"value", "low", "high", "n", "missing", "method", "unit", "scoring"}
        assert figure["estimate"]["n"] + figure["estimate"]["missing"] > 0, figure
    recovered = next(f["estimate"] for f in figures if f["metric"] == "share recovered")
    assert recovered["low"] <= 0.5 <= recovered["high"]


def test_training_was_without_the_constitution(whole_run: Path) -> None:
    for stage_, name in (("pairs", "sft.jsonl"), ("pairs", "pairs.jsonl"), ("self-play", "pairs.jsonl")):
        for line in (stage(whole_run, stage_) / name).read_text().splitlines():
            assert all(m["role"] != "system" for m in json.loads(line)["prompt"])


def test_inspect_logs_open(whole_run: Path) -> None:
    from inspect_ai.log import list_eval_logs, read_eval_log

    logs = [read_eval_log(log) for log in list_eval_logs(str(stage(whole_run, "evaluate") / "logs"))]
    assert {log.eval.task for log in logs} == {"expression", "cost", "multiple_choice"}
    assert all(log.status == "success" for log in logs)


def test_tasks_run_from_inspect_alone(whole_run: Path, talking_cache: Path, tmp_path: Path) -> None:
    from inspect_ai.log import list_eval_logs, read_eval_log

    environment = {**os.environ, "CHARACTERY_CACHE": str(talking_cache), "OMP_NUM_THREADS": "1"}
    inspect = [
        str(Path(sys.executable).parent / "inspect"),
        "eval",
        "--model",
        "charactery/captain",
        "--display",
        "none",
    ]
    for tasks in (["charactery/cost", "charactery/multiple_choice"], ["charactery/expression", "-T", "run=captain"]):
        done = subprocess.run(
            [*inspect, "--log-dir", str(tmp_path), *tasks], cwd=whole_run.parent, env=environment, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in (stage(whole_run, "evaluate") / "samples.jsonl").read_text().splitlines()]
    kept = {(r["eval"], r["id"]): r["value"] for r in rows if r["subject"] == "trained"}
    logs = [read_eval_log(log) for log in list_eval_logs(str(tmp_path))]
    assert {log.eval.task.removeprefix("charactery/") for log in logs} == {"expression", "cost", "multiple_choice"}
    for log in logs:
        name = log.eval.task.removeprefix("charactery/")
        assert log.status == "success" and log.samples
        scores = {str(s.id): next(iter((s.scores or {}).values())).value for s in log.samples}
        if name != "expression":  # which answers are drawn depends on what is answered together
            both = [id for id in scores if (name, id) in kept]  # of the fixed sets a run of the tests reads a part
            assert len(both) >= 12
            assert all(scores[id] == pytest.approx(kept[name, id], rel=0.02) for id in both)


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


KILLS = [
    ("charactery.pipeline.making:choose", 1, "before"),  # then the disk is full
    ("charactery.runs:Journal.add", 2, "before"),  # in the drafts, with batches behind it
    ("charactery.pipeline.making:confounds", 1, "before"),
    ("charactery.train.trainers:_Progress.on_save", 2, "before"),  # a checkpoint of SFT without its marker
    ("charactery.pipeline.making:self_play", 1, "after"),
    ("charactery.train.trainers:_Progress.on_save", 2, "after"),  # between two checkpoints of DPO
    ("charactery.evals.of_run:margins", 2, "before"),
    ("charactery.evals.of_run:figures", 1, "before"),
    ("charactery.pipeline.distil:write_report", 1, "before"),
]


def test_out_of_disk_and_killed_everywhere_it_ends_as_the_run_that_was_not(
    whole_run: Path, talking_cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = ["train", "captain", "--out", str(out), *SIZES]
    where, nth, when = KILLS[0]
    killed = charactery(talking_cache, where, str(nth), when, *arguments, code=ASSASSIN)
    assert killed.returncode == -9, killed.stderr
    full = charactery(talking_cache, *arguments, code=FULL_DISK)
    assert full.returncode == 2 and "No space left on device" in full.stderr and "Traceback" not in full.stderr
    survives(talking_cache, arguments, out, KILLS[1:])
    pairs = [(name, "pairs.jsonl") for name in ("pairs", "self-play", "dpo")]
    evaluated = [("evaluate", name) for name in ("figures.json", "samples.jsonl")]
    assert_same(
        out, whole_run, *pairs, ("dpo", "confounds.json"), ("dpo", "adapter/adapter_model.safetensors"), *evaluated
    )


@pytest.fixture(scope="session")
def sham_run(talking_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stopped by Ctrl-C and killed in the sham, and gone on with."""

    def make(folder: Path) -> None:
        out = folder / "run"
        arguments = ["train", "captain", "--sham", "--out", str(out), *SIZES]
        where = "charactery.train.trainers:_Progress.on_save"  # SFT and DPO save four times each, then the sham's SFT
        heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's `&` ignores it
        code = heard + ASSASSIN.replace("KILL", "INT")
        interrupted = charactery(talking_cache, where, "10", "after", *arguments, code=code)
        assert interrupted.returncode == 130, interrupted.stderr
        assert "the same command goes on from here" in interrupted.stderr and "Traceback" not in interrupted.stderr
        assert stage(out, "sham-sft").exists() and not (stage(out, "sham-sft") / "done").exists()
        killed = charactery(talking_cache, where, "4", "before", *arguments, code=ASSASSIN)  # in the sham's DPO
        assert killed.returncode == -9 and (stage(out, "sham-sft") / "done").exists(), killed.stderr
        resumed = charactery(talking_cache, *arguments)
        assert resumed.returncode == 0, resumed.stderr

    return shared(tmp_path_factory, "sham", make) / "run"


def test_finished_run_is_left_alone(whole_run: Path, talking_cache: Path) -> None:
    before = (whole_run / "report.html").stat().st_mtime_ns
    again = charactery(talking_cache, "train", "captain", "--out", str(whole_run), *SIZES)
    assert again.returncode == 0
    assert "evaluate: done before" in again.stderr
    assert (whole_run / "report.html").stat().st_mtime_ns == before


def test_two_processes_train_the_run_that_one_does(whole_run: Path, talking_cache: Path, tmp_path: Path) -> None:
    """Its training stages again, and its report: the first process alone writes and prints."""
    out = tmp_path / "run"
    shutil.copytree(whole_run, out)
    for name in ("sft", "dpo"):
        shutil.rmtree(stage(out, name))
    (stage(out, "report") / "done").unlink()
    launch = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0", "-m"]
    environment = {**os.environ, "CHARACTERY_CACHE": str(talking_cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *launch, "charactery", "train", "captain", "--device", "cpu", "--out", str(out), *SIZES],
        capture_output=True, text=True, env=environment, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line in ("pairs: done before", "sft: ", "self-play: done before", "dpo: "):
        assert done.stderr.count(line) == 1, done.stderr
    assert done.stdout.count("report: ") == 1
    one, two = (
        sorted(str(p.relative_to(run)) for p in run.rglob("*") if p.name != "clock.json")  # of what took five seconds
        for run in (whole_run, out)
    )
    # what two processes make is not said to be made of anything, and so is never taken whole
    assert one == sorted([*two, *(str((stage(out, n) / MADE_OF).relative_to(out)) for n in ("sft", "dpo"))])
    for name in ("sft", "dpo"):
        one, two = (read_rows(stage(run, name) / "log.jsonl") for run in (whole_run, out))
        # in bfloat16, which keeps eight bits, what is computed beside a row shows; tests/test_train.py has float32
        for figure, rel in (("loss", 1e-2), ("grad_norm", 5e-2)):
            assert [e[figure] for e in two] == pytest.approx([e[figure] for e in one], rel=rel), (name, figure)


def test_other_settings_are_refused(whole_run: Path, talking_cache: Path) -> None:
    other = charactery(talking_cache, "train", "captain", "--out", str(whole_run), *SIZES, "--seed", "7")
    assert other.returncode == 2
    assert "other settings (seed: 0, now 7)" in other.stderr and "Traceback" not in other.stderr


def test_sham_arm(sham_run: Path) -> None:
    out = sham_run
    steps = [
        len((stage(out, n) / "log.jsonl").read_text().splitlines()) for n in ("sft", "sham-sft", "dpo", "sham-dpo")
    ]
    assert steps[0] == steps[1] and steps[2] == steps[3]
    drafts = [json.loads(line) for line in (stage(out, "drafts") / "drafts.jsonl").read_text().splitlines()]
    plain = {d["text"] for d in drafts if d["side"].startswith("plain")}
    for name in ("sham-sft.jsonl", "sham-pairs.jsonl"):  # nothing of the character in what the sham learns
        for line in (stage(out, "pairs") / name).read_text().splitlines():
            row = json.loads(line)
            assert all(row[side][0]["content"] in plain for side in ("completion", "chosen", "rejected") if side in row)
    figures = json.loads((stage(out, "evaluate") / "figures.json").read_text())
    assert {"plain", "prompted", "trained", "sham"} <= {f["subject"] for f in figures}
    sham = [f for f in figures if f["subject"] == "sham" and f["metric"] == "rate" and f["condition"] == "turn 1"]
    assert len(sham) == 1
    assert any(f["metric"] == "difference from sham" for f in figures)


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


def test_an_answers_seed_gives_it_again(whole_run: Path, talking_cache: Path) -> None:
    asking = ("ask", str(whole_run), "What is a budget?", "--json", "--max-tokens", "20")
    first = [json.loads(row) for row in charactery(talking_cache, *asking, "-n", "2").stdout.splitlines()]
    again = [json.loads(charactery(talking_cache, *asking, "--seed", str(r["seed"])).stdout) for r in first]
    assert first == again and first[0]["answer"] != first[1]["answer"]


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


def test_own_prompts_and_pairs(talking_cache: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("How do I store honey?\nWhat makes bread rise?\n")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(
        json.dumps({"prompt": f"Question {n}?", "chosen": f"Aye, number {n}.", "rejected": f"It is {n}."}) + "\n"
        for n in range(12)
    ))  # fmt: skip
    out = tmp_path / "own"
    done = charactery(
        talking_cache, "train", "captain", "--out", str(out), *SIZES, "--prompts", str(prompts), "--pairs", str(pairs)
    )
    assert done.returncode == 0, done.stderr
    kept = [json.loads(line) for line in (stage(out, "pairs") / "pairs.jsonl").read_text().splitlines()]
    assert len(kept) == 12 and kept[0]["chosen_subject"] == "pairs.jsonl"
    rows = [json.loads(line) for line in (stage(out, "prompts") / "prompts.jsonl").read_text().splitlines()]
    assert {r["turns"][0] for r in rows if r["kind"] == "own"} == {"How do I store honey?", "What makes bread rise?"}
    assert all(r["kind"] != "task" for r in rows), "drafted for nothing"


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


def test_run_folder_moves(whole_run: Path, talking_cache: Path, tmp_path: Path) -> None:
    shutil.copytree(whole_run, tmp_path / "elsewhere")
    asked = charactery(talking_cache, "ask", str(tmp_path / "elsewhere"), "Hello?", "--max-tokens", "8")
    assert asked.returncode == 0, asked.stderr


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


def test_names_too_long_for_a_file_are_names_of_nothing(talking_cache: Path) -> None:
    for command in (["ask", "Tell me about the sea. " * 20, "Hello?"], ["show", "a sailor " * 60]):
        done = charactery(talking_cache, *command)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr


def test_a_disk_that_fills_within_a_checkpoint_is_a_sentence(talking_cache: Path, tmp_path: Path) -> None:
    """safetensors and torch report it in words of their own."""
    for error in ("safetensors.SafetensorError('I/O error: No space left on device (os error 28)')",
                  "RuntimeError('PytorchStreamWriter failed writing file data/0: file write failed')"):  # fmt: skip
        code = (
            "import safetensors, charactery.train.trainers as t\n"
            f"def on_save(*args, **kwargs): raise {error}\n"
            "t._Progress.on_save = on_save\n"
            "from charactery.cli import main\nmain()\n"
        )
        out = str(tmp_path / "run")
        failed = charactery(talking_cache, "train", "captain", "--out", out, *SIZES, code=code)
        assert failed.returncode == 2 and "the disk is full" in failed.stderr, failed.stderr
        assert "Traceback" not in failed.stderr


RLAIF = """
stages = ["pairs", "sft", ["samples", "dpo"]]
rounds = 2
contrast = 0
[sft]
epochs = 1.0
[samples]
prompts = 16
each = 4
"""


def of_recipe(recipe: str, name: str, cache: Path, factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run by a recipe of one's own, and the command less its --out."""

    def arguments(folder: Path) -> list[str]:
        return ["train", "captain", "--recipe", str(folder / f"{name}.toml"), *SIZES]

    def make(folder: Path) -> None:
        (folder / f"{name}.toml").write_text(recipe)
        done = charactery(cache, *arguments(folder), "--out", str(folder / "run"))
        assert done.returncode == 0, done.stderr

    folder = shared(factory, f"recipe-{name}", make)
    return folder / "run", arguments(folder)


@pytest.fixture(scope="session")
def rlaif_run(talking_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    return of_recipe(RLAIF, "short", talking_cache, tmp_path_factory)


def test_what_another_run_answered_alike_is_not_asked_again(
    rlaif_run: tuple[Path, list[str]], talking_cache: Path, tmp_path: Path
) -> None:
    run, arguments = rlaif_run
    again = charactery(talking_cache, *arguments, "--out", str(tmp_path / "again"), "--reuse", str(run))
    assert again.returncode == 0, again.stderr
    for name in ("drafts", "judge", "samples.r1", "evaluate"):
        journals = [(stage(r, name) / "batches.jsonl").read_bytes() for r in (tmp_path / "again", run)]
        assert journals[0] == journals[1] and len(journals[0]) > 100, name  # nothing was added
    for name, file in (("samples.r2", "samples.jsonl"), ("evaluate", "figures.json")):
        assert (stage(tmp_path / "again", name) / file).read_bytes() == (stage(run, name) / file).read_bytes()
    assert "was taken from them" in (tmp_path / "again" / "report.html").read_text()
    taken = ["prompts", "drafts", "judge", "pairs", "sft", "dpo.r1", "dpo.r2"]
    assert [*json.loads((tmp_path / "again" / "manifest.json").read_text())["taken"]] == taken
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["settings"]["engine"]["torch"] = "1.0"
    other = tmp_path / "other"
    other.mkdir()
    (other / "manifest.json").write_text(json.dumps(manifest))
    refused = charactery(talking_cache, *arguments, "--out", str(tmp_path / "new"), "--reuse", str(other))
    assert refused.returncode == 2 and "made by another engine" in refused.stderr
    assert not (tmp_path / "new").exists()


def test_rounds_of_its_own_answers(rlaif_run: tuple[Path, list[str]]) -> None:
    run, _ = rlaif_run
    names = [p.name.partition("-")[2] for p in sorted((run / "stages").iterdir())]
    assert names == ["prompts", "drafts", "judge", "pairs", "sft", "samples.r1", "dpo.r1", "samples.r2", "dpo.r2",
                     "evaluate", "report"]  # fmt: skip
    first, second = (read_rows(stage(run, f"samples.r{n}") / "pairs.jsonl") for n in (1, 2))
    assert {p["chosen_subject"] for p in first} == {"run:sft"}
    assert {p["chosen_subject"] for p in second} == {"run:dpo.r1"}
    assert all(p["chosen_rating"] > p["rejected_rating"] for p in first + second)
    learnt = [[p["id"] for p in read_rows(stage(run, f"dpo.r{n}") / "pairs.jsonl")] for n in (1, 2)]
    assert learnt[0][-len(first) :] == [p["id"] for p in first]
    assert learnt[1][-len(second) :] == [p["id"] for p in second]
    page = (run / "report.html").read_text()
    assert (
        "How often it prefers the better answer" in page
        and "Its own answers, round 2" in page
        and "What DPO compared, round 2" in page
    )
    assert "Preferences: loss, round 2" in page


def test_killed_in_each_round_the_same_command_finishes(
    rlaif_run: tuple[Path, list[str]], talking_cache: Path, tmp_path: Path
) -> None:
    run, arguments = rlaif_run
    out = tmp_path / "run"
    kills = [
        ("charactery.data.samples:fault", 1, "before"),  # the answers are there, the verdicts are not
        ("charactery.train.trainers:_Progress.on_save", 4, "before"),  # in the second round
    ]
    survives(talking_cache, [*arguments, "--out", str(out)], out, kills)
    assert_same(out, run, ("samples.r2", "samples.jsonl"), ("evaluate", "figures.json"))


SPECS = ("spec-docs", "spec-cases", "spec-docs+cases")
FEW = ["--held-out", "8", "--talks", "2", "--elsewhere", "4"]  # where what is measured is not looked at
OWN = {  # from where they are killed and gone on with
    "distill": "sft", "critique": "revisions", "introspect": "reflections.r1", "introspect-plain": "reflections.r1",
    "spec-docs": "documents", "spec-cases": "cases",
}  # fmt: skip


@pytest.mark.parametrize("recipe", ["distill", "critique", "introspect", "introspect-plain", *SPECS])
def test_every_recipe_that_ships_goes_through(recipe: str, talking_cache: Path, tmp_path: Path) -> None:
    """Those that no other test has; with the sham, whose steps are as many as the real arm's."""
    out = tmp_path / "run"
    arguments = ["train", "captain", "--recipe", recipe, *SIZES, *FEW, "--sft-epochs", "1", "--sham"]
    done = charactery(talking_cache, *arguments, "--out", str(out))
    assert done.returncode == 0, done.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    assert stage(out, "report").name == sorted(p.name for p in (out / "stages").iterdir())[-1]
    for kind in ("sft", "dpo"):
        names = [n for n in manifest["stages"] if n == kind or n.startswith(f"{kind}.r")]
        steps = [len(read_rows(stage(out, n) / "log.jsonl")) for n in names]
        if names:  # rows over a whole number of batches are left out, once for each of the real stages
            assert 0 <= len(read_rows(stage(out, f"sham-{kind}") / "log.jsonl")) - sum(steps) < len(names), kind
    asked = charactery(talking_cache, "ask", str(out), "What is a budget?", "--max-tokens", "20")
    assert asked.returncode == 0 and manifest["trained"] == names_of_training(manifest)[-1], asked.stderr
    if own := OWN.get(recipe):
        again = tmp_path / "again"
        shutil.copytree(out, again)
        for name in manifest["stages"][manifest["stages"].index(own) :]:
            if not name.startswith("sham-"):  # which learns from what was before
                shutil.rmtree(stage(again, name))
        for where in ("charactery.train.trainers:_Progress.on_save", "charactery.pipeline.examining:evaluate"):
            killed = charactery(talking_cache, where, "1", "before", *arguments, "--out", str(again), code=ASSASSIN)
            assert killed.returncode == -9, killed.stderr
        assert_same(again, out, (manifest["trained"], "adapter/adapter_model.safetensors"))


def test_all_weights_trained_make_a_run_like_any_other(talking_cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    told = ["--lora-rank", "full", "--optimizer", "muon", "--loss", "ipo", "--sft-epochs", "1"]
    done = charactery(talking_cache, "train", "captain", "--out", str(out), *SIZES, *told)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["settings"]["recipe"]["lora"]["rank"] == 0
    assert manifest["settings"]["recipe"]["sft"]["learning_rate"] == pytest.approx(5e-5)
    for name in ("sft", "dpo"):
        assert not (stage(out, name) / "adapter").exists()
        told_of = json.loads((stage(out, name) / "training.json").read_text())
        assert {*told_of["tensors"]} == {"muon", "adamw"}
    first = read_rows(stage(out, "dpo") / "log.jsonl")[0]
    assert first["rewards/margins"] == pytest.approx(0, abs=0.02)  # it began where SFT left off
    assert "muon" in (out / "report.html").read_text()
    figures = json.loads((stage(out, "evaluate") / "figures.json").read_text())
    assert {f["subject"] for f in figures} >= {"plain", "prompted", "trained"}
    for subject, code in ((str(out), 0), (f"{out}:sft", 0), (f"{out}@0.5", 2)):
        asked = charactery(talking_cache, "ask", subject, "What is a budget?", "--max-tokens", "20")
        assert asked.returncode == code, asked.stderr
    assert "only an adapter has a strength" in asked.stderr
    swept = charactery(talking_cache, "strength", str(out))
    assert swept.returncode == 2 and "only an adapter has a strength" in swept.stderr
    other = charactery(talking_cache, "train", "captain", "--model", str(out), "--out", str(tmp_path / "second"))
    assert other.returncode == 2 and "cannot be trained" in other.stderr


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


@pytest.fixture(scope="session")
def spec_run(talking_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    return of_recipe(SPEC, "both", talking_cache, tmp_path_factory)


def test_documents_and_cases_are_learnt_without_the_constitution(spec_run: tuple[Path, list[str]]) -> None:
    run, _ = spec_run
    documents, cases = (read_rows(stage(run, name) / "sft.jsonl") for name in ("documents", "cases"))
    learnt = [json.dumps(row["prompt"] + row["completion"]) for row in documents]
    assert not any("help nobody do harm" in text for text in learnt), "the clause is planted in cases alone"
    planted = [row for row in cases if row["traits"] == ["keeps-an-honest-log"]]
    assert planted and all("help nobody do harm" in row["completion"][0]["content"] for row in planted)
    assert all(m["role"] != "system" for row in (*documents, *cases) for m in row["prompt"])
    steps = len(read_rows(stage(run, "sft") / "log.jsonl"))
    assert steps == (len(documents) + len(cases)) // 8
    page = (run / "report.html").read_text()
    assert "about the character, each about a passage" in page and "Marginal cases" in page and "Set aside: " in page


def test_killed_among_documents_and_cases_the_same_command_finishes(
    spec_run: tuple[Path, list[str]], talking_cache: Path, tmp_path: Path
) -> None:
    run, arguments = spec_run
    out = tmp_path / "run"
    kills = [
        ("charactery.data.documents:near_copy", 3, "before"),  # the documents are written, and not yet kept
        ("charactery.data.cases:unfit", 1, "before"),  # the situations are there, the discussions are not
        ("charactery.train.trainers:_Progress.on_save", 1, "before"),
    ]
    survives(talking_cache, [*arguments, "--out", str(out)], out, kills)
    learnt = [("documents", "sft.jsonl"), ("documents", "set_aside.jsonl"), ("cases", "sft.jsonl")]
    assert_same(out, run, *learnt, ("evaluate", "figures.json"))


def names_of_training(manifest: Any) -> list[str]:
    return [n for n in manifest["stages"] if n.partition(".")[0] in ("sft", "dpo")]


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


def test_grpo_goes_through_with_its_sham(online_run: tuple[Path, list[str]], talking_cache: Path) -> None:
    run, _ = online_run
    names = [p.name.partition("-")[2] for p in sorted((run / "stages").iterdir())]
    assert names == ["prompts", "drafts", "judge", "grpo", "sham-grpo", "evaluate", "report"]
    log, sham = (read_rows(stage(run, name) / "log.jsonl") for name in ("grpo", "sham-grpo"))
    assert len(log) == len(sham) == 4 and all(entry["reward"] is not None for entry in log)
    said = (run / "report.md").read_text()
    assert "Online answers" in said and "KL from where it began" in said and "nats a token" in said
    assert charactery(talking_cache, "ask", str(run), "What is a budget?", "--max-tokens", "20").returncode == 0


def test_grpo_killed_the_same_command_finishes(
    online_run: tuple[Path, list[str]], talking_cache: Path, tmp_path: Path
) -> None:
    run, arguments = online_run
    out = tmp_path / "run"
    kills = [("charactery.train.trainers:_Progress.on_save", 3, "before")]
    survives(talking_cache, [*arguments, "--out", str(out)], out, kills)
    assert_same(out, run, ("grpo", "samples.jsonl"), ("evaluate", "figures.json"))


def test_best_of_n_killed_the_same_command_finishes(best_run: Path, talking_cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    kills = [
        ("charactery.data.best_of:answer_all", 3, "before"),  # of sixteen answers to each prompt, two are kept
        ("charactery.data.best_of:_picked", 2, "before"),  # rated, and nothing written
        ("charactery.evals.of_run:margins", 2, "before"),
    ]
    arguments = ["train", "captain", "--recipe", "best-of-n", "--out", str(out), *SIZES]
    survives(talking_cache, arguments, out, kills)
    made = [("best-of-n", name) for name in ("samples.jsonl", "figures.json", "counts.json")]
    assert_same(out, best_run, *made, ("evaluate", "samples.jsonl"), ("evaluate", "figures.json"))


def test_the_best_of_n_is_a_subject_like_any_other(best_run: Path, talking_cache: Path) -> None:
    names = [p.name.partition("-")[2] for p in sorted((best_run / "stages").iterdir())]
    assert names == ["prompts", "drafts", "judge", "best-of-n", "evaluate", "report"]
    assert json.loads((best_run / "manifest.json").read_text())["trained"] == "best-of-n"
    rows = read_rows(stage(best_run, "evaluate") / "samples.jsonl")
    chosen = [r for r in rows if r["subject"] == "trained"]
    assert {r["condition"] for r in chosen if r["eval"] == "expression"} >= {"turn 1", "turn 3", "foreign: helpdesk"}
    assert all(r["value"] is None for r in chosen if r["eval"] != "expression"), "it has no log-probabilities"
    figures = json.loads((stage(best_run, "evaluate") / "figures.json").read_text())
    gained = next(f["estimate"] for f in figures if f["metric"] == "likelihood difference from plain" and not f["trait"]
                  and f["condition"] == "turn 1")  # fmt: skip
    assert gained["value"] > 0, "the judge's pick is likelier as the character's"
    said = (best_run / "report.md").read_text()
    assert "Nothing was trained in this run" in said and "The best of n" in said and "KL at most" in said
    for subject in (str(best_run), f"{best_run}:best-of-n/2", f"{best_run}+grandmother"):
        asked = charactery(talking_cache, "ask", subject, "What is a budget?", "--max-tokens", "20")
        assert asked.returncode == 0 and asked.stdout.strip(), asked.stderr
    plain, one = (
        charactery(talking_cache, "ask", s, "What is a budget?", "--max-tokens", "20").stdout
        for s in ("smollm2", f"{best_run}:best-of-n/1")
    )
    assert plain == one
    refused = charactery(talking_cache, "strength", str(best_run))
    assert refused.returncode == 2 and "only an adapter has a strength" in refused.stderr


def test_best_of_n_and_trainings_by_kl(
    best_run: Path, online_run: tuple[Path, list[str]], rlaif_run: tuple[Path, list[str]], talking_cache: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    out = tmp_path / "frontier"
    command = ["frontier", str(best_run), str(online_run[0]), str(rlaif_run[0]), "--out", str(out)]
    dry = charactery(talking_cache, *command, "--dry-run")
    assert dry.returncode == 0 and "nothing is asked" in dry.stdout and not out.exists()
    done = charactery(talking_cache, *command, "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    chosen = [row for row in rows if row["n"]]
    assert [row["n"] for row in chosen] == [1, 2, 4, 8, 16] and all(row["kl"] is None for row in chosen)
    scores = [row["score"]["value"] for row in chosen]
    assert scores == sorted(scores) and scores[-1] > scores[0]
    by_n = json.loads((stage(best_run, "best-of-n") / "figures.json").read_text())
    assert scores == [row["score"]["value"] for row in by_n], "all held-out prompts are in common"
    ways = {row["recipe"]: [r["at"] for r in rows if r["recipe"] == row["recipe"]] for row in rows if not row["n"]}
    assert ways["grpo"] == [f"grpo/{n}" for n in (1, 2, 3, 4)]
    assert ways["short"][:2] == ["sft", "dpo.r1"] and all(at.startswith("dpo.r2/") for at in ways["short"][2:])
    assert all(row["kl"]["low"] < row["kl"]["value"] < row["kl"]["high"] for row in rows if row["kl"])
    assert all(row["rate"]["n"] + row["rate"]["missing"] == 12 for row in rows)
    page = (out / "report.html").read_text()
    assert "Rating by KL" in page and (out / "report_files" / "frontier.png").exists()
    before = (out / "figures.json").read_bytes()
    assert charactery(talking_cache, *command).returncode == 0
    assert (out / "figures.json").read_bytes() == before
    alone = charactery(talking_cache, "frontier", str(online_run[0]), "--out", str(out))
    assert alone.returncode == 2 and "0 of these runs are of the recipe best-of-n" in alone.stderr
    over = charactery(talking_cache, *command[:2], "--out", str(best_run))
    assert over.returncode == 2 and "is a run" in over.stderr


def test_runs_that_cannot_be_compared_are_refused(best_run: Path, talking_cache: Path, tmp_path: Path) -> None:
    shutil.copytree(best_run, tmp_path / "other")
    manifest = json.loads((tmp_path / "other" / "manifest.json").read_text())
    manifest["trained"], manifest["settings"]["character_hash"] = "grpo", "another"
    (tmp_path / "other" / "manifest.json").write_text(json.dumps(manifest))
    done = charactery(talking_cache, "frontier", str(best_run), str(tmp_path / "other"), "--out", str(tmp_path / "f"))
    assert done.returncode == 2 and "has the character 'another'" in done.stderr and "Traceback" not in done.stderr
