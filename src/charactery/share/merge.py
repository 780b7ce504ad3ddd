"""An adapter added to the weights for good: a folder that transformers loads, or a GGUF file."""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerBase

from charactery import __version__
from charactery.errors import CharacteryError
from charactery.models.local import Adapter, LocalModel
from charactery.models.speaker import Models
from charactery.models.subject import Subject
from charactery.runs import disk_error, file_digest, remove_partial, write_json
from charactery.share.gguf_file import write_gguf

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def merge(subject: Subject, to: Path, models: Models, dtype: str | None = None) -> Path:
    """Write a subject's weights, its adapter added at its strength, to a new folder or .gguf file. Returns `to`.

    `dtype` is one of DTYPES; without it a folder is in float32, a file in float16. The sum is made in float32. Raises
    CharacteryError where `to` is there already, where the subject is more than weights, or where its weights or its
    tokenizer have no place in GGUF.
    """
    if os.path.lexists(to):
        raise CharacteryError("is there already; nothing was written. Give --to another name", to)
    if dtype is not None and dtype not in DTYPES:
        raise CharacteryError(f"no number type {dtype!r}; give one of {', '.join(DTYPES)}")
    network, tokenizer = merged(subject, models)
    if to.suffix == ".gguf":
        kind = dtype or "float16"
        _whole_or_not(to, lambda part: write_gguf(network, tokenizer, part, Path(subject.text).name, kind))
        return to

    def save(part: Path) -> None:
        network.to(DTYPES[dtype or "float32"]).save_pretrained(part)
        tokenizer.save_pretrained(part)
        write_json(part / "charactery.json", _origin(subject, models))

    _whole_or_not(to, save)
    return to


def merged(subject: Subject, models: Models) -> tuple[Any, PreTrainedTokenizerBase]:
    """The network in float32 with the adapter in its weights, and its tokenizer. Raises as `merge` does."""
    if not subject.here:
        raise CharacteryError(f"{subject.text!r} answers elsewhere; only weights on this machine can be merged")
    if subject.best_of:
        raise CharacteryError(f"{subject.text!r} chooses among the plain model's answers; there is no adapter to merge")
    if subject.character is not None:
        raise CharacteryError(
            f"{subject.text!r} has a character in its prompt, and a prompt is no weights. Merge without "
            f"+{subject.character.id}, and give the prompt to what answers (`charactery show` prints it)"
        )
    local = LocalModel.load(models.folder(subject), subject.base, "cpu", torch.float32)
    if subject.adapter is None or subject.strength == 0:
        return local.model, local.tokenizer
    with local.adapted(Adapter(subject.adapter, subject.strength)) as worn:
        try:
            network = worn.merge_and_unload(safe_merge=True)
        except ValueError as error:
            raise CharacteryError(f"cannot be merged: {str(error).splitlines()[0]}", subject.adapter) from error
    return network, local.tokenizer


def _origin(subject: Subject, models: Models) -> dict[str, Any]:
    """What a merged folder was made of."""
    weights = subject.adapter / "adapter_model.safetensors" if subject.adapter else None
    return {
        "charactery": __version__, "base": subject.base if subject.kind in ("embedded", "hub") else None,
        "base_hash": models.base_hash(subject), "adapter": file_digest(weights) if weights else None,
        "strength": subject.strength,
    }  # fmt: skip


def _whole_or_not(to: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file or folder under another name, which becomes `to` once it is whole."""
    part = to.with_name(f".{to.name}.{os.getpid()}.part")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        part.rename(to)
    except OSError as error:
        raise disk_error(error, to) from error
    except SafetensorError as error:  # what the system said, in words alone
        if not (said := re.search(r"os error (\d+)", str(error))):
            raise
        raise disk_error(OSError(int(said[1]), os.strerror(int(said[1]))), to) from error
    finally:
        remove_partial(part)
        with suppress(OSError):
            part.unlink()
