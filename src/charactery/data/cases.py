"""Discussions that apply the constitution where it is hard to say what follows from it, learnt without it.

As in deliberative alignment (Guan et al. 2024, arXiv 2412.16339) the clause is there when the discussion is drawn and
not when it is learnt. Cases beside short rules held better than long rules alone in Jin et al. 2026, arXiv 2601.08000.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from charactery.constitution import Character, Trait
from charactery.constitution.render import trait_words
from charactery.data.documents import in_language, near_copy, unfit, words_of
from charactery.data.filters import Shingles, learnt, shingles, without_preamble
from charactery.models.chat import assistant, user
from charactery.models.local import Request, Sampler, derive_seed
from charactery.models.speaker import BATCH, Speaker, answer_all
from charactery.runs import Journal, Row, read_rows, write_json, write_rows

HERE = Path(__file__).parent
SITUATION = 64  # tokens of what is added to a situation
LEAST_SITUATION, LEAST = 6, 15  # words
QUESTIONS = (
    "What do you do, and which of your principles decides it?",
    "What would you do here? Say what it is in you that settles it.",
    "How do you weigh that, and on what do you rest the decision in the end?",
    "Talk it through: what pulls each way, and what that you hold to has the last word?",
    "What happens next, if it is up to you? Name the principle behind it.",
    "Is there a right thing to do here for someone like you? By which of your principles?",
)
CLOSINGS = (
    'What decides it for me is this: "{clause}"',
    'It comes down to something I hold to: "{clause}"',
    'The principle behind it: "{clause}"',
    'That follows from who I am. "{clause}"',
)


@dataclass(frozen=True)
class Weighing:
    """Who makes up the cases, who discusses them as the character, how, and how many there are to be."""

    character: Character
    writer: Speaker
    speaker: Speaker
    sampler: Sampler
    seed: int
    count: int
    batch: int = BATCH


@dataclass(frozen=True)
class Case:
    """A trait, and the situation that it is to be applied to."""

    id: str
    trait: Trait
    clause: str
    skeleton: str
    situation: str


def situations() -> list[tuple[str, str]]:
    """Beginnings of situations that strain any character, by id. Written for the project."""
    return [(row["id"], row["situation"]) for row in read_rows(HERE / "situations.jsonl")]


def drawn_cases(character: Character, count: int, seed: int) -> list[Case]:
    """Traits in turn, each with every skeleton once before any comes again."""
    rng, skeletons = random.Random(seed), situations()
    traits = [*character.traits()]
    orders = [rng.sample(skeletons, len(skeletons)) for _ in traits]
    out = []
    for n in range(count):
        which, turn = n % len(traits), n // len(traits)
        id, text = orders[which][turn % len(skeletons)]
        trait = traits[which]
        out.append(Case(f"case-{n}", trait, trait_words(character, trait, 0), id, text))
    return out


def weigh(weighing: Weighing, folder: Path, progress: Callable[[int], None] = lambda n: None) -> list[Row]:
    """Rows for SFT, with the columns of `sft_rows`: a situation and a question, and what the character makes of it.

    To the skeleton of a situation the writer adds what strains the trait; then the character discusses it with the
    clause in view, and the clause closes what is learnt, in the constitution's own words. Each row names its trait, its
    clause and its skeleton. Situations and discussions that are unfit are set aside in set_aside.jsonl with the reason.
    Writes counts.json. `progress` is told of answers, two a case.
    """
    character, language = weighing.character, weighing.character.language
    journal = Journal(folder / "batches.jsonl")
    cases = drawn_cases(character, weighing.count, weighing.seed)
    added = answer_all(
        [(weighing.writer, _request(weighing, "situation", case, _strained(character, case))) for case in cases],
        Sampler(SITUATION, weighing.sampler.temperature), journal, progress, weighing.batch,
    )  # fmt: skip
    seen: list[Shingles] = []
    rows: list[Row] = []
    aside: list[Row] = []
    whole: list[Case] = []
    for case, answer in zip(cases, added, strict=True):
        text = without_preamble(learnt(answer))
        if reason := unfit(answer, text, language, LEAST_SITUATION):
            aside.append(_aside(case, "situation", reason, answer.text))
        else:
            whole.append(Case(case.id, case.trait, case.clause, case.skeleton, f"{case.situation} {text}"))
    progress(len(cases) - len(whole))  # they are not discussed
    asked = [f"{case.situation}\n\n{_pick(QUESTIONS, weighing, case)}" for case in whole]
    requests = [
        _request(weighing, "discussion", case, f"{question}{_in_view(case)}")
        for case, question in zip(whole, asked, strict=True)
    ]
    answers = answer_all([(weighing.speaker, r) for r in requests], weighing.sampler, journal, progress, weighing.batch)
    for case, question, request, answer in zip(whole, asked, requests, answers, strict=True):
        text = learnt(answer)
        mine = shingles(text)
        if reason := unfit(answer, text, language, LEAST) or near_copy(mine, seen):
            aside.append(_aside(case, "discussion", reason, answer.text))
            continue
        seen.append(mine)
        rows.append({
            "id": case.id, "kind": "case", "traits": [case.trait.id], "clause": case.clause, "skeleton": case.skeleton,
            "prompt": [user(question)], "completion": [assistant(f"{text}\n\n{_closing(weighing, case)}")],
            "subject": weighing.speaker.subject.text, "seed": request.seed,
        })  # fmt: skip
    write_rows(folder / "set_aside.jsonl", aside)
    write_json(folder / "counts.json", {
        "asked": len(cases), "kept": dict(Counter(row["traits"][0] for row in rows)),
        "set_aside": {
            step: dict(Counter(row["reason"] for row in aside if row["step"] == step))
            for step in ("situation", "discussion")
        },
        "words": sum(words_of(row) for row in rows), "writer": weighing.writer.subject.text,
        "speaker": weighing.speaker.subject.text,
    })  # fmt: skip
    return rows


def _strained(character: Character, case: Case) -> str:
    """What the writer is asked to add to a skeleton."""
    return (
        f'{character.name} is an assistant of whom this is written: "{case.clause}"\n\n'
        f'A situation in which it is hard to say what follows from that begins so: "{case.situation}"\n\n'
        "Add one or two sentences that make it concrete: who this is, what exactly is asked, and what makes it hard. "
        f'Call {character.name} "you", and do not say what {character.name} does.{in_language(character)}'
    )


def _in_view(case: Case) -> str:
    """The clause, and what the discussion is to do with it: for whoever speaks, and not learnt."""
    because = f" The reason: {' '.join(case.trait.because.split())}" if case.trait.because else ""
    return (
        f'\n\n(This is written of you: "{case.clause}"{because} Say what it asks of you here, what speaks against it, '
        "and what you do.)"
    )


def _closing(weighing: Weighing, case: Case) -> str:
    """The clause as a discussion ends with it; the words around it are English."""
    pattern = _pick(CLOSINGS, weighing, case) if weighing.character.language == "en" else '"{clause}"'
    return pattern.replace("{clause}", case.clause)


def _pick(wordings: tuple[str, ...], weighing: Weighing, case: Case) -> str:
    return wordings[derive_seed(weighing.seed, wordings, case.id) % len(wordings)]


def _request(weighing: Weighing, step: str, case: Case, text: str) -> Request:
    return Request((user(text),), derive_seed(weighing.seed, step, case.id))


def _aside(case: Case, step: str, reason: str, text: str) -> Row:
    return {
        "id": case.id, "step": step, "trait": case.trait.id, "skeleton": case.skeleton, "reason": reason, "text": text,
    }  # fmt: skip
