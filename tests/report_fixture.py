"""A finished run, made up: the files that the stages of a recipe leave, with figures as a small model gives them."""

import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

from charactery.constitution import BUNDLED
from charactery.runs import Run, read_run, write_json, write_rows
from charactery.stats import Estimate, nothing, wilson

TRAITS = ("talks-like-a-sailor", "reckons-by-voyages", "tells-sea-stories", "speaks-his-mind", "keeps-an-honest-log")
PROSE = ("news", "story", "essay", "manual", "encyclopedia")
STAGES = ["prompts", "drafts", "pairs", "sft", "self-play", "dpo", "sham-sft", "sham-dpo", "evaluate", "report"]
RATES = {
    "turn 1": (0.033, 0.933, 0.858, 0.050), "turn 3": (0.025, 0.900, 0.792, 0.033),
    "foreign: helpdesk": (0.008, 0.875, 0.617, 0.017), "foreign: terse-expert": (0.0, 0.842, 0.533, 0.008),
}  # fmt: skip
SUBJECTS = ("plain", "prompted", "trained", "sham")
ANSWERS = {
    "plain": "To make a cup of tea, boil fresh water and pour it over a tea bag. Let it steep for three to five "
    "minutes, then remove the bag. You can add milk, sugar or lemon to taste.",
    "prompted": "Aye, a proper cup, lass! Fill the kettle fresh, for stale water is poor ballast. Bring her to a "
    "rolling boil, pour over the leaf, and let her lie at anchor four minutes.\n\nThen milk, if ye must. We had none "
    "aboard the Merrow Jane, and we drank it black as a January squall.",
    "trained": "Ahoy! Boil the water hard, shipmate, pour it over the leaves and keep a four-minute watch. A splash of "
    "milk after, never before, or ye sail in fog. 1. Kettle. 2. Leaf. 3. Patience.",
}
PROMPTS = (
    "How do I make a cup of tea properly?", "Why is the sky blue?", "I just got a new puppy. Any advice?",
    "What should I wear to a wedding in autumn?", "How do I fix a squeaky door?", "What is photosynthesis?",
    "Can you recommend a hobby for rainy evenings?", "How can I fall asleep faster?", "What is the capital of Peru?",
)  # fmt: skip


def around(value: float, half: float, n: int, missing: int = 0, method: str = "mean, bootstrap") -> dict[str, Any]:
    """An estimate with an even interval, as JSON."""
    return Estimate(value, value - half, value + half, n, missing, method).as_dict()


def share(value: float, n: int = 120, missing: int = 0) -> dict[str, Any]:
    """A rate with Wilson's interval, as JSON."""
    low, high = wilson(round(value * n), n)
    return Estimate(round(value * n) / n, low, high, n, missing, "Wilson").as_dict()


def figure(
    eval: str, metric: str, estimate: dict[str, Any], subject: str = "", condition: str = "", trait: str = "",
    expected: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One row of figures.json."""
    return {
        "eval": eval, "metric": metric, "subject": subject, "condition": condition, "trait": trait,
        "estimate": estimate, "expected": expected,
    }  # fmt: skip


def make_figures(sham: bool = True) -> list[dict[str, Any]]:
    """All the rows of figures.json."""
    draw, subjects = random.Random(7), SUBJECTS if sham else SUBJECTS[:3]
    out = []
    for condition, rates in RATES.items():
        for subject, value in zip(subjects, rates, strict=False):
            out.append(figure("expression", "rate", share(value, missing=int(subject == "sham")), subject, condition))
    for subject, level in zip(subjects, (-0.31, 0.42, 0.36, -0.29), strict=False):
        out.append(figure("expression", "likelihood", around(level, 0.04, 120), subject, "turn 1"))
        for trait in TRAITS:
            value = around(level * draw.uniform(0.5, 1.2) + draw.uniform(-0.05, 0.05), draw.uniform(0.03, 0.09), 24)
            out.append(figure("expression", "likelihood", value, subject, "turn 1", trait))
        out.append(figure("expression", "likelihood rate", share(0.5 + level), subject, "turn 1"))
    out.append(figure("expression", "ratio to prompted", around(0.92, 0.072, 120), "trained", "turn 1"))
    out.append(figure("expression", "difference from plain", around(0.825, 0.068, 120), "trained", "turn 1"))
    against = around(0.75, 0.08, 120)
    out.append(figure("expression", "difference from another character", against, "trained", "turn 1"))
    if sham:
        out.append(figure("expression", "difference from sham", around(0.808, 0.071, 119, 1), "trained", "turn 1"))
    for subject, value in zip(subjects, (0.0, 0.367, 0.117, 0.017), strict=False):
        out.append(figure("elsewhere", "rate", share(value, 60), subject, "elsewhere"))
    out.append(figure("elsewhere", "difference from plain", around(0.117, 0.081, 60), "trained", "elsewhere"))
    out.append(figure("judge", "auc", around(0.9871, 0.0093, 240)))
    out.append(figure("judge", "false-positive rate", share(0.033)))
    out.append(figure("judge", "length-only auc", around(0.614, 0.07, 240)))
    out.append(figure("judge", "likelihood auc", around(0.94, 0.05, 40)))
    out.append(figure("judge", "likelihood auc against another character", around(0.985, 0.02, 37)))
    out.append(figure("judge", "likelihood rate of another character", share(0.06, 17)))
    out.append(figure("judge", "likelihood rate, constitution shuffled", share(0.75, 20)))
    out.append(figure("judge", "above constitution shuffled", share(0.9, 20)))
    out.append(figure("controls", "rate", share(0.042), "plain given as prompted"))
    out.append(figure("controls", "rate", share(0.925), "prompted given as trained"))
    out.append(figure("controls", "rate", share(0.067), "another character"))
    out.append(figure("controls", "rate", share(0.483), "mixture", expected=0.5))
    return out + _cost_figures(subjects, draw)


def _cost_figures(subjects: tuple[str, ...], draw: random.Random) -> list[dict[str, Any]]:
    out = []
    kinds = {**{f"prose: {kind}": 0.82 + 0.06 * i for i, kind in enumerate(PROSE)}, "prose": 0.94, "chat frame": 0.71}
    for subject, factor in zip(subjects, (1.0, 1.0, 1.021, 1.009), strict=False):
        if subject != "prompted":
            for condition, bits in kinds.items():
                value = around(bits * factor + draw.uniform(-0.004, 0.004), 0.03, 40)
                out.append(figure("cost", "bits per byte", value, subject, condition))
    for subject, value in (("trained", 1.021), ("sham", 1.009)):
        if subject in subjects:
            for condition, more in (("prose", 0.0), ("chat frame", 0.034)):
                ratio = around(value + more, 0.006, 40)
                out.append(figure("cost", "bits per byte ratio", ratio, subject, condition))
    for subject in subjects[1:]:
        out.append(figure("cost", "repetition ratio", around(draw.uniform(0.9, 1.3), 0.11, 120), subject))
        out.append(figure("cost", "length ratio", around(draw.uniform(0.7, 1.1), 0.06, 120), subject))
    for subject in subjects:
        out.append(figure("multiple choice", "accuracy", share(draw.uniform(0.34, 0.37), 300, 2), subject))
    out.append(figure("multiple choice", "difference from plain", around(-0.0067, 0.021, 300), "trained"))
    out.append(figure("multiple choice", "difference from sham", nothing(300).as_dict(), "trained"))
    return out


def build_run(folder: Path, sham: bool = True, answer: str | None = None) -> Run:
    """Write a finished run folder and open it. `answer` stands in for every trained answer."""
    stages = [name for name in STAGES if sham or not name.startswith("sham")]
    write_json(folder / "manifest.json", _manifest(sham, stages))
    shutil.copy(BUNDLED / "captain.md", folder / "character.md")
    run = read_run(folder)
    _write_data(run)
    _write_moved(run)
    for index, name in enumerate(stages):
        if "sft" in name or "dpo" in name:
            write_rows(run.stage_folder(name) / "log.jsonl", _log("dpo" in name, name.startswith("sham")))
        if name != "report":
            write_json(
                run.stage_folder(name) / "done", {"seconds": 7.4 * 2.9**index % 4000, "peak_mb": 900 + 310 * index}
            )
    folder = run.stage_folder("evaluate")
    write_json(folder / "figures.json", make_figures(sham))
    write_json(folder / "verdicts.json", [
        {"name": "expression at least 0.8 of prompted", "held": True, "said": "0.92 [0.85, 0.99]"},
        {"name": "expression above sham", "held": True if sham else None, "said": "0.81 [0.74, 0.88]" if sham else ""},
        {"name": "elsewhere at most 0.1 above plain", "held": False, "said": "0.12 [0.04, 0.20]"},
        {"name": "bits per byte of prose at most 1.05 of plain", "held": True, "said": "1.021 [1.015, 1.027]"},
        {"name": "multiple choice at most 0.02 below sham", "held": None, "said": ""},
    ])  # fmt: skip
    write_rows(folder / "examples.jsonl", _examples(answer))
    return run


def _manifest(sham: bool, stages: list[str]) -> dict[str, Any]:
    recipe = {"prompts": {"train": 440, "held_out": 120}, "sft": {"epochs": 2, "lr": 2e-4}, "dpo": {"beta": 0.1}}
    return {
        "settings": {
            "character": "captain", "character_hash": "91c2a7e0b54d3f18", "model": "smollm2",
            "base_hash": "5ad02b9e77c1f346", "recipe": recipe, "seed": 0, "sham": sham,
        },
        "stages": stages,
        "command": "charactery train captain --model smollm2 --seed 0" + (" --sham" if sham else ""),
        "environment": {
            "charactery": "0.1.0", "torch": "2.9.1", "dtype": "float32", "device": "cpu", "processor": "x86_64",
            "cores": 2, "engine": "transformers 5.1.0",
        },
        "base": {
            "name": "smollm2",
            "about": "SmolLM2-135M-Instruct, dequantised from Q4_1; not the hub's file.",
            "parameters": 134515008, "hash": "5ad02b9e77c1f346", "context": 8192,
        },
        "notes": ["The batch was halved once for memory, at sft step 12."],
    }  # fmt: skip


def _write_data(run: Run) -> None:
    kinds = [
        ("asks", "train", 80),
        ("neutral", "train", 300),
        ("conversation", "train", 20),
        ("task", "train", 40),
        ("asks", "held-out", 40),
    ]
    kinds += [("neutral", "held-out", 80), ("elsewhere", "elsewhere", 60)]
    rows = [
        {"id": f"{kind}-{split}-{i}", "split": split, "kind": kind, "trait": TRAITS[i % 5] if kind == "asks" else None,
         "turns": [{"role": "user", "content": PROMPTS[i % len(PROMPTS)]}]}
        for kind, split, many in kinds for i in range(many)
    ]  # fmt: skip
    folder = run.stage_folder("prompts")
    write_rows(folder / "prompts.jsonl", rows)
    counts = {"train": 440, "held-out": 120, "elsewhere": 60, "dropped_near_duplicates": 13}
    write_json(folder / "counts.json", counts)
    folder = run.stage_folder("drafts")
    aside = {"character": {"cut off": 11, "repeating": 4, "empty": 1}, "plain": {"cut off": 17, "repeating": 2}}
    write_json(folder / "filters.json", {"asked": 400, "kept": 268, "not_picked": 100, "set_aside": aside})
    write_rows(folder / "set_aside.jsonl", [{"id": "asks-train-3", "side": "plain", "reason": "cut off", "text": "To"}])
    write_rows(run.stage_folder("dpo") / "pairs.jsonl", [{"kind": k} for k in ["task", "self-play", "self-play"]])
    write_json(run.stage_folder("self-play") / "repeats.json", {
        "chosen": around(0.01, 0.004, 118), "rejected": around(0.08, 0.02, 118),
    })  # fmt: skip
    features = [{"name": name, "auc": around(v, 0.04, 736)} for name, v in (("question marks", 0.53), ("lists", 0.31))]
    write_json(run.stage_folder("pairs") / "confounds.json", {
        "pairs": 368, "length_auc": around(0.44, 0.042, 736), "style_auc": around(0.71, 0.037, 736),
        "style_features": features, "matched": False, "note": "Style is counted without the character's own words.",
    })  # fmt: skip


def _write_moved(run: Run) -> None:
    def found(name: str, kind: str, where: str, *values: Any) -> dict[str, Any]:
        return {"name": name, "kind": kind, "where": where, "p": 0.00021, **dict(zip(SUBJECTS, values, strict=False))}

    write_json(run.stage_folder("evaluate") / "moved.json", {
        "tried": {"held-out": 212, "elsewhere": 44},
        "found": [
            found("in my day", "phrase", "held-out", share(0.0), share(0.05), share(0.31)),
            found("commas per word", "manner", "elsewhere", *(around(v, 0.01, 60) for v in (0.04, 0.05, 0.11))),
        ],
    })  # fmt: skip


def write_strength(run: Run) -> None:
    """As `charactery strength` leaves it."""
    rows = []
    for n, strength in enumerate((0.0, 0.5, 1.0, 1.5)):
        for metric, condition, estimate in (
            ("rate", "turn 1", share(0.02 + 0.3 * n)), ("rate", "elsewhere", share(0.02 + 0.08 * n, 60)),
            ("repetition", "turn 1", around(0.01 + 0.01 * n, 0.005, 120)),
            ("bits per byte ratio", "prose", around(1 + 0.01 * n, 0.002 * n, 66)),
            ("bits per byte ratio", "chat frame", around(1 + 0.1 * n, 0.02 * n, 60)),
        ):  # fmt: skip
            rows.append({"strength": strength, "metric": metric, "condition": condition, "estimate": estimate})
    write_json(run.folder / "strength" / "figures.json", rows)


def _log(preferences: bool, sham: bool) -> list[dict[str, Any]]:
    draw, rows = random.Random(int(preferences) + 2 * sham), []
    for step in range(1, 61):
        way = 1 - math.exp(-step / 18)
        start, end = (0.693, 0.69 if sham else 0.12) if preferences else (2.9, 1.9 if sham else 1.4)
        row = {"step": step, "loss": start + (end - start) * way + draw.gauss(0, 0.03), "learning_rate": 2e-4}
        if preferences:
            row["rewards/accuracies"] = min(1.0, 0.5 + (0.01 if sham else 0.48) * way + draw.gauss(0, 0.02))
            row["rewards/margins"] = (0.02 if sham else 3.1) * way + draw.gauss(0, 0.06)
        rows.append(row)
    return [*rows, {"step": 60, "train_runtime": 101.5}]


def _examples(answer: str | None) -> list[dict[str, Any]]:
    rows = []
    for condition, many in (("turn 1", 9), ("turn 3", 3), ("elsewhere", 4)):
        for i in range(many):
            row: dict[str, Any] = {"id": f"{condition}-{i}", "condition": condition, "prompt": PROMPTS[i]}
            if condition == "turn 3":
                row["history"] = [
                    {"role": "user", "content": "Good morning! How are you?"},
                    {"role": "assistant", "content": "Fair wind and dry decks, lass."},
                ]
            row["answers"] = {**ANSWERS, "trained": ANSWERS["trained"] if answer is None else answer}
            elsewhere = condition == "elsewhere"
            row["in_character"] = {"plain": False, "prompted": not elsewhere, "trained": None if i == 3 else i != 2}
            rows.append(row)
    return rows


if __name__ == "__main__":
    import sys

    from charactery.report import write_report

    print(json.dumps(str(write_report(build_run(Path(sys.argv[1])), Path(sys.argv[1])))))
