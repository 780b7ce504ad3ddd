"""Passages of a person's writings and of others', split by document, and matched so that like is compared with like.

What is told apart is to be the author, and neither the sort of text nor its time or length: a judge that heard one
side's letters and the other's speeches would know letters.
"""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from charactery.data.writings import CAPTION, MONTHS, Writing, shingles, surname
from charactery.errors import BadData

LEAST = 20  # words of a passage
QUOTED = 8  # words in a row that a text about the author has of the author's, from which it quotes
SHARED = 0.2  # share of a passage's five-word runs that stand elsewhere, from which it is taken from there
LONGER = 1.25  # factor by which the words of matched passages may differ
YEARS = 25  # by which their dates may differ
A_DOCUMENT = 8  # held-out passages of one document, at most
AUTHOR, OTHERS, ABOUT = "author", "others", "about"
_END = re.compile(  # of a sentence; not after "Mr." or an initial
    r"(?<!\bMr\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\bNo\.)(?<!\bMrs\.)(?<!\bGen\.)(?<!\bHon\.)(?<!\bCol\.)(?<!\b[A-Z]\.)"
    r"(?:(?<=[.!?])|(?<=[.!?][\"”’)]))\s+(?=[\"“(]?[A-Z])"
)
_MONTH = "|".join(month[:3] for month in MONTHS)
_DATELINE = re.compile(  # a place and a date at the head of a letter; "On May 3, 1860, we met" is none
    r"^(?!(?:on|in|by|since|of|from|before|after|until)\b)(?:(?-i:[A-Z])\S*\s+){0,6}?"
    rf"(?:{_MONTH})[a-z]*\.?\s+\d{{1,2}}(?:st|nd|rd|th)?[,.]\s*\d{{4}}[.,:;\s-]*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Passage:
    """A piece of one document. `question` is what it might answer, once somebody has thought of that."""

    id: str
    document: str
    text: str
    genre: str = ""
    year: int | None = None
    question: str = ""

    @property
    def words(self) -> int:
        """How many."""
        return len(self.text.split())

    def row(self) -> dict[str, Any]:
        """As JSON lines carry it."""
        return dict(vars(self))


def cut(writing: Writing, most: int) -> list[Passage]:
    """A text in passages of 20 to `most` words that end with a sentence.

    Headings, datelines, addresses and signatures (paragraphs of fewer than twelve words) are left out: they say who
    writes without anything being said. A sentence longer than `most` is a passage by itself.
    """
    year = int(writing.date[:4]) if writing.date[:4].isdigit() else None
    texts: list[list[str]] = [[]]
    for sentence in _sentences(writing.text):
        if len(texts[-1]) + len(sentence) > most and texts[-1]:
            texts.append([])
        texts[-1] += sentence
    return [
        Passage(f"{writing.id}#{n}", writing.id, " ".join(words), writing.genre, year)
        for n, words in enumerate(texts) if len(words) >= LEAST
    ]  # fmt: skip


def _sentences(text: str) -> Iterator[list[str]]:
    for paragraph in re.split(r"\n\s*\n", text):
        flat = _DATELINE.sub("", " ".join(paragraph.split()))
        if len(flat.split()) >= CAPTION:
            yield from (sentence.split() for sentence in _END.split(flat))


@dataclass(frozen=True)
class Split:
    """Both sides' passages, those learnt from and those held out, and how many were left out, by reason."""

    learnt: dict[str, list[Passage]]
    held_out: dict[str, list[Passage]]
    left_out: dict[str, int]


def split(mine: Sequence[Writing], theirs: Sequence[Writing], author: str, words: int, share: float) -> Split:
    """Documents on one side or the other, every nth of each genre held out, in the order of their dates.

    Left out are: others' documents named after the author, passages that name the author, others' passages that hold
    the author's words, and held-out passages that hold words learnt from. Raises BadData where nothing is left.
    """
    name = surname(author)
    inside = re.compile(rf"\b(?:{re.escape(name)}|{re.escape(name.upper())})\b")
    left_out: Counter[str] = Counter()
    title = re.compile(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", re.IGNORECASE)
    named = [w for w in theirs if title.search(f"{w.id} {w.title}")]
    left_out["others' documents named after the author"] = len(named)
    given = {AUTHOR: list(mine), OTHERS: [w for w in theirs if w not in named]}
    learnt: dict[str, list[Passage]] = {}
    held_out: dict[str, list[Passage]] = {}
    his = {gram for writing in mine for gram in shingles(writing.text)}
    for side, writings in given.items():
        away = {f"{side}/{id}" for id in _held_out(writings, share)}
        passages = [  # either side may have numbered its texts from 1
            replace(p, id=f"{side}/{p.id}", document=f"{side}/{p.document}") for w in writings for p in cut(w, words)
        ]
        passages = _without(passages, left_out, "name the author", lambda p: bool(inside.search(p.text)))
        if side == OTHERS:
            passages = _without(passages, left_out, "others', and hold the author's words", partial(taken, known=his))
        learnt[side] = [p for p in passages if p.document not in away]
        rest = [p for p in passages if p.document in away]
        known = {gram for p in learnt[side] for gram in shingles(p.text)}
        held_out[side] = _without(rest, left_out, "held out, and hold words learnt from", partial(taken, known=known))
        if not learnt[side] or not held_out[side]:
            whose = {AUTHOR: "the author's", OTHERS: "the others'"}[side]
            raise BadData(
                f"of {whose} texts {len(learnt[side])} passages are left to learn from and {len(held_out[side])} to "
                "test on: give more texts, of 20 words and more each. "
                f"{left_out['name the author']} passages were left out because they name the author"
            )
    return Split(learnt, held_out, {reason: n for reason, n in left_out.items() if n})


def _held_out(writings: Sequence[Writing], share: float) -> set[str]:
    """Ids of every nth document of a genre by date, so that both parts are of all times; at least one of two."""
    by_genre: dict[str, list[Writing]] = defaultdict(list)
    for writing in writings:
        by_genre[writing.genre].append(writing)
    out: set[str] = set()
    for some in by_genre.values():
        some.sort(key=lambda w: (w.date, w.id))
        step = max(2, round(1 / share))
        out |= {w.id for w in some[min(step // 2, len(some) - 1) :: step]} if len(some) > 1 else set()
    return out


def taken(passage: Passage, known: set[tuple[str, ...]]) -> bool:
    """Whether a fifth of a passage's runs of five words are among those known."""
    mine = shingles(passage.text)
    return bool(mine) and len(mine & known) / len(mine) >= SHARED


def _without(
    passages: list[Passage], left_out: Counter[str], reason: str, wrong: Callable[[Passage], bool]
) -> list[Passage]:
    kept = [p for p in passages if not wrong(p)]
    left_out[reason] += len(passages) - len(kept)
    return kept


def alike(mine: Sequence[Passage], theirs: Sequence[Passage], most: int, seed: int) -> dict[str, list[Passage]]:
    """For the judge to learn from: as many passages of either side in each genre, at most `most` a side.

    The author's are drawn by the seed, and so are the others' of that time; where they are few, the nearest follow.
    Raises BadData where no genre has both.
    """
    rng = random.Random(seed)
    pools = {side: _by_genre(side_, rng) for side, side_ in ((AUTHOR, mine), (OTHERS, theirs))}
    room = {g: min(len(pools[AUTHOR][g]), len(pools[OTHERS][g])) for g in pools[AUTHOR] if g in pools[OTHERS]}
    if not room:
        kinds = {side: ", ".join(sorted(g or "unknown" for g in pool)) for side, pool in pools.items()}
        raise BadData(
            f"the others' texts ({kinds[OTHERS]}) are of no genre that the author's are of ({kinds[AUTHOR]}): a judge "
            "of the two would know the genre. Give others' texts of a kind with the author's, or name it (\"genre\")"
        )
    share = min(1.0, most / sum(room.values()))
    years = sorted(p.year for p in mine if p.year is not None)
    years = years[len(years) // 20 : len(years) - len(years) // 20]  # a date in a text may be what it tells of
    out: dict[str, list[Passage]] = {AUTHOR: [], OTHERS: []}
    for genre, there in room.items():
        count = max(1, round(share * there))
        out[AUTHOR] += pools[AUTHOR][genre][:count]
        out[OTHERS] += sorted(pools[OTHERS][genre], key=lambda p: _apart(p, years))[:count]
    return out


def _by_genre(passages: Sequence[Passage], rng: random.Random) -> dict[str, list[Passage]]:
    out: dict[str, list[Passage]] = defaultdict(list)
    for passage in rng.sample(list(passages), len(passages)):
        out[passage.genre].append(passage)
    return out


def _apart(passage: Passage, years: Sequence[int]) -> int:
    """Years from the time in which the author wrote, given in order, and 25 on either side of it."""
    if passage.year is None or not years:
        return 0
    return max(years[0] - passage.year - YEARS, passage.year - years[-1] - YEARS, 0)


def about(writings: Sequence[Writing], his: Sequence[Writing], words: int, most: int, seed: int) -> list[Passage]:
    """Passages of texts about the author, at most so many, drawn by the seed.

    None that has eight words in a row of the author's: they would be learnt as somebody else's, and held-out ones be
    seen. Raises BadData where none is left.
    """
    known = {run for writing in his for run in shingles(writing.text, QUOTED)}
    passages = [
        replace(p, id=f"{ABOUT}/{p.id}", document=f"{ABOUT}/{p.document}") for w in writings for p in cut(w, words)
    ]
    fit = [p for p in passages if not shingles(p.text, QUOTED) & known]
    if not fit:
        raise BadData(
            f"the texts about the author have {len(passages)} passages of {LEAST} words and more, and none that is not "
            "the author's own words: give others"
        )
    return random.Random(seed).sample(fit, min(most, len(fit)))


def match(
    mine: Sequence[Passage], theirs: Sequence[Passage], most: int, seed: int
) -> tuple[list[tuple[Passage, Passage]], dict[str, int]]:
    """Held-out passages of the author, each with another's of its genre, of like length and nearest in date.

    At most `most`, eight of one document; each is used once. Then how many had no match, by genre.
    """
    rng = random.Random(seed)
    free = _few_of_each(theirs, rng)
    pairs: list[tuple[Passage, Passage]] = []
    lone: Counter[str] = Counter()
    for passage in _few_of_each(mine, rng):
        if len(pairs) == most:
            break
        fit = [p for p in free if _alike(passage, p)]
        if not fit:
            lone[passage.genre] += 1
            continue
        near = min(fit, key=lambda p: (_between(passage, p), abs(passage.words - p.words)))
        free.remove(near)
        pairs.append((passage, near))
    return pairs, dict(lone)


def _few_of_each(passages: Sequence[Passage], rng: random.Random) -> list[Passage]:
    """In an order drawn anew, a document's ninth and later ones left out."""
    seen: Counter[str] = Counter()
    out = []
    for passage in rng.sample(list(passages), len(passages)):
        seen[passage.document] += 1
        if seen[passage.document] <= A_DOCUMENT:
            out.append(passage)
    return out


def _between(one: Passage, other: Passage) -> int:
    return abs(one.year - other.year) if one.year is not None and other.year is not None else 0


def _alike(one: Passage, other: Passage) -> bool:
    short, long = sorted((one.words, other.words))
    dated = (one.year is None) == (other.year is None)
    return one.genre == other.genre and long <= LONGER * short and dated and _between(one, other) <= YEARS


def asked(passages: Sequence[Passage], questions: dict[str, str]) -> list[Passage]:
    """The passages with their questions, by id."""
    return [replace(p, question=questions[p.id]) for p in passages]
