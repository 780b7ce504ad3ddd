"""A run as a bundle: adapter, constitution, model card, report, Modelfile, character card, what it said."""

import base64
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from charactery import __version__
from charactery.constitution import Character, load_character
from charactery.constitution.character import slug
from charactery.constitution.formats import card_picture, png
from charactery.constitution.formats.card import write_card
from charactery.constitution.formats.slots import PICTURE
from charactery.errors import CharacteryError
from charactery.models.chat import BASE_TEMPLATE
from charactery.models.speaker import Models
from charactery.models.subject import Subject, parse_subject, untrained
from charactery.report.source import read_source
from charactery.runs import Row, Run, disk_error, read_rows, read_run, remove_partial, write_json, write_text
from charactery.share.bundle import fresh_folder, write_index, write_zip
from charactery.share.gguf_file import adapter_lacking, lacking, write_adapter_gguf
from charactery.share.merge import merge
from charactery.share.model_card import model_card
from charactery.share.modelfile import modelfile

LEAVABLE = ("report", "figures", "conversations", "card", "modelfile")
HUB = {"smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}  # what an embedded model is made from
OLLAMA = {"smollm2": "smollm2:135m"}  # and what of it Ollama has
ADAPTER_GGUF = "adapter.gguf"
EXAMPLES = "examples.jsonl"
ELSEWHERE = "elsewhere"  # where the character is not to show
MEASURED = ("figures.json", "verdicts.json", EXAMPLES, "moved.json")


def share(folder: Path, out: Path, models: Models, without: Sequence[str] = (), gguf: bool = False) -> Path:
    """Write a run's bundle to a new .zip file or folder and return `out`. With `gguf` the merged model goes in.

    `without` names parts to leave out, of LEAVABLE. Raises CharacteryError where `out` is there already, where a part
    is not known, and where the run has no adapter that is finished.
    """
    if unknown := [part for part in without if part not in LEAVABLE]:
        raise CharacteryError(f"no part {unknown[0]!r} to leave out; there are {', '.join(LEAVABLE)}")
    if os.path.lexists(out):
        raise CharacteryError("is there already; nothing was written. Give --out another name", out)
    run = read_run(folder)
    subject = parse_subject(os.path.join(".", folder))
    if subject.adapter is None:
        raise CharacteryError(
            "has no adapter to share: it trained all weights, or none. `charactery merge` writes a model as a whole",
            folder,
        )
    part = fresh_folder(out)
    try:
        _fill(part, run, subject, models, without, gguf)
        if out.suffix == ".zip":
            packed = part / ".zip"
            try:
                write_zip(part, packed)
            except OSError as error:
                raise disk_error(error, out) from error
            packed.rename(out)
        else:
            part.rename(out)
    finally:
        remove_partial(part)
    return out


def _fill(part: Path, run: Run, subject: Subject, models: Models, without: Sequence[str], gguf: bool) -> None:
    index = _facts(run, subject, without)
    hidden = _hidden(subject, index)
    character = _character(run)
    _copy_adapter(subject, part, index["base"])
    shutil.copyfile(run.folder / "character.md", part / "character.md")
    evaluated = "evaluate" in run.manifest["stages"] and run.is_done("evaluate")
    stage = run.stage_folder("evaluate") if evaluated else part
    if "report" not in without:
        for name in ("report.html", "report.md"):
            if (run.folder / name).exists():
                write_text(part / name, _less(hidden, (run.folder / name).read_text(encoding="utf-8")))
        if (run.folder / "report_files").is_dir():
            shutil.copytree(run.folder / "report_files", part / "report_files")
    if evaluated and "figures" not in without:
        for name in MEASURED:
            if (stage / name).exists() and not (name == EXAMPLES and "conversations" in without):
                shutil.copyfile(stage / name, part / name)
    if evaluated and "conversations" not in without and (stage / EXAMPLES).exists():
        write_json(part / "conversations.json", conversations(read_rows(stage / EXAMPLES), character.name))
    if "card" not in without:
        (part / "card.png").write_bytes(card_png(character))
    if gguf:
        merge(subject, part / f"{index['name']}.gguf", models)
    if "modelfile" not in without:
        write_text(part / "Modelfile", _for_ollama(part, run, subject, index, models, character.name, gguf))
    source = read_source(run) if evaluated and "figures" not in without else None
    write_text(part / "run.json", _less(hidden, json.dumps(_manifest(run, index), ensure_ascii=False, indent=1)))
    card = model_card(character, index, source, [path.name for path in part.iterdir()])
    write_text(part / "README.md", _less(hidden, card))
    write_index(part, index)


def _facts(run: Run, subject: Subject, without: Sequence[str]) -> Row:
    """The index before its files: what this is, and the base that it is for."""
    settings, base = run.manifest["settings"], run.manifest.get("base") or {}
    local = subject.kind not in ("embedded", "hub")
    model = Path(subject.base).name if local else str(settings["model"])
    hub = subject.base if subject.kind == "hub" else HUB.get(subject.base)
    return {
        "name": slug(str(settings["character"])) or "character",
        "charactery": __version__,
        "stage": run.manifest["trained"],
        "base": {
            "model": model, "hub": hub, "hash": settings["base_hash"], "parameters": base.get("parameters"),
            "about": model if local else str(base.get("about") or model), "here": not local,
        },
        "left_out": sorted(without),
    }  # fmt: skip


def _hidden(subject: Subject, index: Row) -> dict[str, str]:
    """Paths of this machine, and what stands for them in a bundle."""
    hidden = {} if index["base"]["here"] else {subject.base: index["base"]["model"]}
    return hidden | {str(Path.home()): "~"}


def _less(hidden: dict[str, str], text: str) -> str:
    for path, name in hidden.items():
        if len(path) > 1:
            text = text.replace(path, name)
    return text


def _manifest(run: Run, index: Row) -> Row:
    """The run's manifest as it travels, with what its stages took."""
    kept = {key: run.manifest.get(key) for key in ("settings", "trained", "command", "base", "environment", "notes")}
    done = {
        name: {"seconds": record.seconds, "peak_mb": record.peak_mb}
        for name in run.manifest["stages"] if (record := run.record(name))
    }  # fmt: skip
    settings = {**run.manifest["settings"], "model": index["base"]["model"]}
    return {**kept, "settings": settings, "done": done}


def _character(run: Run) -> Character:
    path = run.folder / "character.md"
    if not path.exists():
        raise CharacteryError("has no character.md; restore it", run.folder)
    character = load_character(path)
    if (name := character.extra.get(PICTURE)) and not (run.folder / Path(str(name)).name).is_file():
        character = replace(character, extra={k: v for k, v in character.extra.items() if k != PICTURE})
    return character


def _copy_adapter(subject: Subject, part: Path, base: Row) -> None:
    """The adapter's weights, and its settings with the base's public name in place of a path."""
    assert subject.adapter is not None
    try:
        shutil.copyfile(subject.adapter / "adapter_model.safetensors", part / "adapter_model.safetensors")
    except OSError as error:
        raise disk_error(error, part) from error
    settings = json.loads((subject.adapter / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = base["hub"] or base["model"]
    write_json(part / "adapter_config.json", settings)


def conversations(rows: Sequence[Row], name: str) -> list[dict[str, Any]]:
    """What the trained model answered to single prompts, in ShareGPT's form."""
    return [
        {
            "id": str(row["id"]), "condition": str(row.get("condition", "")),
            "title": f"{name}: {str(row['prompt'])[:60]}",
            "conversations": [
                {"from": "human", "value": row["prompt"]}, {"from": "gpt", "value": row["answers"]["trained"]},
            ],
        }
        for row in rows
        if not row.get("history") and row.get("prompt") and (row.get("answers") or {}).get("trained")
    ]  # fmt: skip


def card_png(character: Character) -> bytes:
    """A character card as a picture, its own or a drawn plate: version 3, and version 2 beside it for older readers."""
    older = base64.b64encode(write_card(character, "card-v2").encode())
    parts = png.chunks(card_picture.write_png(character, "card-v3"))
    return png.join(png.with_texts(parts, {"chara": older}))


def _for_ollama(
    part: Path, run: Run, subject: Subject, index: Row, models: Models, name: str, gguf: bool
) -> str:  # fmt: skip
    """The Modelfile: of the merged file where it is there, else of the adapter, else of what is yet to be merged.

    The adapter is written beside it where GGUF has a place for it.
    """
    assert subject.adapter is not None
    folder = models.folder(untrained(subject))
    tokenizer, config = AutoTokenizer.from_pretrained(folder), AutoConfig.from_pretrained(folder)
    tokenizer.chat_template = tokenizer.chat_template or BASE_TEMPLATE
    sampler = (run.manifest["settings"].get("recipe") or {}).get("sampler") or {}
    context = int(getattr(config.get_text_config(), "max_position_embeddings", 2048))
    framed = (tokenizer, context, float(sampler.get("temperature", 0.7)))
    if gguf:
        return modelfile(name, f"{index['name']}.gguf", *framed)
    if lacking(config, tokenizer) or adapter_lacking(config, subject.adapter):
        merged = f"{index['name']}-merged" if lacking(config, tokenizer) else f"{index['name']}.gguf"
        return modelfile(name, merged, *framed, f"charactery merge runs/{index['name']} --to {merged}")
    try:
        write_adapter_gguf(config, subject.adapter, part / ADAPTER_GGUF, index["name"])
    except OSError as error:
        raise disk_error(error, part) from error
    base = index["base"]
    weights = f"{slug(base['model'].rpartition('/')[2]) or 'base'}.gguf"
    made = f"charactery merge {base['model'] if base['here'] else 'FOLDER'} --to {weights}"
    return modelfile(name, weights, *framed, made, ADAPTER_GGUF, _on_which_base(base))


def _on_which_base(base: Row) -> list[str]:
    """What to know of the base before an adapter goes on it."""
    notes = [
        f"{ADAPTER_GGUF} is for {base['model']}, whose tensors' SHA-256 begins with {base['hash']}: {base['about']}"
    ]
    if theirs := OLLAMA.get(base["model"]):
        notes.append(
            f"FROM {theirs}, Ollama's own, needs no file, but has other weights than those: it may answer otherwise, "
            "and the card's figures are not of it"
        )
    return notes
