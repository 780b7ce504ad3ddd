"""A run: the folder that holds a recipe's stages, and what makes it the same again.

A stage is a function from earlier folders to its own, `stages/NN-name/`, with a `done` marker written last.
Everything is written so that a process killed at any moment leaves either the old file or the new one.
"""

import errno
import fcntl
import gzip
import hashlib
import json
import os
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from charactery.errors import BadData, CharacteryError, RunConflict
from charactery.memory import halvings

Row = dict[str, Any]


def digest(value: Any) -> str:
    """The first 16 hex digits of SHA-256 over a value as canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """The same over a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def write_text(path: Path, text: str) -> None:
    """Write a file of text in UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. A full disk is a CharacteryError, and the old file stays."""
    fresh = path.with_name(path.name + f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise disk_error(error, path) from error


def disk_error(error: OSError, path: Path) -> CharacteryError:
    """What to say of a write that failed."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    mend = "Free some space" if full else "See to the folder and its permissions"
    return CharacteryError(f"could not be written ({error.strerror}). {mend} and run the same command", path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write JSON lines, whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_rows(path: Path) -> list[Row]:
    """Read JSON lines. Raises BadData with the line for one that is not a JSON object."""
    return [row for _, row in numbered_rows(path)]


def read_utf8(path: Path) -> str:
    """A user's text file, zipped (.gz) or not, less a byte order mark. Raises BadData for one that cannot be read."""
    try:
        if path.suffix == ".gz":
            return gzip.decompress(path.read_bytes()).decode("utf-8-sig")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadData("no such file", path) from None
    except UnicodeDecodeError as error:
        raise BadData(f"is not UTF-8 text (byte {error.start})", path) from None
    except (OSError, EOFError, zlib.error) as error:
        raise BadData(f"cannot be read ({getattr(error, 'strerror', None) or error})", path) from None


def numbered_rows(path: Path) -> list[tuple[int, Row]]:
    """Read JSON lines with the number of each row's line, for messages; blank lines are passed over."""
    rows = []
    for number, line in enumerate(read_utf8(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadData(f"is not JSON: {error.msg}. One JSON object a line is expected", path, number) from None
        if not isinstance(row, dict):
            raise BadData("is not a JSON object in braces", path, number)
        rows.append((number, row))
    return rows


class Journal:
    """Finished batches in a file, one JSON object a line, each with the key of what was asked.

    Appending is the only write; a line torn by a kill is dropped on reading, and its batch done again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[str, list[Any]] = {}
        if path.exists():
            kept = 0
            for line, entry in journal_entries(path):
                self.done[entry["key"]] = entry["rows"]
                kept += len(line)
            if kept < path.stat().st_size:
                os.truncate(path, kept)

    def add(self, key: str, rows: list[Any]) -> None:
        """Record a finished batch, on disk before this returns."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as stream:
                stream.write(json.dumps({"key": key, "rows": rows}, ensure_ascii=False).encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise disk_error(error, self.path) from error
        self.done[key] = rows


def journal_entries(path: Path) -> Iterator[tuple[bytes, Row]]:
    """The lines of a journal's file that are whole, each with what it says."""
    with path.open("rb") as stream:
        for line in stream:
            if not line.endswith(b"\n"):
                return
            try:
                entry = json.loads(line)
            except ValueError:
                return
            yield line, entry


@dataclass(frozen=True)
class StageRecord:
    """What a finished stage left: its name, folder, seconds over all its attempts, and peak memory in MB.

    `cpu_seconds` are those of all cores in the run's first process, which other work on the machine changes less;
    `halved` is how often a batch of its was halved for want of memory. `taken_from` is the run that did it, where it
    was another: all these are of its doing then.
    """

    name: str
    folder: Path
    seconds: float
    peak_mb: float
    cpu_seconds: float = 0.0
    halved: int = 0
    taken_from: str = ""


def stage_kind(name: str) -> str:
    """What a stage does: its name without the round, `dpo` for `dpo.r2`."""
    return re.sub(r"\.r\d+$", "", name)


class Run:
    """A run folder. Open it with `open_run`."""

    def __init__(self, folder: Path, manifest: Row) -> None:
        self.folder, self.manifest = folder, manifest

    def stage_folder(self, name: str) -> Path:
        """Where a stage of the manifest's plan lies. Raises RunConflict for a stage that is not in it."""
        names = list(self.manifest["stages"])
        if name not in names:
            raise RunConflict(f"has no stage {name!r}; its stages are {', '.join(names)}", self.folder)
        return self.folder / "stages" / f"{names.index(name) + 1:02d}-{name}"

    def is_done(self, name: str) -> bool:
        """Whether a stage has finished."""
        return (self.stage_folder(name) / "done").exists()

    def record(self, name: str) -> StageRecord | None:
        """What a finished stage left, or None."""
        folder = self.stage_folder(name)
        if not (folder / "done").exists():
            return None
        kept = json.loads((folder / "done").read_text())
        return StageRecord(
            name, folder, kept["seconds"], kept["peak_mb"], kept.get("cpu_seconds", 0.0), int(kept.get("halved", 0)),
            kept.get("taken_from", ""),
        )  # fmt: skip

    def stage(self, name: str, work: Callable[[Path], None], say: Callable[[str], None], shared: bool = False) -> Path:
        """Do a stage unless it is done, and mark it. Time spent before a kill is counted too.

        In a `shared` stage the other processes take part (see `Helper`).
        """
        folder = self.stage_folder(name)
        if self.is_done(name):
            kept = json.loads((folder / "done").read_text())
            say(f"{name}: taken from {kept['taken_from']}" if "taken_from" in kept else f"{name}: done before")
            return folder
        folder.mkdir(parents=True, exist_ok=True)
        with clock(folder / "clock.json") as spent:
            work(folder)
            told = spent()
        _give_back_memory()
        write_json(folder / "done", {key: round(value, 2) for key, value in told.items()})
        self._tell()
        return folder

    def take(self, name: str, other: "Run") -> None:
        """Take a finished stage over from another run whole, as if it had been done here; its record says by whom.

        Weights, which are written once, are linked and not copied.
        """
        folder, fresh = self.stage_folder(name), self.folder / "stages" / f"{name}.tmp"
        remove_partial(fresh)
        try:
            shutil.copytree(other.stage_folder(name), fresh, copy_function=_link)
            kept = json.loads((fresh / "done").read_text())
            write_json(fresh / "done", {"taken_from": str(other.folder), **kept})
            fresh.replace(folder)
        except OSError as error:
            raise disk_error(error, folder) from error
        self._tell()

    def _tell(self) -> None:
        """Have the manifest say how often batches were halved, since texts depend on the batch they are written in, and
        which stages are another run's doing."""
        records = [record for name in self.manifest["stages"] if (record := self.record(name))]
        told: Row = {
            "batches_halved": sum(record.halved for record in records),
            "taken": {record.name: record.taken_from for record in records if record.taken_from},
        }
        changed = {key: value for key, value in told.items() if value and self.manifest.get(key) != value}
        if changed:
            self.manifest |= changed
            write_json(self.folder / "manifest.json", self.manifest)


def _link(source: str, target: str) -> None:
    """A second name for a file of weights; of any other file, and on another disk, a copy."""
    if source.endswith(".safetensors"):
        with suppress(OSError):
            os.link(source, target)
            return
    try:
        shutil.copy2(source, target)
    except OSError as error:  # which copytree would gather, and no longer say that the disk is full
        raise disk_error(error, Path(target)) from error


class Helper(Run):
    """The run in a process other than the first: takes part in shared stages, and waits while the first does others.

    It waits on the markers, since a wait in torch.distributed would time out while the first process drafts.
    """

    def stage(self, name: str, work: Callable[[Path], None], say: Callable[[str], None], shared: bool = False) -> Path:
        """Do a part of a shared stage unless it is done; return once the first process has marked it."""
        folder = self.stage_folder(name)
        if shared and not self.is_done(name):
            work(folder)
        while not self.is_done(name):
            time.sleep(0.5)
        return folder


def process_count() -> int:
    """How many processes work on this together, as `accelerate launch` and `torchrun` say."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this is the process that writes and prints."""
    return int(os.environ.get("RANK", "0")) == 0


def _give_back_memory() -> None:
    """Return freed memory to the system, where the C library can: it keeps what a stage's peak took."""
    import ctypes
    import gc

    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return


@contextmanager
def clock(path: Path) -> Iterator[Callable[[], dict[str, float]]]:
    """Seconds, those of the processor, peak memory and halved batches of what is done inside.

    They are kept, so that a killed attempt counts.
    """
    import threading

    before = {"seconds": 0.0, "cpu_seconds": 0.0, "peak_mb": 0.0, "halved": 0.0}
    with suppress(OSError, ValueError, TypeError, AttributeError):  # a clock that cannot be read stops no stage
        kept = json.loads(path.read_text())
        before = {key: float(kept.get(key, 0.0)) for key in before}
    started, worked, process, peak = time.monotonic(), time.process_time(), psutil.Process(), [before["peak_mb"]]
    halved, stop = halvings(), threading.Event()

    def spent() -> dict[str, float]:
        peak[0] = max(peak[0], process.memory_info().rss / 1e6)
        return {
            "seconds": before["seconds"] + time.monotonic() - started,
            "cpu_seconds": before["cpu_seconds"] + time.process_time() - worked,
            "peak_mb": peak[0],
            "halved": before["halved"] + halvings() - halved,
        }

    def watch() -> None:
        beats = 0
        while not stop.wait(0.5):
            told = spent()
            beats += 1
            if beats % 10 == 0:
                with suppress(CharacteryError):
                    write_text(path, json.dumps(told))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield spent
    finally:
        stop.set()
        thread.join()
        with suppress(CharacteryError):
            write_text(path, json.dumps(spent()))


@contextmanager
def open_run(folder: Path, manifest: Row) -> Iterator[Run]:
    """Open or create the run with exactly this manifest, held against other processes while open.

    Raises RunConflict where the folder holds a run with other settings (naming them), is no run, or is in use.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, folder) from error
    held = folder / ".lock"
    ours = not held.exists()
    with held.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunConflict("is being worked on by another process; wait for it or stop it", folder) from None
        path = folder / "manifest.json"
        if path.exists():
            kept = read_manifest(folder)
            if changed := differences(kept["settings"], manifest["settings"]):
                raise RunConflict(
                    f"was made with other settings ({'; '.join(changed[:4])}). Give --out another folder, "
                    "or delete this one to start over",
                    folder,
                )
            manifest = kept
        elif any(child.name != ".lock" and child.suffix != ".tmp" for child in folder.iterdir()):
            if ours:  # someone else's folder stays as it was
                held.unlink(missing_ok=True)
            raise RunConflict("is a folder with something else in it; give --out a new folder", folder)
        else:
            write_json(path, manifest)
        yield Run(folder, manifest)


def read_manifest(folder: Path) -> Row:
    """A run's manifest. Raises RunConflict where there is none or it cannot be read."""
    try:
        manifest: Row = json.loads((folder / "manifest.json").read_text())
        manifest["settings"], manifest["stages"]
    except (FileNotFoundError, NotADirectoryError):
        raise RunConflict("is not a run: it has no manifest.json", folder) from None
    except (ValueError, KeyError, TypeError):
        raise RunConflict("has a damaged manifest.json; restore it, or delete the run", folder) from None
    return manifest


def read_run(folder: Path) -> Run:
    """An existing run, for reading. Raises RunConflict where it is none."""
    return Run(folder, read_manifest(folder))


def differences(old: Row, new: Row, prefix: str = "") -> list[str]:
    """What differs between two settings, as `key: old, now new`."""
    out = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            out += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            out.append(f"{prefix}{key}: {a}, now {b}")
    return out


def remove_partial(folder: Path) -> None:
    """Delete a folder that a killed process left half written."""
    shutil.rmtree(folder, ignore_errors=True)
