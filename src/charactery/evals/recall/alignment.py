"""Clauses of a text, and which of them come back in a recital, and how.

A sentence brings a clause back where it holds half and more of the clause's words that carry it, each weighing as rare
as it is. Where clauses share words, a sentence that brings one of them back must hold half of what is left of the other
as well. What was said more or less strongly than the text has it is told by words such as "always" and "sometimes".
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from charactery.constitution import Character, find_character, system_prompt
from charactery.constitution.library import bundled_names

KEPT, WEAKENED, STRENGTHENED, REVERSED, LEFT_OUT = VERDICTS = (
    "kept", "weakened", "strengthened", "reversed", "left out",
)  # fmt: skip
COVER = 0.5  # share of a clause's words, by weight, that a sentence must hold
SUPPORT = 0.3  # share of a sentence's words that must stand in some clause, else it is invented
AGAIN = 3  # so many times the same sentence, or the same run of words, is a loop
RUN = 8  # words

_STOP = frozenset(
    "a about after again all also am an and any are as at be because been being but by can could did do does doing for"
    " from had has have he her him his how i if in into is it its itself let like me more most my myself of on one only"
    " or other our out own s same say says she so some such t than that the their them then there these they this"
    " those to too up us very was we were what when where which while who whom why will with would you your yours"
    " yourself ll re ve d m".split()
)
_NEGATIONS = frozenset("no not never nobody nothing none nor neither cannot without".split())
_STRONG = (
    "always", "never", "must", "every", "all", "only", "without exception", "whatever happens", "at all times",
    "absolutely", "under no circumstances", "no matter", "strictly", "completely", "entirely",
)  # fmt: skip
_HEDGES = (
    "sometimes", "usually", "often", "mostly", "generally", "occasionally", "perhaps", "maybe", "may", "might", "try",
    "tries", "trying", "tend", "tends", "prefer", "where possible", "if possible", "as a rule", "rarely", "at times",
    "now and then", "in most cases", "a little", "somewhat", "should",
)  # fmt: skip
_STRONG_RE, _HEDGE_RE = (
    re.compile(rf"\b({'|'.join(map(re.escape, words))})\b", re.IGNORECASE) for words in (_STRONG, _HEDGES)
)
_SELF = re.compile(r"\b(i|you|we|my|your|me|myself|yourself|assistant|model)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Clause:
    """A sentence of a constitution and the heading that it stands under."""

    section: str
    text: str


@lru_cache(maxsize=4096)
def sentences(text: str) -> tuple[str, ...]:
    """Sentences of a text, list marks and emphasis taken off; a line's end ends one as well."""
    lines = [re.sub(r"^\W*(\d+[.)])?\W*", "", line).replace("*", "").strip() for line in text.splitlines()]
    return tuple(part.strip() for line in lines for part in re.split(r"(?<=[.!?;])\s+", line) if part.strip())


def stems(text: str) -> frozenset[str]:
    """The words that carry a text, less their endings."""
    found = re.findall(r"[a-z]+", text.lower().replace("’", "'").replace("n't", " not"))
    return frozenset(_stem(w) for w in found if w not in _STOP and w not in _NEGATIONS)


def _stem(word: str) -> str:
    short = re.sub(r"(ingly|edly|ings|ing|ies|ied|ed|es|ly|s)$", "", word) if len(word) > 4 else word.removesuffix("s")
    return re.sub(r"(.)\1$", r"\1", short.removesuffix("e")) if len(short) > 2 else word


def character_clauses(character: Character) -> list[Clause]:
    """The clauses of what a model reads to be this character, in its order."""
    out, section = [], ""
    for line in system_prompt(character).splitlines():
        if line.endswith(":") and not line.startswith("- "):
            section = line[:-1]
            continue
        out += [Clause(section, sentence) for sentence in sentences(line)]
    return telling(out)


def spec_clauses(text: str) -> list[Clause]:
    """The sentences of a specification in markdown that say what must, should or must not be, by heading."""
    out, section, fenced = [], "", False
    for line in text.splitlines():
        if line.startswith(("~~~", "```")):
            fenced = not fenced
        elif heading := re.match(r"#+ (.*?)( \{.*)?$", line):
            section = section if fenced else heading[1]
        elif not fenced and not line.startswith(("**Example", "<", "|", "[^")):
            plain = re.sub(r"\[\^[^]]*\]|\(#[^)]*\)|\[([^]]*)\]\([^)]*\)", r"\1", line)
            out += [Clause(section, s) for s in sentences(plain) if _RULE.search(s)]
    return telling(out)


_RULE = re.compile(r"\b(should|must|never|cannot|may not|required|prohibited|shouldn['’]t)\b", re.IGNORECASE)


def telling(clauses: Sequence[Clause]) -> list[Clause]:
    """Those with words enough to be known again, each once."""
    return [c for c in dict.fromkeys(clauses) if len(stems(c.text)) >= 2]


@lru_cache(maxsize=1)
def _rarity() -> tuple[Counter[str], int]:
    """In how many clauses of the bundled characters a word stands, and how many there are."""
    known = [stems(c.text) for name in bundled_names() for c in character_clauses(find_character(name))]
    return Counter(stem for one in known for stem in one), len(known)


def weight(stem: str) -> float:
    """How much a word tells."""
    counts, total = _rarity()
    return math.log(1 + total / (1 + counts[stem]))


def _mass(of: frozenset[str]) -> float:
    return math.fsum(map(weight, of))


def verdict(clause: str, sentence: str) -> str:
    """What a sentence makes of a clause: kept, weakened, strengthened or reversed; else the clause is left out."""
    mine, theirs = stems(clause), stems(sentence)
    common = mine & theirs
    if len(common) < 2 or _mass(common) < COVER * _mass(mine):
        return LEFT_OUT
    if _denies(clause) != _denies(sentence):
        return REVERSED
    apart = _degree(sentence) - _degree(clause)
    return KEPT if apart == 0 else STRENGTHENED if apart > 0 else WEAKENED


def back(told: str) -> bool:
    """Whether a verdict is that the clause came back, in whatever form. What is denied did not."""
    return told not in (LEFT_OUT, REVERSED)


def _denies(text: str) -> bool:
    plain = re.sub(r"without exception|no matter", " ", text.lower().replace("’", "'").replace("n't", " not"))
    return bool(_NEGATIONS.intersection(re.findall(r"[a-z]+", plain)))


def _degree(text: str) -> int:
    plain = _HEDGE_RE.sub(" ", text)
    return (_STRONG_RE.search(plain) is not None) - (_HEDGE_RE.search(text) is not None)


@dataclass(frozen=True)
class Text:
    """A constitution to look recitals up in. What was looked up is kept, for recitals repeat themselves."""

    clauses: tuple[str, ...]
    _known: dict[str, tuple[tuple[tuple[int, float, str], ...], bool]] = field(default_factory=dict, compare=False)

    def found(self, sentence: str) -> tuple[tuple[tuple[int, float, str], ...], bool]:
        """The clauses that a sentence brings back (place, how much of it, verdict), and whether any supports it."""
        if sentence not in self._known:
            said = stems(sentence)
            likely, whole = [], _mass(said)
            supported = not whole
            for n, clause in enumerate(self.clauses):
                mine = _stems_of(clause)
                shared = _mass(said & mine)
                supported |= shared >= SUPPORT * whole
                if shared >= COVER * _mass(mine) and (told := verdict(clause, sentence)) != LEFT_OUT:
                    likely.append((shared / _mass(mine), -n, told))
            hits: list[tuple[int, float, str]] = []
            taken: frozenset[str] = frozenset()
            for cover, place, told in sorted(likely, reverse=True):
                own = _stems_of(self.clauses[-place]) - taken
                if _mass(own & said) >= COVER * _mass(own):
                    hits.append((-place, cover, told))
                    taken |= own
            self._known[sentence] = (tuple(hits), supported)
        return self._known[sentence]

    def recalled(self, recital: str) -> list[str]:
        """A verdict by clause, of the sentence that brings most of it back; the earlier where two tie."""
        best: dict[int, tuple[float, str]] = {}
        for sentence in sentences(recital):
            for n, cover, told in self.found(sentence)[0]:
                if n not in best or cover > best[n][0]:
                    best[n] = (cover, told)
        return [best[n][1] if n in best else LEFT_OUT for n in range(len(self.clauses))]


@lru_cache(maxsize=4096)
def _stems_of(clause: str) -> frozenset[str]:
    return stems(clause)


@lru_cache(maxsize=256)
def text_of(clauses: tuple[str, ...]) -> Text:
    """The text of these clauses, the same each time."""
    return Text(clauses)


def claims(recital: str) -> list[str]:
    """The sentences that say something of the speaker or whoever is spoken to, three carrying words or more."""
    return [s for s in sentences(recital) if _SELF.search(s) and len(_stems_of(s)) >= 3]


def invented(recital: str, texts: Sequence[Text]) -> list[str]:
    """Those of the claims that no clause of any text supports."""
    return [s for s in claims(recital) if not any(text.found(s)[1] for text in texts)]


def loops(recital: str) -> bool:
    """Whether a sentence of three words and more, or a run of eight words, comes three times."""
    whole = Counter(s.lower() for s in sentences(recital) if len(s.split()) >= 3)
    words = recital.lower().split()
    runs = Counter(zip(*(words[n:] for n in range(RUN)), strict=False))
    return max([0, *whole.values(), *runs.values()]) >= AGAIN
