"""Critique and revision (Bai et al. 2022, arXiv 2212.08073): an answer, what a principle finds wanting, a better one.

The revision is judged and not assumed to be better. Beside it stands one made under an empty principle: what asking
again gives by itself.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from charactery.constitution import Character
from charactery.constitution.render import trait_words
from charactery.data.filters import fault, learnt
from charactery.judges.rating import Case, Judge
from charactery.models.chat import Message, assistant, user
from charactery.models.local import Request, Sampler, derive_seed
from charactery.models.speaker import BATCH, Speaker, answer_all
from charactery.runs import Journal, Row, write_json, write_rows
from charactery.stats import rate

PRINCIPLED, EMPTY = "principle", "empty principle"


@dataclass(frozen=True)
class Revising:
    """Who critiques and revises, how, and who judges. `instructions` is what no answer may repeat."""

    character: Character
    speaker: Speaker
    sampler: Sampler
    judge: Judge
    seed: int
    instructions: str
    batch: int = BATCH


def principles(character: Character) -> list[tuple[str, str, float]]:
    """What answers are held against: each trait's id, words and weight."""
    return [(t.id, trait_words(character, t, character.mix), t.weight) for t in character.traits() if t.weight > 0]


def critique_of(principle: str) -> Message:
    """The turn that asks what the last answer lacks."""
    held = f' Hold it against this, and against nothing else: "{principle}"' if principle else ""
    return user(f"Criticise your last answer in two or three sentences.{held} What would have to be different?")


def revision_of(principle: str) -> Message:
    """The turn that asks for a better answer."""
    held = f' and so that it follows this: "{principle}"' if principle else ""
    return user(
        f"Now write that answer again, better by your criticism{held}. Reply with the new answer alone, as if it were "
        "your first."
    )


def revise(
    drafts: Sequence[Row], revising: Revising, folder: Path, progress: Callable[[int], None] = lambda n: None
) -> tuple[list[Row], list[Row]]:
    """Rows for SFT and pairs for DPO, from plain drafts: revisions that the judge prefers to what they revise.

    Where it prefers the first answer, that one is chosen in the pair and nothing is learnt by SFT. Writes
    revisions.jsonl (everything said, with ratings) and counts.json (how often the revision wins, over the first answer
    and over the one under an empty principle). `progress` is told of answers: four a draft, and three more when judged.
    """
    journal = Journal(folder / "batches.jsonl")
    rng = random.Random(revising.seed)
    held = principles(revising.character)
    drawn = rng.choices(held, [weight for *_, weight in held], k=len(drafts))
    talks = {
        kind: [(*d["messages"], assistant(d["text"]), critique_of(p if kind == PRINCIPLED else ""))
               for d, (_, p, _) in zip(drafts, drawn, strict=True)]
        for kind in (PRINCIPLED, EMPTY)
    }  # fmt: skip

    def said(step: str) -> dict[str, list[str]]:
        asks = [
            (revising.speaker, Request(tuple(messages), derive_seed(revising.seed, step, kind, d["id"])))
            for kind, mine in talks.items() for d, messages in zip(drafts, mine, strict=True)
        ]  # fmt: skip
        answers = answer_all(asks, revising.sampler, journal, progress, revising.batch)
        kept.append(answers)
        texts = [learnt(answer) or answer.text.strip() for answer in answers]
        return {PRINCIPLED: texts[: len(drafts)], EMPTY: texts[len(drafts) :]}

    kept: list[list] = []  # type: ignore[type-arg]
    critiques = said("critique")
    talks = {
        kind: [(*m, assistant(c), revision_of(p if kind == PRINCIPLED else ""))
               for m, c, (_, p, _) in zip(talks[kind], critiques[kind], drawn, strict=True)]
        for kind in talks
    }  # fmt: skip
    revisions = said("revision")
    faults = [fault(a, learnt(a), revising.instructions, revising.character.language) for a in kept[-1][: len(drafts)]]
    cases = [
        Case(tuple(d["messages"]), (d["text"], better, again))
        for d, better, again in zip(drafts, revisions[PRINCIPLED], revisions[EMPTY], strict=True)
    ]
    rated = revising.judge.rate(cases, journal, progress)
    rows: list[Row] = []
    learn: list[Row] = []
    pairs: list[Row] = []
    for n, (d, (trait, _, _), values) in enumerate(zip(drafts, drawn, rated.values, strict=True)):
        first, better, again = values
        rows.append({
            "id": d["id"], "trait": trait, "answer": d["text"], "critique": critiques[PRINCIPLED][n],
            "revision": revisions[PRINCIPLED][n], "fault": faults[n], "empty_critique": critiques[EMPTY][n],
            "empty_revision": revisions[EMPTY][n], "ratings": [first, better, again],
        })  # fmt: skip
        if first is None or better is None or first == better or d["text"] == revisions[PRINCIPLED][n]:
            continue
        seed = derive_seed(revising.seed, "revision", PRINCIPLED, d["id"])
        mine = {"text": revisions[PRINCIPLED][n], "subject": f"{revising.speaker.subject.text}, revised", "seed": seed}
        theirs = {"text": d["text"], "subject": d["subject"], "seed": d["seed"]}
        wins = better > first
        if wins and faults[n]:
            continue  # unfit to be learnt from
        if wins:
            learn.append({
                "id": d["id"], "kind": d["kind"], "prompt": d["messages"], "subject": mine["subject"], "seed": seed,
                "completion": [assistant(revisions[PRINCIPLED][n])],
            })  # fmt: skip
        pair: Row = {"id": f"revised-{d['id']}", "kind": "revision", "prompt": d["messages"]}
        for side, one in zip(("chosen", "rejected"), (mine, theirs) if wins else (theirs, mine), strict=True):
            pair |= {
                side: [assistant(str(one["text"]))],
                f"{side}_subject": one["subject"],
                f"{side}_seed": one["seed"],
            }
        pairs.append(pair)
    write_rows(folder / "revisions.jsonl", rows)
    ratings = [row["ratings"] for row in rows]
    write_json(folder / "counts.json", {
        "judge": revising.judge.name, "answers": len(rows), "learnt": len(learn), "pairs": len(pairs),
        "over the first answer": rate([_above(b, a) for a, b, _ in ratings]).as_dict(),
        "over an empty principle": rate([_above(b, c) for _, b, c in ratings]).as_dict(),
        "empty over the first answer": rate([_above(c, a) for a, _, c in ratings]).as_dict(),
        "faults": dict(Counter(f for f in faults if f)), "outcomes": rated.outcomes,
    })  # fmt: skip
    return learn, pairs


def _above(one: float | None, other: float | None) -> bool | None:
    """Whether one rating is above another; a tie is as missing as a rating that was not given."""
    return None if one is None or other is None or one == other else one > other
