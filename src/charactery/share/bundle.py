"""A bundle on disk: a zip file or a folder, with an index of every file's size and SHA-256.

Unpacking trusts nothing: only files of the index are read, each no further than its size, and none is kept whose hash
is another. What it holds and where: docs/bundles.md.
"""

import hashlib
import json
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from charactery.errors import BadData
from charactery.runs import Row, disk_error, write_json

INDEX, FORMAT, VERSION = "bundle.json", "charactery-bundle", 1
MAX_INDEX = 2_000_000  # bytes
MAX_FILES = 2000
MAX_BYTES = 32 * 10**9  # of all files together; a merged model of 13 billion weights in float16 goes in
MAX_ENTRIES = 10_000  # of a zip file, listed in the index or not
RATIO, FREE = 200, 10**7  # an entry above 10 MB is not packed smaller than one in 200, but in a trap
BLOCK = 1 << 20
STORED = (".safetensors", ".gguf", ".png")  # these do not become smaller
AGAIN = "Nothing of it was kept; get the bundle again"


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_index(folder: Path, facts: Row) -> Row:
    """Write the index of all files in a folder, with `facts` before them, and return it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = {p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in files}
    index = {"format": FORMAT, "version": VERSION, **facts, "files": listed}
    write_json(folder / INDEX, index)
    return index


def write_zip(folder: Path, out: Path) -> None:
    """Pack a bundle's folder, its index first. The same files give the same bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(files, key=lambda path: path != folder / INDEX):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.compress_type = zipfile.ZIP_STORED if path.suffix in STORED else zipfile.ZIP_DEFLATED
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(entry, "w") as packed:
                shutil.copyfileobj(source, packed, BLOCK)


class _Source(Protocol):
    """What files are read from."""

    def size(self, name: str) -> int | None:
        """A file's size, None where there is none."""

    def open(self, name: str) -> IO[bytes]:
        """A file, to be read."""


class _Folder:
    def __init__(self, root: Path) -> None:
        self.root = root

    def size(self, name: str) -> int | None:
        path = self.root
        for part in PurePosixPath(name).parts:
            path = path / part
            if path.is_symlink():
                raise BadData(
                    f"{name} is a link, which a bundle has none of. Copy the files themselves (from a hub: `hf "
                    "download REPO --local-dir DIR`)",
                    self.root,
                )
        return path.stat().st_size if path.is_file() else None

    def open(self, name: str) -> IO[bytes]:
        return (self.root / name).open("rb")


class _Zip:
    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        entries = archive.infolist()
        if len(entries) > MAX_ENTRIES:
            raise BadData(f"holds {len(entries):,} files; no bundle holds more than {MAX_ENTRIES:,}", path)
        for entry in entries:
            if _leads_out(entry.orig_filename):
                raise BadData(f"holds a file named {entry.orig_filename!r}, which leads out of the bundle", path)
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise BadData(f"{entry.filename} is a link, which a bundle has none of", path)
            if entry.flag_bits & 1:
                raise BadData(f"{entry.filename} is encrypted; ask for a bundle without a password", path)
            if entry.file_size > FREE and entry.file_size > RATIO * entry.compress_size:
                raise BadData(
                    f"{entry.filename} unpacks from {entry.compress_size:,} to {entry.file_size:,} bytes, as no file "
                    "of a bundle does",
                    path,
                )
        names = [entry.filename for entry in entries]
        if len(names) > len({*names}):
            twice = next(name for n, name in enumerate(names) if name in names[:n])
            raise BadData(f"holds {twice} twice", path)
        # a folder that was packed by hand is one level further down
        found = min((name for name in names if name.rpartition("/")[2] == INDEX), key=len, default=INDEX)
        self.inside = found.removesuffix(INDEX) if found.count("/") < 2 else ""
        self.sizes = {entry.filename: entry.file_size for entry in entries if not entry.is_dir()}

    def size(self, name: str) -> int | None:
        return self.sizes.get(self.inside + name)

    def open(self, name: str) -> IO[bytes]:
        return self.archive.open(self.inside + name)


def _leads_out(name: str) -> bool:
    """Whether a name is more than folders and a file below the bundle, on any system."""
    parts = name.removesuffix("/").split("/")
    return bool(re.search(r"[\\:\x00-\x1f]", name)) or any(part in ("", ".", "..") for part in parts)


@contextmanager
def _opened(bundle: Path) -> Iterator[_Source]:
    if bundle.is_dir():
        yield _Folder(bundle)
        return
    try:
        archive = zipfile.ZipFile(bundle)
    except FileNotFoundError:
        raise BadData("no such file or folder", bundle) from None
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BadData(f"is no zip file, or only a part of one ({error}). {AGAIN}", bundle) from None
    with archive:
        yield _Zip(bundle, archive)


def unpack(bundle: Path, to: Path) -> Row:
    """Copy a bundle's files into the folder `to`, each checked, and return its index.

    Raises BadData, naming the file, where one is missing, damaged or too large, where a name leads out of the bundle,
    where something is a link, and where there is no index; CharacteryError where the disk is full.
    """
    with _opened(bundle) as source:
        index = _index(source, bundle)
        total = sum(file["bytes"] for file in index["files"].values())
        if total > shutil.disk_usage(to).free:
            raise BadData(f"unpacks to {total / 1e9:.1f} GB, and there is less free at {to.parent}", bundle)
        for name, kept in index["files"].items():
            _copy(source, name, kept, to / name, bundle)
    return index


def unpack_all(bundle: Path, to: Path) -> Path:
    """A bundle of ours as a folder again, its index with it; returns `to`."""
    write_json(to / INDEX, unpack(bundle, to))
    return to


def _index(source: _Source, bundle: Path) -> Row:
    """The index, once everything in it is known to be of its kind."""
    size = source.size(INDEX)
    if size is None:
        raise BadData(f"has no {INDEX}; it is no bundle of `charactery share`", bundle)
    if size > MAX_INDEX:
        raise BadData(f"has a {INDEX} of {size:,} bytes, as no bundle has", bundle)
    try:
        with source.open(INDEX) as stream:
            index = json.loads(stream.read(MAX_INDEX + 1))
        version = index["version"] if index["format"] == FORMAT else None
        files = {str(name): (file["bytes"], file["sha256"]) for name, file in index["files"].items()}
        whole = isinstance(version, int) and all(_sized(*file) for file in files.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, zlib.error, EOFError, zipfile.BadZipFile):
        whole = False
    if not whole:
        raise BadData(f"has a {INDEX} that is damaged or of another program. {AGAIN}", bundle)
    assert isinstance(version, int)
    if version > VERSION:
        raise BadData(f"is a bundle of version {version}; this Charactery reads {VERSION}. Install a newer one", bundle)
    for name in files:
        if _leads_out(name) or name == INDEX or len(name) > 200:
            raise BadData(f"lists a file named {name!r}, which leads out of the bundle", bundle)
    total = sum(size for size, _ in files.values())
    if len(files) > MAX_FILES or total > MAX_BYTES:
        much = f"{len(files):,} files" if len(files) > MAX_FILES else f"{total / 1e9:.1f} GB"
        raise BadData(f"lists {much}; a bundle has at most {MAX_FILES:,} files and {MAX_BYTES / 1e9:.0f} GB", bundle)
    return dict(index)


def _sized(size: Any, digest: Any) -> bool:
    sound = isinstance(size, int) and size >= 0 and isinstance(digest, str)
    return sound and bool(re.fullmatch(r"[0-9a-f]{64}", digest))


def _copy(source: _Source, name: str, kept: Row, to: Path, bundle: Path) -> None:
    size = source.size(name)
    if size is None:
        raise BadData(f"{name} is missing from it. {AGAIN}", bundle)
    if size != kept["bytes"]:
        raise BadData(f"{name} is damaged: it has {size:,} bytes, not {kept['bytes']:,}. {AGAIN}", bundle)
    digest, left = hashlib.sha256(), size
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with source.open(name) as stream, to.open("xb") as out:
            while block := stream.read(min(BLOCK, left + 1)):
                left -= len(block)
                if left < 0:
                    break
                digest.update(block)
                out.write(block)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadData(f"{name} is damaged ({error}). {AGAIN}", bundle) from None
    except OSError as error:
        raise disk_error(error, to) from error
    if left or digest.hexdigest() != kept["sha256"]:
        raise BadData(f"{name} is damaged: its SHA-256 is not the one in {INDEX}. {AGAIN}", bundle)


def fresh_folder(beside: Path) -> Path:
    """A new folder to make something in that becomes `beside` once it is whole."""
    part = beside.with_name(f".{beside.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
    except OSError as error:
        raise disk_error(error, part) from error
    return part
