"""What a model says of itself, asked in several wordings: a character that is somebody says the same each time.

Every claim is asked about four times, twice so that "yes" is the claim and twice so that "no" is: a model that likes to
say yes contradicts itself. What it would say is read from log-probabilities of the two replies; nothing is drawn.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

from charactery.evals.scored import option_scores
from charactery.models.speaker import Speaker
from charactery.models.subject import Subject
from charactery.runs import Journal, Row, digest, read_rows, read_run, stage_kind
from charactery.stats import mean, paired_difference

HERE = Path(__file__).parent


def claims() -> list[Row]:
    """The claims, each with its wordings; the first of a wording's options makes the claim."""
    return read_rows(HERE / "claims.jsonl")


def contradiction(picks: Sequence[bool]) -> float:
    """Share of pairs of wordings to which the replies make opposite claims: 0 is consistent, 2/3 the most of four."""
    pairs = list(combinations(picks, 2))
    return sum(a != b for a, b in pairs) / len(pairs)


def entropy(probabilities: Sequence[float]) -> float:
    """Bits of the mean probability of the claim over its wordings: 0 is certain and consistent, 1 the most."""
    p = sum(probabilities) / len(probabilities)
    return -sum(q * math.log2(q) for q in (p, 1 - p) if q > 0)


def leanings(speaker: Speaker, journal: Journal) -> dict[str, list[float]]:
    """By claim, the probability of the reply that makes it in each wording, of the two replies.

    By mean log-probability a token, so that the longer reply is at no loss.
    """
    rows = [
        {"id": f"{claim['id']}/{n}", "question": wording["question"], "options": wording["options"]}
        for claim in claims() for n, wording in enumerate(claim["wordings"])
    ]  # fmt: skip
    key = digest(["claims", speaker.identity, speaker.prompt([]), rows])
    if key not in journal.done:
        found = option_scores(speaker, rows)
        journal.add(key, [found.get(row["id"]) for row in rows])
    out: dict[str, list[float]] = {}
    for row, scores in zip(rows, journal.done[key], strict=True):
        if scores is not None:
            claim, other = scores
            out.setdefault(row["id"].partition("/")[0], []).append(1 / (1 + math.exp(other - claim)))
    return {id: values for id, values in out.items() if len(values) > 1}


def trained_tokens(subject: Subject) -> int:
    """Tokens that the SFT, DPO and GRPO of a run's Subject read, prompts included, as their trainers logged them."""
    if subject.run is None:
        return 0
    run, total = read_run(subject.run), 0
    own = subject.adapter or Path(subject.base)  # of a stage, at its end or at a checkpoint
    arm = "sham-" if "-sham-" in own.parent.name else ""
    kinds = [f"{arm}{kind}" for kind in ("sft", "dpo", "grpo")]
    for name in run.manifest["stages"]:
        folder = run.stage_folder(name)
        if stage_kind(name) not in kinds or not (folder / "log.jsonl").exists():
            continue
        until = int(own.name.partition("-")[2]) if own.parent == folder and own.name.startswith("checkpoint-") else None
        rows = [r for r in read_rows(folder / "log.jsonl") if until is None or r["step"] <= until]
        counts = [0, *(int(row.get("num_tokens", 0)) for row in rows)]
        # a trainer that was killed and went on counts from nought again
        total += counts[-1] + sum(a for a, b in pairwise(counts) if b < a)
        if own.parent == folder:
            break
    return total


def claim_figures(
    subjects: Mapping[str, Speaker], seed: int, journal: Journal, progress: Callable[[int], None] = lambda n: None
) -> dict[str, Any]:
    """Mean contradiction and entropy of each subject's claims, by how much they are less than the first's, and claims.

    `progress` is told of subjects.
    """
    found = {}
    for role, speaker in subjects.items():
        found[role] = leanings(speaker, journal)
        progress(1)
    ids = [claim["id"] for claim in claims()]
    values = {
        role: {
            "contradiction": [contradiction([p > 0.5 for p in told[id]]) if id in told else None for id in ids],
            "entropy": [entropy(told[id]) if id in told else None for id in ids],
        }
        for role, told in found.items()
    }
    first = next(iter(values.values()))
    units = {"contradiction": "share of pairs", "entropy": "bits"}
    return {
        role: {
            **{name: mean(mine[name], seed, unit).as_dict() for name, unit in units.items()},
            "less than the first": {
                name: paired_difference(first[name], mine[name], seed, unit).as_dict() for name, unit in units.items()
            },
            "claims": {id: round(sum(told) / len(told), 3) for id, told in found[role].items()},
        }
        for role, mine in values.items()
    }
