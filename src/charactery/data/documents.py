"""The constitution as documents: its own text, and texts of many kinds about the character, learnt as they stand.

Synthetic document finetuning (Wang et al. 2025, https://alignment.anthropic.com/2025/modifying-beliefs-via-sdf/), here
of what a model is meant to be (Li et al. 2026, arXiv 2605.02087). A document is a row without a prompt: plain text.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import lcm
from pathlib import Path

from charactery.constitution import Character, document
from charactery.data.filters import Shingles, copies, count_words, fault, learnt, refuses, shingles, without_preamble
from charactery.models.chat import assistant, user
from charactery.models.local import Answer, Request, Sampler, derive_seed
from charactery.models.speaker import BATCH, Speaker, answer_all
from charactery.runs import Journal, Row, read_rows, write_json, write_rows

HERE = Path(__file__).parent
LEAST = 20  # words of a document
WORDS_A_TOKEN = 0.7
CONSTITUTION = "constitution"  # the kind of a row, and the form of a document, that is the constitution's own text


@dataclass(frozen=True)
class Passage:
    """A part of the constitution: its text, and the ids of the traits that it tells of."""

    text: str
    traits: tuple[str, ...]


@dataclass(frozen=True)
class Describing:
    """Who writes about whom, how, and how much: documents, and rows of the constitution's own text to each of them."""

    character: Character
    speaker: Speaker
    sampler: Sampler
    seed: int
    count: int
    verbatim: float
    batch: int = BATCH


def forms() -> list[tuple[str, str]]:
    """The kinds of document, each with what is asked of its writer. Written for the project."""
    return [(row["form"], row["ask"]) for row in read_rows(HERE / "document_kinds.jsonl")]


def constitution(character: Character) -> str:
    """What is stated of a character, in words: its page for people, less notes and traits that do not count."""
    sections = [
        replace(s, traits=tuple(t for t in s.traits if t.weight > 0)) for s in character.sections if not s.notes
    ]
    return document(replace(character, sections=tuple(s for s in sections if s.traits or s.text)), character.mix)


def passages(character: Character, tokens: int) -> list[Passage]:
    """The constitution in parts of at most about so many tokens: one from its beginning, and one from each trait on.

    A part goes on into the traits that follow as long as they fit whole, so that their order is in it too. A trait that
    does not fit is cut between paragraphs. Every part is headed with the character's name.
    """
    most, title = WORDS_A_TOKEN * tokens, f"# {character.name}"
    blocks = [(trait, [text for _, text in texts]) for trait, texts in groupby(_blocks(character), lambda b: b[0])]
    out = []
    for n in range(len(blocks)):
        end = n + 1
        while end < len(blocks) and sum(count_words(t) for _, texts in blocks[n : end + 1] for t in texts) <= most:
            end += 1
        traits = tuple(trait for trait, _ in blocks[n:end] if trait)
        for part in _parts([text for _, texts in blocks[n:end] for text in texts], most):
            out.append(Passage("\n\n".join(part if part[0] == title else [title, *part]), traits))
    return out


def _parts(texts: Sequence[str], most: float) -> list[list[str]]:
    """Paragraphs in parts of at most so many words, or of one paragraph."""
    parts: list[list[str]] = [[]]
    for text in texts:
        if parts[-1] and sum(map(count_words, (*parts[-1], text))) > most:
            parts.append([])
        parts[-1].append(text)
    return parts


def _blocks(character: Character) -> Iterator[tuple[str, str]]:
    """The constitution's paragraphs, each with the trait it is of; headings of sections go with what follows them."""
    ids = iter([t.id for s in character.sections if not s.notes for t in s.traits if t.weight > 0])
    trait, heading = "", ""
    for text in constitution(character).strip().split("\n\n"):
        if text.startswith("## "):
            trait, heading = "", f"{text}\n\n"
            continue
        if text.startswith("### "):
            trait = next(ids, trait)
        yield trait, heading + text
        heading = ""


def describe(describing: Describing, folder: Path, progress: Callable[[int], None] = lambda n: None) -> list[Row]:
    """Rows for SFT without a prompt: documents about the character, then the constitution's own text, part by part.

    Each is about a passage, whose traits the row names; kinds and passages come in turn. What is unfit, or a copy of
    the constitution or of an earlier document, is set aside in set_aside.jsonl with the reason. Writes counts.json.
    """
    kinds, parts = forms(), passages(describing.character, describing.sampler.max_tokens)
    random.Random(describing.seed).shuffle(kinds)
    round_ = lcm(len(kinds), len(parts))  # after which kinds and passages would meet as before
    drawn = [(kinds[(n + n // round_) % len(kinds)], parts[n % len(parts)]) for n in range(describing.count)]
    requests = [
        Request((user(_asked(describing.character, part, ask)),), derive_seed(describing.seed, "document", n))
        for n, ((_, ask), part) in enumerate(drawn)
    ]
    answers = answer_all(
        [(describing.speaker, request) for request in requests], describing.sampler, Journal(folder / "batches.jsonl"),
        progress, describing.batch,
    )  # fmt: skip
    own = shingles(constitution(describing.character))
    seen: list[Shingles] = []
    rows: list[Row] = []
    aside: list[Row] = []
    for n, (((form, _), part), request, answer) in enumerate(zip(drawn, requests, answers, strict=True)):
        text = without_preamble(learnt(answer))
        mine = shingles(text)
        reason = unfit(answer, text, describing.character.language, LEAST)
        if not reason and copies(mine, own):
            reason = "a copy of the constitution"
        if reason := reason or near_copy(mine, seen):
            aside.append({"id": f"document-{n}", "form": form, "reason": reason, "text": answer.text})
            continue
        seen.append(mine)
        rows.append({
            "id": f"document-{n}", "kind": "document", "form": form, "traits": list(part.traits), "prompt": [],
            "completion": [assistant(text)], "subject": describing.speaker.subject.text, "seed": request.seed,
        })  # fmt: skip
    verbatim = [
        {
            "id": f"constitution-{n}", "kind": CONSTITUTION, "form": CONSTITUTION,
            "traits": list(parts[n % len(parts)].traits), "prompt": [],
            "completion": [assistant(parts[n % len(parts)].text)], "subject": "the constitution", "seed": n,
        }
        for n in range(max(len(parts), round(describing.verbatim * len(rows))))
    ]  # fmt: skip
    write_rows(folder / "set_aside.jsonl", aside)
    write_json(folder / "counts.json", {
        "asked": len(drawn), "kept": dict(Counter(row["form"] for row in rows)), "constitution": len(verbatim),
        "passages": len(parts), "set_aside": dict(Counter(row["reason"] for row in aside)),
        "words": sum(words_of(row) for row in rows), "constitution_words": sum(words_of(row) for row in verbatim),
        "writer": describing.speaker.subject.text,
    })  # fmt: skip
    return [*rows, *verbatim]


def _asked(character: Character, part: Passage, ask: str) -> str:
    """What the writer is asked. The passage comes first, so that documents about it share its reading."""
    name = character.name
    asked = (
        f'{name} is an assistant. This is what was written down of who {name} is; "you" in it is {name}:\n\n'
        f"{part.text}\n\n{ask.replace('{name}', name)} Keep to what the text says, in words of your own, about a "
        "hundred of them. Reply with the finished text alone."
    )
    return asked + in_language(character)


def in_language(character: Character) -> str:
    """What is added to a request for text about a character that is written in another language than English."""
    return "" if character.language == "en" else f' Write in the language with the code "{character.language}".'


def unfit(answer: Answer, text: str, language: str, least: int) -> str | None:
    """Why an answer is not learnt from, or None; to repeat the constitution's words is no fault here."""
    return fault(answer, text, "", language, least) or ("refusing" if refuses(text) else None)


def near_copy(mine: Shingles, seen: Sequence[Shingles]) -> str | None:
    """Whether most of a text is in one seen before, as a reason to set it aside."""
    return "a near-copy of another" if any(copies(mine, one) for one in seen) else None


def words_of(row: Row) -> int:
    """How many words of a row of SFT are learnt."""
    return count_words(row["completion"][0]["content"])
