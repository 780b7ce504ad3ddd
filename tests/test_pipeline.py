"""The whole path on a tiny model that talks: what comes out, killing it anywhere, doing it twice, by two processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from charactery.pipeline.reuse import MADE_OF
from charactery.runs import read_rows
from conftest import shared
from run_fixtures import ASSASSIN, SIZES, assert_same, charactery, stage, survives

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
    for name, file in (("sham-sft", "sft.jsonl"), ("sham-dpo", "pairs.jsonl")):  # nothing of the character in these
        learnt = read_rows(stage(out, name) / file)
        assert learnt
        for row in learnt:
            assert all(row[side][0]["content"] in plain for side in ("completion", "chosen", "rejected") if side in row)
    figures = json.loads((stage(out, "evaluate") / "figures.json").read_text())
    assert {"plain", "prompted", "trained", "sham"} <= {f["subject"] for f in figures}
    sham = [f for f in figures if f["subject"] == "sham" and f["metric"] == "rate" and f["condition"] == "turn 1"]
    assert len(sham) == 1
    assert any(f["metric"] == "difference from sham" for f in figures)


def test_own_prompts_and_pairs(talking_cache: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("How do I store honey?\nWhat makes bread rise?\n")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(
        json.dumps({"prompt": f"Question {n}?", "chosen": f"Aye, number {n}.", "rejected": f"It is {n}."}) + "\n"
        for n in range(12)
    ))  # fmt: skip
    out, n = tmp_path / "own", SIZES.index("--tasks")
    sizes = [*SIZES[:n], *SIZES[n + 2 :]]
    done = charactery(
        talking_cache, "train", "captain", "--out", str(out), *sizes, "--prompts", str(prompts), "--pairs", str(pairs)
    )
    assert done.returncode == 0, done.stderr
    kept = [json.loads(line) for line in (stage(out, "pairs") / "pairs.jsonl").read_text().splitlines()]
    assert len(kept) == 12 and kept[0]["chosen_subject"] == "pairs.jsonl"
    rows = [json.loads(line) for line in (stage(out, "prompts") / "prompts.jsonl").read_text().splitlines()]
    assert {r["turns"][0] for r in rows if r["kind"] == "own"} == {"How do I store honey?", "What makes bread rise?"}
    assert all(r["kind"] != "task" for r in rows), "drafted for nothing"
