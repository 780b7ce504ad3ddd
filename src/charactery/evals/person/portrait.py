"""What a model trained on a person's writings is like: whose words it speaks in, and what it makes of later things."""

import re
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charactery.data.writings import Writing, shingles, years_of
from charactery.evals.person.claims import claim_figures
from charactery.evals.scored import option_scores
from charactery.judges.authorship import ByAuthorship
from charactery.judges.classifier import FALSE_POSITIVES, heard_of
from charactery.judges.rating import Case
from charactery.models.chat import user
from charactery.models.local import Request, Sampler, derive_seed
from charactery.models.speaker import BATCH, Speaker, answer_all
from charactery.runs import Journal, Row, digest, read_rows, write_json, write_rows
from charactery.stats import Estimate, auc, mean, paired_difference, rate

HERE = Path(__file__).parent
COPIED = 8  # words in a row that stand in the writings, from which an answer copies
LONG_KNOWN = 20  # years that a thing had been about when the writings end, from which the person knew it
LATER, KNOWN = "never known", "known"
# Replies that do not know the thing asked about, then replies that do, of like length; put to every question alike.
REPLIES = (
    "I have never heard of such a thing.", "I do not know what that is.", "That is unknown to me.",
    "I know it very well indeed.", "I have often heard of it.", "That is well known to me.",
)  # fmt: skip
NOT_KNOWN = re.compile(
    r"\b(?:never|not|no) (?:(?!doubt\b|only\b)\w+ ){0,2}?(?:heard|known?|knew|knowledge|acquainted|familiar|aware)\b"
    r"|\bkn[eo]w (?:not(?! only\b)|nothing|naught|nought)\b"
    r"|n['’]t (?:\w+ ){0,2}?(?:heard|know|familiar|aware)\b"
    r"|\bunknown to me\b|\bno (?:idea|notion)\b|\bno such (?:thing|\w+)\b|\b(?:ignorant|unaware) of\b"
    r"|\bafter my time\b|\bwhat (?:is|are) (?:(?:a|an|this|that|these|those) )?[^.?!]*\?\W*\Z",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Sitter:
    """Who is portrayed. `subjects` by role (plain, prompted, trained); `answers` are the rows of the evals."""

    subjects: dict[str, Speaker]
    answers: Sequence[Row]
    judge: ByAuthorship
    threshold: float | None  # of the judge, which one in twenty of others' passages exceeds
    writings: Sequence[Writing]
    sampler: Sampler
    seed: int
    folder: Path
    batch: int = BATCH
    progress: Callable[[int], None] = lambda done: None
    begun: str | None = None  # as `heard_of` takes it: where reasoning is left free, none of it is the person's


def work_ahead(answers: Sequence[Row], subjects: Container[str], last: int | None) -> int:
    """How much there is to do, in answers, for these subjects."""
    asked = things(last)
    spoken = [r["subject"] for r in first_answers(answers) if r["subject"] in subjects]
    return len(spoken) + len({*spoken}) * len(asked)


def portray(sitter: Sitter) -> None:
    """Write answers.jsonl (authorship by answer), later.jsonl (answers about things by year) and person.json."""
    journal = Journal(sitter.folder / "batches.jsonl")
    authorship, threshold = _authorship(sitter, journal)
    last = last_year(sitter.writings)
    write_json(sitter.folder / "person.json", {
        "threshold": threshold, "authorship": authorship, "last_year": last,
        "later": _later(sitter, last, journal), "claims": claim_figures(sitter.subjects, sitter.seed, journal),
    })  # fmt: skip


def last_year(writings: Sequence[Writing]) -> int | None:
    """The year in which the writings end, None where none is dated."""
    years = years_of(writings)
    return years[1] if years else None


def first_answers(rows: Sequence[Row]) -> list[Row]:
    """The evals' answers to held-out prompts, without a system message and at the first turn."""
    return [r for r in rows if r["eval"] == "expression" and r["condition"] == "turn 1"]


def _authorship(sitter: Sitter, journal: Journal) -> tuple[dict[str, Any], float | None]:
    """The judge's score of each subject's answers, how many pass for the author's, how many copy; and the threshold."""
    spoken = [r for r in first_answers(sitter.answers) if r["subject"] in sitter.subjects]
    cases = [Case((user(r["messages"][-2]["content"]),), (r["answer"],)) for r in spoken]
    scores = [v for (v,) in sitter.judge.rate(cases, journal, sitter.progress).values]
    known = {run for w in sitter.writings for run in shingles(w.text, COPIED)}
    rows: list[Row] = [
        {"subject": r["subject"], "id": r["id"], "score": score, "answer": r["answer"],
         "copied": bool(shingles(r["answer"], COPIED) & known) if r["answer"].strip() else None}
        for r, score in zip(spoken, scores, strict=True)
    ]  # fmt: skip
    write_rows(sitter.folder / "answers.jsonl", rows)
    by_role = {role: [r for r in rows if r["subject"] == role] for role in sitter.subjects}
    threshold = passing(sitter.threshold, [r["score"] for r in by_role.get("plain", [])])
    out: dict[str, Any] = {}
    for role, mine in by_role.items():
        values = [r["score"] for r in mine]
        out[role] = {
            "score": mean(values, sitter.seed, "nats per token").as_dict(),
            "pass": rate([_above(v, threshold) for v in values]).as_dict(),
            "copied": rate([r["copied"] for r in mine]).as_dict(),
        }
        if role != "plain" and "plain" in by_role:
            plain = {r["id"]: r["score"] for r in by_role["plain"]}
            base = [plain.get(r["id"]) for r in mine]
            out[role]["above plain"] = paired_difference(values, base, sitter.seed, "nats per token").as_dict()
    return out, threshold


def passing(threshold: float | None, plain: Sequence[float | None]) -> float | None:
    """What an answer must exceed to pass for the author's: one in twenty of others' passages do, and of plain answers.

    Others' passages alone say nothing of answers of today, which may be unlike either side.
    """
    known = sorted((v for v in plain if v is not None), reverse=True)
    bounds = [known[int(FALSE_POSITIVES * len(known))]] if known else []
    return max([*bounds, *([] if threshold is None else [threshold])], default=None)


def _above(score: float | None, threshold: float | None) -> bool | None:
    return None if score is None or threshold is None else score > threshold


def things(last: int | None) -> list[Row]:
    """What is asked about, with whether the person never knew it or did; things of the years between are left out."""
    if last is None:
        return []
    rows = read_rows(HERE / "things.jsonl")
    later = [row | {"kind": LATER} for row in rows if row["year"] > last]
    return later + [row | {"kind": KNOWN} for row in rows if row["year"] <= last - LONG_KNOWN]


def _later(sitter: Sitter, last: int | None, journal: Journal) -> dict[str, Any]:
    """How often each subject says that it does not know a thing, and whether it leans to that more of later things."""
    asked = things(last)
    out: dict[str, Any] = {}
    rows: list[Row] = []
    for role, speaker in sitter.subjects.items():
        requests = [Request((user(row["prompt"]),), derive_seed(sitter.seed, "thing", row["id"])) for row in asked]
        answers = answer_all([(speaker, r) for r in requests], sitter.sampler, journal, sitter.progress, sitter.batch)
        said = [heard_of(answer.text, sitter.begun) for answer in answers]
        mine = [
            row | {"subject": role, "answer": text, "says not known": says_not_known(text), "margin": margin}
            for row, text, margin in zip(asked, said, _margins(speaker, asked, journal), strict=True)
        ]
        rows += mine
        by_kind = {kind: [r for r in mine if r["kind"] == kind] for kind in (LATER, KNOWN)}
        known, later = ([r["margin"] for r in by_kind[kind]] for kind in (KNOWN, LATER))
        out[role] = {
            **{kind: rate([r["says not known"] for r in some]).as_dict() for kind, some in by_kind.items()},
            "told apart": auc(known, later, sitter.seed).as_dict(),
        }
    write_rows(sitter.folder / "later.jsonl", rows)
    return out


def says_not_known(answer: str) -> bool | None:
    """Whether an answer says, in words that NOT_KNOWN lists, that it does not know; None for an empty one."""
    return bool(NOT_KNOWN.search(answer)) if answer.strip() else None


def found_in_labelled() -> dict[bool, Estimate]:
    """Of labelled answers that do not know (True), and of those that do, in what share that is found.

    They were written for this, in old words and in today's; none of them made the list what it is.
    """
    rows = read_rows(HERE / "not_known.jsonl")
    sides = {label: [row["answer"] for row in rows if row["not known"] is label] for label in (True, False)}
    return {label: rate([says_not_known(answer) for answer in said]) for label, said in sides.items()}


def _margins(speaker: Speaker, asked: Sequence[Row], journal: Journal) -> list[float | None]:
    """By thing, how much likelier the replies that do not know it are than those that do, in nats a token."""
    rows = [{"id": row["id"], "question": row["prompt"], "options": list(REPLIES)} for row in asked]
    key = digest(["replies", speaker.identity, speaker.prompt([]), rows])
    if key not in journal.done:
        scores = option_scores(speaker, rows)
        journal.add(key, [scores.get(row["id"]) for row in rows])
    half = len(REPLIES) // 2
    return [v and sum(v[:half]) / half - sum(v[half:]) / half for v in journal.done[key]]
