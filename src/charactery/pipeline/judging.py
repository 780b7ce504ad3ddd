"""Judges by name, and how far each can be trusted: its agreement with the labelled set."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from charactery.judges.labelled import Labelled, agreement, by_length, judged, labelled_pairs
from charactery.judges.rating import LIKELIHOOD, judge_named
from charactery.models.speaker import Models
from charactery.models.subject import parse_subject
from charactery.pipeline.distil import Watch
from charactery.runs import Journal


def check_judge(
    name: str, model: str = "smollm2", device: str = "auto", watch: Watch | None = None, limit: int | None = None
) -> dict[str, Any]:
    """How often a judge prefers the better answer of the labelled pairs, or of the first of them (`limit`).

    Shares with intervals in all and by difficulty, contrast and source; pairs without a verdict are missing. Beside
    them what length alone would reach, how verdicts came out, and seconds. Raises ModelNotFound for no such model.
    """
    watch = watch or Watch()
    pairs = labelled_pairs()[:limit]
    make = judge_named(name, Models(device, watch.say), parse_subject(model))
    watch.start(name, 2 * len(pairs))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        right, outcomes = judged(make, pairs, Journal(Path(folder) / "batches.jsonl"), watch.advance)
    return {
        "judge": name,
        **({"model": model} if name == LIKELIHOOD else {}),
        "pairs": len(pairs),
        "seconds": round(time.monotonic() - began, 1),
        "agreement": agreement(pairs, right),
        "outcomes": outcomes,
        "by_length": by_length(pairs).as_dict(),
        "wrong": wrong(pairs, right),
    }


def wrong(pairs: Sequence[Labelled], right: Sequence[bool | None]) -> list[str]:
    """The pairs on which the judge preferred the worse answer."""
    return [pair.id for pair, value in zip(pairs, right, strict=True) if value is False]
