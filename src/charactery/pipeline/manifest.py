"""What makes a run the same again, and where it was made."""

import importlib.metadata
import json
import platform
import shlex
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from charactery import __version__
from charactery.constitution import dump_character
from charactery.judges.rating import LIKELIHOOD, STUDENT
from charactery.models.chat import plain_system
from charactery.models.local import pick_device, pick_dtype
from charactery.models.speaker import Models, Speaker
from charactery.models.subject import Subject
from charactery.models.weights import EMBEDDED
from charactery.pipeline.order import Order
from charactery.pipeline.recipe import AUTHORSHIP, stages
from charactery.runs import Row, digest, file_digest


def manifest(order: Order, models: Models, subject: Subject) -> Row:
    """What makes the run the same again. `settings` must be equal for a run to be resumed."""
    device = pick_device(order.device)
    base = models.base(subject)
    teacher = teaching(order, models) if order.teacher else None
    judge = models.speaker(order.recipe.judge) if order.recipe.judge not in (LIKELIHOOD, AUTHORSHIP) else None
    settings: Row = {
        **stated(order, subject),
        "base_hash": models.base_hash(subject),
        **({"tokenizer": frame} if (frame := models.frame_hash(subject)) else {}),
        "teacher": teacher
        and {
            "subject": order.teacher,
            "identity": teacher.identity,
            "character_hash": digest(dump_character(teacher.subject.character)) if teacher.subject.character else None,
        },
        "judge": judge
        and {
            "subject": order.recipe.judge,
            "identity": judge.identity,
            **({"character_hash": digest(dump_character(c))} if (c := judge.subject.character) else {}),
        },
        "engine": engine(device),
    }
    about = EMBEDDED[subject.base].about if subject.kind == "embedded" else subject.base
    return {
        "settings": settings,
        "stages": stages(order.recipe, order.sham),
        "trained": order.recipe.trained,
        "command": shlex.join(order.command) if order.command else f"charactery train {order.character.id}",
        "base": {
            "name": subject.base, "about": about, "hash": settings["base_hash"], "context": base.context,
            "parameters": sum(p.numel() for p in base.model.parameters()),
            "tokenizer": digest([base.tokenizer.chat_template, sorted(base.tokenizer.get_vocab().items())]),
        },
        "environment": environment(device),
        "notes": [
            *([STUDENT] if judge and judge.made_of.get("base") == settings["base_hash"] else []),
            "Plain means that no system message is given. What the model's template then says by itself: "
            + json.dumps(plain_system(base.tokenizer))
        ],
    }  # fmt: skip


def stated(order: Order, subject: Subject) -> Row:
    """The settings of a run that are known without a model."""
    return {
        "character": order.character.id,
        "character_hash": digest(dump_character(order.character)),
        "dials": order.character.settings,
        "model": subject.base if subject.kind != "hub" else f"hf:{subject.base}",
        "content": _content(),
        "prompts": file_digest(order.prompts) if order.prompts else None,
        "pairs": file_digest(order.pairs) if order.pairs else None,
        "writings": _texts(order) if order.reads_writings else None,
        "seed": order.seed,
        "sham": order.sham,
        "recipe": order.recipe.row(),
    }


def teaching(order: Order, models: Models) -> Speaker:
    """The teacher, with the character in its prompt unless it is a run or brings its own."""
    speaker = models.speaker(str(order.teacher))
    if speaker.subject.character is None and speaker.subject.run is None:
        return models.speaker(replace(speaker.subject, character=order.character))
    return speaker


def _texts(order: Order) -> Row:
    """Digests of the author's texts and the others', as they are read."""
    return {side: digest([vars(one) for one in some]) for side, some in order.texts().items()}


def engine(device: str) -> Row:
    """What computes: another engine, version or number type gives other texts, so a run is not resumed under it."""
    # scikit-learn fits what picks the drafts and judges the answers
    versions = {p: importlib.metadata.version(p) for p in ("torch", "transformers", "peft", "trl", "scikit-learn")}
    return {"name": "torch", **versions, "device": device, "dtype": str(pick_dtype(device)).removeprefix("torch.")}


def environment(device: str) -> Row:
    """Where and with what a run was made, for the report; not part of what must be equal."""
    import torch

    packages = {name: importlib.metadata.version(name) for name in ("accelerate", "inspect-ai", "numpy", "tokenizers")}
    with suppress(importlib.metadata.PackageNotFoundError):  # an extra
        packages["pytorch-optimizer"] = importlib.metadata.version("pytorch-optimizer")
    card = {"accelerator": torch.cuda.get_device_name()} if device == "cuda" else {}
    return {
        "charactery": __version__, **engine(device), **packages, "python": platform.python_version(),
        "processor": _processor(), "cores": torch.get_num_threads(), **card, "code": code_revision(),
    }  # fmt: skip


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        return platform.processor() or platform.machine()
    return platform.processor() or platform.machine()


def _content() -> str:
    """A digest of the package's prompts, tasks, prose, questions and foils, which decide what a run is."""
    return _digest_of("data/*.jsonl", "evals/**/*.jsonl", "evals/**/*.txt", "characters/foils/*.md")


def labelled_set() -> str:
    """A digest of the pairs that judges are checked on, and of the characters in them."""
    return _digest_of("judges/labelled/**/*.jsonl", "judges/labelled/**/*.md", "characters/*.md")


def code_revision() -> str:
    """A digest of the package's own source, which holds for a checkout and an installed wheel alike."""
    return _digest_of("**/*.py")


def _digest_of(*patterns: str) -> str:
    root = Path(__file__).parent.parent
    files = sorted({path for pattern in patterns for path in root.glob(pattern)})
    return digest([[str(p.relative_to(root)), file_digest(p)] for p in files])
