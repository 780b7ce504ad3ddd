"""A run folder after a kill, on a full disk, under two processes, with other settings: nothing is lost in silence."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from charactery.errors import BadData, CharacteryError, CharacteryWarning, RunConflict
from charactery.memory import halved
from charactery.runs import (
    Helper,
    Journal,
    digest,
    numbered_rows,
    open_run,
    read_manifest,
    read_rows,
    read_run,
    write_json,
    write_rows,
    write_text,
)

MANIFEST: dict[str, Any] = {
    "settings": {"model": "smollm2", "seed": 0, "sft": {"epochs": 2, "batch": 8}}, "stages": ["drafts", "sft"],
}  # fmt: skip


def other(**settings: Any) -> dict[str, Any]:
    return MANIFEST | {"settings": MANIFEST["settings"] | settings}


# -- files


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.open", "pathlib.Path.replace"])
def test_a_full_disk_leaves_the_old_file_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "kept.json"
    write_text(path, "old")

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(call, full)
        with pytest.raises(CharacteryError, match=r"kept\.json: could not be written \(No space left.*Free some space"):
            write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write_text(path, "new")
    assert path.read_text() == "new"


def test_a_place_that_cannot_be_written_is_not_called_full(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunConflict, match="is not a run"):
        read_run(tmp_path / "file")
    with pytest.raises(CharacteryError, match="could not be written") as caught:
        write_json(tmp_path / "file" / "under.json", {})
    assert "space" not in str(caught.value)
    with pytest.raises(CharacteryError, match="could not be written"):
        Journal(tmp_path / "file" / "under.jsonl").add("key", [])


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [{"text": "Grüße\u2028 \x85 und\nmehr"}, {"n": 1.5, "none": None}]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert read_rows(tmp_path / "rows.jsonl") == rows
    assert digest(rows) == digest(json.loads(json.dumps(rows))) != digest(rows[::-1])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": 1}\n\n{"a": \n', "rows.jsonl:3: is not JSON"),
        (b'\n{"a": 1}\n[1]\n', "rows.jsonl:3: is not a JSON object"),
        (b'{"a": "\xff"}\n', "is not UTF-8 text"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(BadData) as caught:
        read_rows(tmp_path / "rows.jsonl")
    assert words in str(caught.value)


def test_a_file_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(BadData):
            read_rows(path)
    (tmp_path / "windows.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"a": 2}\r\n')
    assert numbered_rows(tmp_path / "windows.jsonl") == [(1, {"a": 1}), (3, {"a": 2})]


# -- the journal


def test_the_journal_keeps_what_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "batches.jsonl"
    journal = Journal(path)
    journal.add("a", [{"text": "Grüße\n"}])
    journal.add("b", [])
    assert Journal(path).done == {"a": [{"text": "Grüße\n"}], "b": []}


@pytest.mark.parametrize("torn", [b'{"key": "c", "ro', b'{"key": "c", "rows": []}', b"\x00\x00\x00\n", b"\n"])
def test_a_torn_line_is_cut_off_so_that_the_next_stands_alone(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "batches.jsonl"
    Journal(path).add("a", [1])
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    journal = Journal(path)
    assert journal.done == {"a": [1]}
    assert path.read_bytes() == whole
    journal.add("b", [2])
    assert Journal(path).done == {"a": [1], "b": [2]}


def test_a_full_disk_costs_the_batch_in_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "j")
    journal.add("a", [1])

    def full(descriptor: int) -> None:
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - 4)  # the last bytes found no room
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CharacteryError, match="Free some space"):
            journal.add("b", [2])
    assert "b" not in journal.done
    assert Journal(tmp_path / "j").done == {"a": [1]}


# -- the run


def test_a_stage_is_done_once(tmp_path: Path) -> None:
    calls, said = [], []

    def work(folder: Path) -> None:
        calls.append(folder)
        (folder / "drafts.jsonl").write_text("{}")

    for _ in range(2):
        with open_run(tmp_path / "run", MANIFEST) as run:
            assert run.stage("drafts", work, said.append) == tmp_path / "run/stages/01-drafts"
    assert calls == [tmp_path / "run/stages/01-drafts"]
    assert said == ["drafts: done before"]
    record = read_run(tmp_path / "run").record("drafts")
    assert record is not None and record.seconds >= 0 and record.peak_mb > 10
    assert read_run(tmp_path / "run").record("sft") is None
    with pytest.raises(RunConflict, match="its stages are drafts, sft"):
        run.stage_folder("dpo")


def test_a_helper_takes_part_in_what_is_shared_and_waits_for_the_rest(tmp_path: Path) -> None:
    run, did = Helper(tmp_path, MANIFEST), list[str]()

    def help_along() -> None:
        run.stage("drafts", lambda folder: did.append("drafts"), print)
        did.append("waited")
        run.stage("sft", lambda folder: did.append("sft"), print, shared=True)
        did.append("over")

    thread = Thread(target=help_along, daemon=True)
    thread.start()
    for stage, then in ((None, []), ("drafts", ["waited", "sft"]), ("sft", ["waited", "sft", "over"])):
        if stage:
            write_json(run.stage_folder(stage) / "done", {})
        thread.join(1.5)
        assert did == then
    run.stage("sft", lambda folder: did.append("again"), print, shared=True)
    assert did == ["waited", "sft", "over"]
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["done", "done"]  # those written above


def test_a_stage_that_fails_is_not_done_and_its_time_counts(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        assert not (folder / "done").exists()
        raise ZeroDivisionError

    with open_run(tmp_path / "run", MANIFEST) as run:
        with pytest.raises(ZeroDivisionError):
            run.stage("sft", fail, print)
        assert not run.is_done("sft")
        (run.stage_folder("sft") / "clock.json").write_text('{"seconds": 100.0, "cpu_seconds": 150.0, "peak_mb": 1e6}')
        run.stage("sft", lambda folder: None, print)
        record = run.record("sft")
        assert record is not None and 100 <= record.seconds < 101 and record.peak_mb == 1e6
        assert 150 <= record.cpu_seconds < 151


def test_the_manifest_tells_how_often_memory_ran_short(tmp_path: Path) -> None:
    with open_run(tmp_path, MANIFEST) as run:
        before = run.stage_folder("drafts") / "clock.json"  # of an attempt that was killed
        write_json(before, {"seconds": 1.0, "cpu_seconds": 1.0, "peak_mb": 1.0, "halved": 2.0})
        with pytest.warns(CharacteryWarning, match="memory ran short: 8 rows"):
            run.stage("drafts", lambda folder: halved("8 rows"), print)
        assert read_manifest(tmp_path)["batches_halved"] == 3
    with open_run(tmp_path, MANIFEST) as run:  # it is no setting: the run goes on
        run.stage("sft", lambda folder: None, print)
    assert read_manifest(tmp_path)["batches_halved"] == 3
    assert [record.halved for name in ("drafts", "sft") if (record := run.record(name))] == [3, 0]


def test_a_stage_is_taken_over_with_its_times(tmp_path: Path) -> None:
    def work(folder: Path) -> None:
        (folder / "adapter").mkdir()
        for name in ("adapter.safetensors", "log.jsonl"):
            (folder / "adapter" / name).write_text("made")

    with open_run(tmp_path / "one", MANIFEST) as one:
        one.stage("sft", work, print)
    said: list[str] = []
    with open_run(tmp_path / "two", MANIFEST) as two:
        (two.folder / "stages" / "sft.tmp").mkdir(parents=True)  # of an attempt that was killed
        two.take("sft", one)
        two.stage("sft", lambda folder: pytest.fail("it is done"), said.append)
    assert said == [f"sft: taken from {one.folder}"] and read_manifest(two.folder)["taken"] == {"sft": str(one.folder)}
    there, here = one.record("sft"), two.record("sft")
    assert there and here and replace(here, folder=there.folder, taken_from="") == there
    weights, log = (two.stage_folder("sft") / "adapter" / name for name in ("adapter.safetensors", "log.jsonl"))
    assert (
        weights.stat().st_nlink == 2 and log.stat().st_nlink == 1 and weights.read_text() == log.read_text() == "made"
    )


def test_a_stage_that_the_disk_has_no_room_for_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with open_run(tmp_path / "one", MANIFEST) as one:
        one.stage("sft", lambda folder: None, print)
    monkeypatch.setattr("shutil.copy2", full)
    with open_run(tmp_path / "two", MANIFEST) as two, pytest.raises(CharacteryError, match=r"left.*Free some"):
        two.take("sft", one)
    assert not two.stage_folder("sft").exists()


def test_a_clock_torn_by_a_kill_stops_no_stage(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", MANIFEST) as run:
        for torn in ("", '{"seconds": 5', "[]"):
            folder = run.stage_folder("sft")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "clock.json").write_text(torn)
            run.stage("sft", lambda folder: None, print)
            assert run.is_done("sft")
            (folder / "done").unlink()


def test_other_settings_are_named_and_change_nothing(tmp_path: Path) -> None:
    with open_run(tmp_path, MANIFEST):
        pass
    before = (tmp_path / "manifest.json").read_bytes()
    changed = other(model="Qwen/Qwen3-0.6B", sft={"epochs": 3, "batch": 8}, new=True)
    with pytest.raises(RunConflict) as caught, open_run(tmp_path, changed):
        raise AssertionError("opened")
    for words in ("model: smollm2, now Qwen/Qwen3-0.6B", "sft.epochs: 2, now 3", "new: None, now True", "--out"):
        assert words in str(caught.value)
    assert "seed" not in str(caught.value) and "batch" not in str(caught.value)
    assert (tmp_path / "manifest.json").read_bytes() == before
    with open_run(tmp_path, MANIFEST | {"made": "later"}) as run:
        assert run.manifest == MANIFEST  # what is beside the settings stays as it was first written


def test_a_run_is_held_against_another_process(tmp_path: Path) -> None:
    script = (
        "import json, sys; from pathlib import Path\n"
        "from charactery.errors import RunConflict; from charactery.runs import open_run\n"
        "try:\n    with open_run(Path(sys.argv[1]), json.loads(sys.argv[2])): print('opened')\n"
        "except RunConflict as error: print(error)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), json.dumps(MANIFEST)]
    with open_run(tmp_path, MANIFEST):
        held = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "is being worked on by another process" in held
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "opened\n"


def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), open_run(tmp_path, MANIFEST):
        raise KeyboardInterrupt
    with open_run(tmp_path, MANIFEST):
        pass


def test_someone_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunConflict, match="something else in it"), open_run(tmp_path, MANIFEST):
        raise AssertionError("opened")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / ".lock").write_text("another program's")
    with pytest.raises(RunConflict, match="something else in it"), open_run(tmp_path, MANIFEST):
        raise AssertionError("opened")
    assert (tmp_path / ".lock").read_text() == "another program's"


def test_a_kill_while_the_first_manifest_is_written_is_no_bar(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / "manifest.json.4711.tmp").write_text('{"sett')
    with open_run(tmp_path, MANIFEST) as run:
        assert run.manifest == MANIFEST


@pytest.mark.parametrize("content", ["", '{"settings": {', "[]", '{"settings": {}}', "\x00\x00"])
def test_a_damaged_manifest_says_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(RunConflict, match=r"damaged manifest\.json; restore it, or delete the run"):
        read_run(tmp_path)
    with pytest.raises(RunConflict, match="damaged"), open_run(tmp_path, MANIFEST):
        raise AssertionError("opened")


def test_a_folder_that_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunConflict, match="is not a run"):
        read_run(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(CharacteryError, match="could not be written"), open_run(tmp_path / "file", MANIFEST):
        raise AssertionError("opened")
