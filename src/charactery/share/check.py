"""A quick check on a base that is not the one a character was trained on: is it still as much itself?"""

import json
import math
from pathlib import Path

import numpy as np

from charactery.constitution import load_character
from charactery.judges.likelihood import evidence, margins
from charactery.models.chat import user
from charactery.models.local import Request, Sampler, derive_seed
from charactery.models.speaker import Models, answer_fitting
from charactery.models.subject import parse_subject
from charactery.runs import read_manifest
from charactery.share.packing import ELSEWHERE
from charactery.stats import Estimate, nothing, paired_difference

ASKED = 12  # prompts; enough to see that a character is gone, in half a minute with the embedded model
UNIT = "nats/token"


def quick_check(folder: Path, models: Models) -> Estimate:
    """How much more an opened run's answers here are the character's than those that came with it, to the same prompts.

    By the likelihood judge, with the base at hand: nats a token, nothing measured where no answers came with the run.
    Raises ModelNotFound where the adapter does not fit the base.
    """
    path = folder / "conversations.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    in_character = [row["conversations"] for row in rows if row.get("condition") != ELSEWHERE][:ASKED]
    turns = [[str(turn["value"]) for turn in said] for said in in_character]
    if not turns:
        return nothing(unit=UNIT)
    settings, subject = read_manifest(folder)["settings"], parse_subject(str(folder))
    sampler = Sampler(**(settings.get("recipe") or {}).get("sampler") or {})
    asked = [Request((user(said),), derive_seed(settings.get("seed", 0), said)) for said, _ in turns]
    models.say(f"another base than it was trained on: {len(asked)} prompts are asked again")
    speaker = models.speaker(subject)
    answers = answer_fitting([(speaker, request) for request in asked], sampler)
    whole = evidence(load_character(folder / "character.md"))[:1]
    here = [(request.messages, answer.text) for request, answer in zip(asked, answers, strict=True)]
    there = [(request.messages, answer) for request, (_, answer) in zip(asked, turns, strict=True)]
    now, then = (_known(margins(models.base(subject), cases, whole)[0]) for cases in (here, there))
    return paired_difference(now, then, unit=UNIT)


def _known(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(value) else float(value) for value in values]
