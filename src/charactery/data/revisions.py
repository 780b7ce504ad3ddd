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
from charactery.data.pairs import learnt_row, pair_of
from charactery.judges.rating import Case, Judge
from charactery.models.chat import Message, assistant, user
from charactery.models.local import Answer, Request, Sampler, derive_seed
from charactery.models.speaker import BATCH, Speaker, answer_all
from charactery.runs import Journal, Row, write_json, write_rows
from charactery.stats import rate

PRINCIPLED, EMPTY = "principle", "empty principle"
AGAINST = ((1, 0), (1, 2), (2, 0))  # of answer, revision and empty revision: which is held against which


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
    and over the one under an empty principle, where both are fit to be learnt from). `progress` is told of answers:
    four a draft, and `texts_judged` more.
    """
    journal = Journal(folder / "batches.jsonl")
    held = principles(revising.character)
    drawn = random.Random(revising.seed).choices(held, [weight for *_, weight in held], k=len(drafts))
    rows = _spoken(drafts, [(trait, words) for trait, words, _ in drawn], revising, journal, progress)
    cases = [
        Case(tuple(d["messages"]), (row["answer"], row["revision"], row["empty_revision"]))
        for d, row in zip(drafts, rows, strict=True)
    ]
    ratings, outcomes = _two_by_two(cases, revising.judge, journal, progress)
    rows = [row | {"ratings": found} for row, found in zip(rows, ratings, strict=True)]
    # what repeats its instructions or itself wins by its words alone, and nobody would learn from it
    sound = [(not r["fault"], not r["empty_fault"]) for r in rows]
    over = [_above(found[0]) for found, (revised, _) in zip(ratings, sound, strict=True) if revised]
    over_empty = [_above(found[1]) for found, both in zip(ratings, sound, strict=True) if all(both)]
    empty_over = [_above(found[2]) for found, (_, empty) in zip(ratings, sound, strict=True) if empty]
    learn: list[Row] = []
    pairs: list[Row] = []
    for draft, row in zip(drafts, rows, strict=True):
        wins = _above(row["ratings"][0])
        if wins is None or row["answer"] == row["revision"] or (wins and row["fault"]):
            continue  # no verdict, no difference, or unfit to be learnt from
        revised = draft | {
            "text": row["revision"], "subject": f"{revising.speaker.subject.text}, revised",
            "seed": derive_seed(revising.seed, "revision", PRINCIPLED, draft["id"]),
        }  # fmt: skip
        chosen, rejected = (revised, draft) if wins else (draft, revised)
        pairs.append(pair_of(f"revised-{draft['id']}", chosen, rejected) | {"kind": "revision"})
        if wins:
            learn.append(learnt_row(revised))
    write_rows(folder / "revisions.jsonl", rows)
    write_json(folder / "counts.json", {
        "judge": revising.judge.name, "answers": len(rows), "learnt": len(learn), "pairs": len(pairs),
        "over the first answer": rate(over).as_dict(), "over an empty principle": rate(over_empty).as_dict(),
        "empty over the first answer": rate(empty_over).as_dict(), "outcomes": outcomes,
        "faults": dict(Counter(row["fault"] for row in rows if row["fault"])),
        "empty faults": dict(Counter(row["empty_fault"] for row in rows if row["empty_fault"])),
    })  # fmt: skip
    return learn, pairs


def _spoken(
    drafts: Sequence[Row],
    drawn: Sequence[tuple[str, str]],
    revising: Revising,
    journal: Journal,
    progress: Callable[[int], None],
) -> list[Row]:
    """Critiques and revisions of each draft, by the principle drawn for it (id and words) and by none."""
    texts = {PRINCIPLED: [words for _, words in drawn], EMPTY: [""] * len(drafts)}
    talks = [
        (kind, d["id"], words, (*d["messages"], assistant(d["text"]), critique_of(words)))
        for kind, held in texts.items() for d, words in zip(drafts, held, strict=True)
    ]  # fmt: skip

    def ask(step: str) -> list[Answer]:
        asks = [
            (revising.speaker, Request(messages, derive_seed(revising.seed, step, kind, id)))
            for kind, id, _, messages in talks
        ]
        return answer_all(asks, revising.sampler, journal, progress, revising.batch)

    critiques = [_text(answer) for answer in ask("critique")]
    talks = [
        (kind, id, words, (*messages, assistant(critique), revision_of(words)))
        for (kind, id, words, messages), critique in zip(talks, critiques, strict=True)
    ]
    answers = ask("revision")
    faults = [fault(a, learnt(a), revising.instructions, revising.character.language) for a in answers]
    rows, empty = [], len(drafts)  # those under no principle come after all others
    for n, (draft, (trait, _)) in enumerate(zip(drafts, drawn, strict=True)):
        rows.append({
            "id": draft["id"], "trait": trait, "answer": draft["text"], "critique": critiques[n],
            "revision": _text(answers[n]), "fault": faults[n], "empty_critique": critiques[empty + n],
            "empty_revision": _text(answers[empty + n]), "empty_fault": faults[empty + n],
        })  # fmt: skip
    return rows


def _text(answer: Answer) -> str:
    return learnt(answer) or answer.text.strip()


def texts_judged(judge: Judge) -> int:
    """How many texts a judge is shown of each draft: its three, or where it compares, each two of them."""
    return 3 if judge.alone else 2 * len(AGAINST)


def _two_by_two(
    cases: Sequence[Case], judge: Judge, journal: Journal, progress: Callable[[int], None]
) -> tuple[list[list[list[float | None]]], dict[str, int]]:
    """The ratings of each two in AGAINST, of every case, and what the judge said.

    One that compares is shown two at a time: with all three, what it says of the third would have a part in whether the
    revision is better than the first answer.
    """
    if judge.alone:
        rated = judge.rate(cases, journal, progress)
        return [[[values[a], values[b]] for a, b in AGAINST] for values in rated.values], rated.outcomes
    apart = [Case(case.messages, (case.answers[a], case.answers[b])) for case in cases for a, b in AGAINST]
    rated = judge.rate(apart, journal, progress)
    found = iter(rated.values)
    return [[list(next(found)) for _ in AGAINST] for _ in cases], rated.outcomes


def _above(ratings: Sequence[float | None]) -> bool | None:
    """Whether the first rating is above the second; a tie is as missing as a rating that was not given."""
    one, other = ratings
    return None if one is None or other is None or one == other else one > other
