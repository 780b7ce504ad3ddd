"""Judges by name, and how far each can be trusted: its agreement with labelled pairs, the shipped ones or a user's."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from charactery.judges.labelled import (
    Labelled,
    agreement,
    by_length,
    chance_corrected,
    judged,
    labelled_pairs,
    read_labelled,
)
from charactery.judges.rating import LIKELIHOOD, judge_identity, judge_named
from charactery.models.speaker import Models
from charactery.models.subject import parse_subject
from charactery.pipeline.watch import Watch
from charactery.runs import Journal, clock, digest


def check_judge(
    name: str,
    model: str = "smollm2",
    device: str = "auto",
    watch: Watch | None = None,
    limit: int | None = None,
    out: Path | None = None,
    own: Path | None = None,
) -> dict[str, Any]:
    """How often a judge prefers the better answer of the labelled pairs, or of the first of them (`limit`).

    They are those that ship, or a user's in the file `own`. Shares with intervals in all and by difficulty, contrast
    and source, and Cohen's kappa; pairs without a verdict are missing. Beside them what length alone would reach, how
    verdicts came out, and seconds over all attempts. Verdicts are kept in the folder `out`, where there is one, and are
    not asked for again. Raises ModelNotFound for no such model, BadData for pairs that cannot be read.
    """
    watch = watch or Watch()
    pairs = (read_labelled(own) if own else labelled_pairs())[:limit]
    models = Models(device, watch.say)
    base = parse_subject(model)
    make = judge_named(name, models, base)
    # a folder's model may be another tomorrow, and its verdicts are then another judge's
    who = judge_identity(name, models, base)
    asked = [[vars(pair) for pair in pairs]] if own else []
    watch.start(name, 2 * len(pairs))
    with ExitStack() as open_:
        folder = (out or Path(open_.enter_context(tempfile.TemporaryDirectory()))) / digest([name, who, limit, *asked])
        spent = open_.enter_context(clock(folder / "clock.json"))
        right, outcomes = judged(make, pairs, Journal(folder / "batches.jsonl"), watch.advance)
        seconds = spent()["seconds"]
    return {
        "judge": name,
        **({"model": model, "base_hash": models.base_hash(base)} if name == LIKELIHOOD else {}),
        **({"file": str(own)} if own else {}),
        "pairs": len(pairs),
        "seconds": round(seconds, 1),
        "agreement": agreement(pairs, right),
        "kappa": chance_corrected(pairs, right).as_dict(),
        "outcomes": outcomes,
        "by_length": by_length(pairs).as_dict(),
        "wrong": wrong(pairs, right),
    }


def wrong(pairs: Sequence[Labelled], right: Sequence[bool | None]) -> list[str]:
    """The pairs on which the judge preferred the worse answer."""
    return [pair.id for pair, value in zip(pairs, right, strict=True) if value is False]
