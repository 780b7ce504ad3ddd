"""Self-play: what the model learnt from is preferred to what it says itself after learning.

SPIN (Chen et al. 2024, arXiv 2401.01335), one round of it. Fine-tuning alone leaves a small model short of its
examples: it says less of the character than they do, and falls into loops that none of them has. Whatever its own
answers still lack or add shows in these pairs, so nobody has to name it.
"""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from charactery.data.filters import learnt
from charactery.models.chat import assistant
from charactery.models.local import Request, Sampler, derive_seed
from charactery.models.speaker import BATCH, Speaker, answer_all
from charactery.runs import Journal, Row


def self_play(
    rows: Sequence[Row],
    speaker: Speaker,
    sampler: Sampler,
    most: int,
    seed: int,
    folder: Path,
    batch: int = BATCH,
    progress: Callable[[int], None] = lambda n: None,
) -> list[Row]:
    """Pairs of a completion that the model was fine-tuned on (chosen) and its own answer now (rejected).

    Of the rows of `sft_rows`, tasks left out, at most `most`, drawn by the seed. The answers are kept in the folder.
    Drawn colder than the model will be used, they hold what it tends to fall into, loops above all. Where it says
    nothing, or the same, there is no pair. The columns are those of `make_pairs`.
    """
    rows = playable(rows)
    kept = set(random.Random(seed).sample(range(len(rows)), min(most, len(rows))))
    rows = [row for n, row in enumerate(rows) if n in kept]
    asked = [Request(tuple(row["prompt"]), derive_seed(seed, "self-play", row["id"])) for row in rows]
    answers = answer_all(
        [(speaker, request) for request in asked], sampler, Journal(folder / "batches.jsonl"), progress, batch
    )
    pairs = []
    for row, request, answer in zip(rows, asked, answers, strict=True):
        rejected = [assistant(learnt(answer) or answer.text)]
        if answer.text.strip() and rejected != row["completion"]:
            pairs.append({
                "id": f"self-{row['id']}", "kind": "self-play", "prompt": row["prompt"],
                "chosen": row["completion"], "chosen_subject": row["subject"], "chosen_seed": row["seed"],
                "rejected": rejected, "rejected_subject": speaker.subject.text, "rejected_seed": request.seed,
            })  # fmt: skip
    return pairs


def playable(rows: Sequence[Row]) -> list[Row]:
    """The rows self-play draws from: all but texts, which answer nothing, and tasks, whose pairs set plain answers
    against the character's."""
    return [row for row in rows if row["prompt"] and row["kind"] != "task"]
