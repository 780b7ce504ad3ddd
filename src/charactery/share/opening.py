"""A bundle made into a run here, once every file of it is known to be whole."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from charactery.constitution import load_character
from charactery.constitution.character import slug
from charactery.errors import BadData, CharacteryError, ModelNotFound
from charactery.models.speaker import Models
from charactery.models.subject import BEST_OF, Subject, parse_subject
from charactery.models.weights import EMBEDDED, embedded_folder, is_here, tensors_hash
from charactery.runs import Row, disk_error, remove_partial, stage_kind, write_json
from charactery.share.bundle import INDEX, fresh_folder, sha256, unpack
from charactery.share.check import quick_check
from charactery.share.packing import MEASURED

ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
RUNS = Path("runs")
OTHER = r"(README|report|character)\.md|report\.html|report_files/[\w.-]+\.png|Modelfile|[\w-]+\.gguf|card\.png"
OTHER += r"|conversations\.json|run\.json"


@dataclass(frozen=True)
class Opened:
    """A bundle's run here, and what is to be known before its figures are believed."""

    folder: Path
    warnings: tuple[str, ...]


def open_bundle(
    bundle: Path, models: Models, to: Path | None = None, base: str | None = None, check: bool = True
) -> Opened:
    """Make a bundle, a zip file or a folder, a run that a Subject names; by default in `runs/` under its own name.

    `base` is a model to take in place of the one that the bundle names. A base with other tensors than the character
    was trained on is a warning, with what a quick check found unless `check` is False. Raises BadData for a bundle that
    is damaged or not to be trusted, with the file's name; CharacteryError where there is something already;
    ModelNotFound where the base has to be given.
    """
    part = fresh_folder((to or RUNS / "bundle").absolute())
    try:
        index = unpack(bundle, part)
        to = to or RUNS / (slug(str(index.get("name", ""))) or "character")
        if os.path.lexists(to):
            raise CharacteryError("is there already; nothing was written. Give --to another folder", to)
        manifest = _manifest(part, bundle, index)
        subject = _base(bundle, index, base)
        manifest["settings"]["model"] = _written(subject)
        _arrange(part, manifest)
        to.parent.mkdir(parents=True, exist_ok=True)
        part.rename(to)
    except OSError as error:
        raise disk_error(error, to or part) from error
    finally:
        remove_partial(part)
    return Opened(to, _warnings(subject, index, models, to if check else None))


def _manifest(part: Path, bundle: Path, index: Row) -> Row:
    """The manifest of the run that it becomes. Its only stages are those whose results came with it."""
    for name in (*ADAPTER, "character.md", "run.json"):
        if name not in index["files"]:
            raise BadData(f"lists no {name}, without which there is no character to use", bundle)
    for name in index["files"]:
        if name not in (*ADAPTER, *MEASURED) and not re.fullmatch(OTHER, name):
            raise BadData(f"lists {name}, which is no part of a bundle", bundle)
    try:
        kept, adapter = (json.loads((part / name).read_text(encoding="utf-8")) for name in ("run.json", ADAPTER[0]))
        settings, stage, done = kept["settings"], kept["trained"], kept["done"]
        whole = isinstance(settings["character"], str) and isinstance(done, dict)
        whole = whole and isinstance(adapter, dict) and isinstance(index["base"]["model"], str)
        whole = whole and bool(re.fullmatch(r"[a-z][a-z-]*(\.r\d{1,3})?", stage)) and stage_kind(stage) != BEST_OF
    except (ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise BadData(
            "has a run.json or adapter_config.json that cannot be used; ask who made it to share it again", bundle
        )
    if adapter.get("peft_type") != "LORA" or adapter.get("auto_mapping"):
        raise BadData(f"{ADAPTER[0]} is not that of a plain LoRA adapter; other kinds may run code", bundle)
    try:
        load_character(part / "character.md")
        with safe_open(part / ADAPTER[1], "pt") as file:
            file.keys()
    except (CharacteryError, SafetensorError) as error:
        what = "character.md" if isinstance(error, CharacteryError) else ADAPTER[1]
        said = error.message if isinstance(error, CharacteryError) else str(error)
        raise BadData(f"has a {what} that cannot be used: {said}", bundle) from None
    stages = [stage, *(["evaluate"] if "figures.json" in index["files"] else [])]
    facts = {key: kept.get(key) for key in ("base", "environment", "notes")}
    return {
        "settings": settings, "stages": stages, "trained": stage, "command": str(kept.get("command") or ""), **facts,
        "done": {name: _took(done.get(name)) for name in stages},
        "opened": {"from": bundle.name, "sha256": sha256(bundle / INDEX if bundle.is_dir() else bundle)},
    }  # fmt: skip


def _took(record: Any) -> dict[str, float]:
    record = record if isinstance(record, dict) else {}
    return {
        key: float(value) if isinstance(value := record.get(key), int | float) else 0.0
        for key in ("seconds", "peak_mb")
    }


def _base(bundle: Path, index: Row, given: str | None) -> Subject:
    """The plain model that the run is to be on. A name in a bundle may be an embedded model's or a hub's, no more."""
    name = str(index["base"]["model"])
    if given is not None:
        subject = parse_subject(given)
        if not subject.here or subject.run is not None or subject.character is not None:
            raise ModelNotFound(f"--base {given!r} is not a plain model on this machine")
        return subject
    if (name in EMBEDDED and name != "minilm") or re.fullmatch(r"hf:[\w.-]+(/[\w.-]+)?", name):
        return parse_subject(name)
    raise ModelNotFound(
        f"was trained on {name!r}, a model in a folder of its maker's. Give yours with --base FOLDER (its tensors' "
        f"hash should be {index['base'].get('hash')})",
        bundle,
    )


def _written(subject: Subject) -> str:
    """How a run's settings name a model."""
    if subject.kind in ("folder", "gguf"):
        return str(Path(subject.base).resolve())
    return f"hf:{subject.base}" if subject.kind == "hub" else subject.base


def _arrange(part: Path, manifest: Row) -> None:
    """The files of a bundle where a run has them."""
    done = manifest.pop("done")
    for n, name in enumerate(manifest["stages"], 1):
        stage = part / "stages" / f"{n:02d}-{name}"
        evaluated = name == "evaluate" and n > 1
        inside = stage if evaluated else stage / "adapter"
        inside.mkdir(parents=True)
        for file in MEASURED if evaluated else ADAPTER:
            if (part / file).is_file():
                (part / file).rename(inside / file)
        write_json(stage / "done", done[name])
    (part / "run.json").unlink()
    write_json(part / "manifest.json", manifest)


def _warnings(subject: Subject, index: Row, models: Models, run: Path | None) -> tuple[str, ...]:
    """What to say of the base at hand."""
    base, found = index["base"], _hash_here(subject, models)
    if found is None:
        return (
            f"the base {subject.base} is not on this machine yet, so its tensors' hash was not compared with the "
            f"bundle's ({base.get('hash')})",
        )
    if found != base.get("hash"):
        return (
            f"the base {subject.base} here has the tensors' hash {found}; the character was trained on {base['model']} "
            f"with {base.get('hash')}. It may answer otherwise, and the figures in its report are of that base",
            *([_checked(run, models)] if run else []),
        )
    return ()


def _checked(run: Path, models: Models) -> str:
    """What a quick check of a run on another base says."""
    try:
        found = quick_check(run, models)
    except (CharacteryError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"it could not be tried on this base ({(str(error).splitlines() or [type(error).__name__])[0]})"
    if found.value is None:
        return "no answers came with it to compare with those it gives here"
    less = found.high is not None and found.high < 0
    verdict = "less in character here than there" if less else "no clear sign that it is less in character"
    return f"its answers here less those that came with it, by the likelihood judge: {found}; {verdict}"


def _hash_here(subject: Subject, models: Models) -> str | None:
    """The hash of a base's tensors where they are on this machine; nothing is downloaded."""
    if subject.kind == "embedded":
        return tensors_hash(embedded_folder(subject.base)) if is_here(subject.base) else None
    if subject.kind != "hub":
        return models.base_hash(subject)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return tensors_hash(Path(snapshot_download(subject.base, local_files_only=True)))
    except (LocalEntryNotFoundError, HFValidationError, ModelNotFound):
        return None
