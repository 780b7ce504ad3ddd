"""What a run takes over from others: a stage whole where all that decides it is equal, or else what it had asked.

What decides a stage is written beside what it made, in `made_of.json`, before it begins.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from charactery.errors import RunConflict
from charactery.pipeline.manifest import labelled_set
from charactery.pipeline.recipe import Recipe
from charactery.runs import (
    Row,
    Run,
    differences,
    digest,
    file_digest,
    journal_entries,
    process_count,
    stage_kind,
    write_bytes,
    write_json,
)
from charactery.train.trainers import ADAPTER, MODEL

MADE_OF, BATCHES, REUSED = "made_of.json", "batches.jsonl", "reused.json"
PROMPTS, SFT, PAIRS = ("prompts", "prompts.jsonl"), "sft.jsonl", "pairs.jsonl"
OF_JUDGE = ("model", "base_hash", "content", "engine", "judge")  # which judges a set that is every run's
OF_RUN = (
    "model", "base_hash", "content", "engine", "character", "character_hash", "dials", "prompts", "pairs", "writings",
    "seed", "teacher",
)  # fmt: skip
# What each kind of stage looks at in the recipe, and whether there is a sham. Others are never taken whole.
LOOKS_AT = {
    "prompts": ("sizes", "validates"),
    "drafts": ("sampler", "draft_temperature", "draws", "told", "batch", "sham", "masks_reasoning"),
    "validation": ("sampler", "draft_temperature", "draws", "told", "batch", "sham", "masks_reasoning"),
    "judge": ("judge",),
    "pairs": ("match_lengths", "masks_reasoning"),
    "documents": ("documents", "batch"),
    "cases": ("cases", "batch"),
    "sft": ("sft", "lora"),
    "self-play": ("sampler", "self_play", "self_play_temperature", "match_lengths", "lora", "batch"),
    "dpo": ("dpo", "lora", "contrast", "match_lengths"),
    "sham-sft": ("sft", "lora"),
    "sham-dpo": ("dpo", "lora", "contrast"),
}
BY_STEP = ("grpo", "sham-grpo")  # whose journal says what was said at a step, and not what was asked
TAKEN = (
    "What other runs had answered alike already was taken from them (--reuse), so the times of the stages that ask are "
    "not those of a run by itself. A stage taken whole has the time of the run that did it."
)


def check_reusable(other: Run, made: Row) -> None:
    """Raises RunConflict where what another run answered would not be ours. `made` is this run's manifest."""
    if changed := differences(other.manifest["settings"]["engine"], made["settings"]["engine"]):
        raise RunConflict(f"cannot be reused, since it was made by another engine ({'; '.join(changed)})", other.folder)


def begin(run: Run, recipe: Recipe, made: Row, others: Sequence[Run], name: str) -> None:
    """Before a stage: take it whole from the first of the others that made it of the same, or else what they asked.

    A batch found there is not asked for again. A stage that was begun is gone on with. `made` is this run's manifest as
    of now.
    """
    if run.is_done(name):
        return
    folder, now = run.stage_folder(name), made_of(run, recipe, made, name)
    begun = folder.exists()
    others = [other for other in others if name in other.manifest["stages"]]
    if now and not begun:
        for other in others:
            if _kept(other, name) == digest(now):
                run.take(name, other)
                return
    if not begun and stage_kind(name) not in BY_STEP:
        _take_batches(folder, [other for other in others if _alike(other, made, name)], name)
    path = folder / MADE_OF
    if now is None:
        path.unlink(missing_ok=True)
        return
    before = json.loads(path.read_text()) if path.exists() else None
    if begun and (before is None or digest(before) != digest(now)):
        now["begun_as"] = before  # by other code, say; it is nobody else's from then on
    if (folder / REUSED).exists():
        now["reused"] = json.loads((folder / REUSED).read_text())
    write_json(path, now)


def made_of(run: Run, recipe: Recipe, made: Row, name: str) -> Row | None:
    """All that decides what a stage makes: code and machine, settings, and by content what it reads of earlier stages.

    None where that is not known, and of several processes, which begin a stage together.
    """
    kind, settings = stage_kind(name), made["settings"]
    if kind not in LOOKS_AT or process_count() > 1:
        return None
    derived = {"validates": recipe.validates, "masks_reasoning": recipe.masks_reasoning}
    chosen = {**settings["recipe"], "sham": settings["sham"], **derived}
    found: Row = {
        "stage": name,
        "environment": made["environment"],
        "tokenizer": [made.get("base", {}).get("tokenizer"), settings.get("tokenizer")],
        "settings": {key: settings[key] for key in (OF_JUDGE if kind == "judge" else OF_RUN)},
        "recipe": {key: chosen[key] for key in LOOKS_AT[kind]},
        "files": [
            [f"{stage}/{path.relative_to(run.stage_folder(stage))}", file_digest(path)]
            for stage, pattern in reads(recipe, name) for path in sorted(run.stage_folder(stage).glob(pattern))
        ],
    }  # fmt: skip
    return found | {"labelled": labelled_set()} if kind == "judge" else found


def reads(recipe: Recipe, name: str) -> list[tuple[str, str]]:
    """What a stage in LOOKS_AT reads of earlier ones: each with a pattern of files in its folder."""

    def rows(name: str) -> list[tuple[str, str]]:
        compares = stage_kind(name) == "dpo"
        return [(made, PAIRS if compares else SFT) for made in (recipe.compared if compares else recipe.learnt)(name)]

    def weights(trained: str | None) -> list[tuple[str, str]]:
        return [(trained, f"{ADAPTER if recipe.lora.rank else MODEL}/*.safetensors")] if trained else []

    fine_tuned, compared = recipe.before("", ("sft",)), recipe.before("", ("dpo",))
    match stage_kind(name):
        case "drafts" | "validation":
            return [PROMPTS]
        case "pairs":
            return [PROMPTS, ("drafts", "drafts.jsonl")]
        case "sft":
            stops_at = [("validation", SFT)] if recipe.validates else []
            return [*rows(name), *weights(recipe.start(name)), *stops_at]
        case "dpo":
            return [*rows(name), *weights(recipe.start(name))]
        case "self-play":
            return [*rows(recipe.before(name, ("sft",))[-1]), *weights(recipe.start(name))]
        case "sham-sft":  # as many rows as the others
            return [("drafts", "drafts.jsonl"), *(row for other in fine_tuned for row in rows(other))]
        case "sham-dpo":
            start = weights("sham-sft") if fine_tuned else []
            return [("drafts", "drafts.jsonl"), *(row for other in compared for row in rows(other)), *start]
    return []


def _kept(other: Run, name: str) -> str | None:
    """The digest of what decided a finished stage; None where that is not known, or memory decided, too."""
    path = other.stage_folder(name) / MADE_OF
    if not other.is_done(name) or _halved(other, name) or not path.exists():
        return None
    return digest(json.loads(path.read_text()))


def _halved(other: Run, name: str) -> bool:
    """Whether memory ran short in a stage, finished or not."""
    if record := other.record(name):
        return record.halved > 0
    clock = other.stage_folder(name) / "clock.json"
    return clock.exists() and json.loads(clock.read_text()).get("halved", 0) > 0


def _alike(other: Run, made: Row, name: str) -> bool:
    """Whether another run's batches of a stage may be ours, by the same weights and tokens."""
    theirs, mine = other.manifest, made
    same = ["base_hash"] if stage_kind(name) == "judge" else ["base_hash", "character_hash"]
    return (
        all(theirs["settings"].get(key) == mine["settings"][key] for key in same)
        and theirs.get("base", {}).get("tokenizer") == mine.get("base", {}).get("tokenizer")
        and not _halved(other, name)
    )


def _take_batches(folder: Path, others: Sequence[Run], name: str) -> None:
    """Begin a stage's journal with all batches of other runs' stages, and note whose they are."""
    lines: dict[str, bytes] = {}
    found = [other for other in others if (other.stage_folder(name) / BATCHES).exists()]
    for other in found:
        for line, entry in journal_entries(other.stage_folder(name) / BATCHES):
            lines.setdefault(entry["key"], line)
    if lines:
        write_json(folder / REUSED, [str(other.folder) for other in found])
        write_bytes(folder / BATCHES, b"".join(lines.values()))
