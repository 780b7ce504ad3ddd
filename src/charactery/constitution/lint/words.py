"""Words without a model: stems, opposed poles, what is said and what is denied. English only.

The lists are text files in `lists/`, so that adding a word needs no Python.
"""

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

LISTS = Path(__file__).parent / "lists"

WORD = re.compile(r"[a-z]+(?:['’-][a-z]+)*")
NEGATORS = re.compile(
    r"not|never|no|nor|neither|without|avoid(?:s|ing)?|rarely|seldom|hardly|lack(?:s|ing)?|lose|loses|cannot|nothing|"
    r"nobody|none|stop|refuse|free|rather-than|instead-of|.+n['’]t"
)
SUBORDINATE = frozenset(
    "who whom whose which that what whether how why when whenever if unless while where because so until before "
    "after as than though although since".split()
)
_SUBJECT = re.compile(
    r"^\s*(?:(?:and|so|then|yet|still) )?(?:you|i|your|my|yours|mine)\b|"
    r"\b(?:everything|all) (?:that )?(?:you|i) (?:do|say|write)\b"
)
_BEFORE_PREDICATE = re.compile(r"|you|i|are|am|be|is|never|always|not|and|or|to|very|so|really|.+ly|.+n['’]t")
LIST_PART = 3  # words after a comma that go on with a list
_SUFFIXES = (
    ("isations", ""), ("isation", ""), ("izations", ""), ("ization", ""), ("istically", ""), ("istic", ""),
    ("fulness", "ful"), ("iness", "y"), ("ness", ""), ("ences", "ent"), ("ence", "ent"), ("ances", "ant"),
    ("ance", "ant"), ("ising", ""), ("izing", ""), ("ises", ""), ("izes", ""), ("ised", ""), ("ized", ""),
    ("ise", ""), ("ize", ""), ("isms", ""), ("ism", ""), ("ists", ""), ("ist", ""), ("ically", "ic"), ("ingly", ""),
    ("ity", ""), ("ively", ""), ("ive", ""), ("edly", ""), ("ily", "y"), ("ly", ""), ("ing", ""), ("ied", "y"),
    ("ed", ""),
)  # fmt: skip


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """A word without its endings: apologise, apologises, apology -> apolog."""
    word = re.sub(r"['’]s?$", "", word.lower())
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        word = word[:-1]
    for suffix, put in _SUFFIXES:
        least = 5 if suffix.startswith(("is", "iz", "iv", "ity")) else 3
        rest = word[: -len(suffix)]
        if word.endswith(suffix) and len(rest) >= least and re.search(r"[aeiouy]", rest):
            word = rest + put
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "sl":
        word = word[:-1]
    if word.endswith("ty") and len(word) > 5 and not word.endswith(("sty", "ity")):
        word = word[:-2]
    return word[:-1] if (len(word) > 3 and word[-1] == "e") or (len(word) > 5 and word[-1] == "y") else word


@cache
def word_list(name: str) -> frozenset[str]:
    """The words of a list in `lists/`, as stems."""
    return frozenset(stem(word) for line in lines_of(name) for word in line.split())


def lines_of(name: str) -> list[str]:
    """The lines of a list in `lists/`, comments left out."""
    text = (LISTS / f"{name}.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


@dataclass(frozen=True)
class Pole:
    """One end of an axis of manner. `of` says that the words need an object to clash over."""

    axis: int
    side: int
    of: bool


@cache
def poles() -> dict[str, tuple[Pole, ...]]:
    """Stem -> the poles it stands for."""
    found: dict[str, tuple[Pole, ...]] = {}
    for axis, line in enumerate(lines_of("axes")):
        for side, words in enumerate(line.lstrip("* ").split("|")):
            for key in {stem(word) for word in words.split()}:
                found[key] = (*found.get(key, ()), Pole(axis, side, line.startswith("*")))
    return found


@dataclass(frozen=True)
class Term:
    """A word that carries meaning: its stem, whether it is denied, whether it is in the main clause.

    `of` says that it only describes something else, like 'proud' in "other people's proud moments".
    """

    stem: str
    denied: bool
    main: bool
    of: bool = False


@lru_cache(maxsize=20_000)
def terms(sentence: str) -> tuple[Term, ...]:
    """The words of a sentence that carry meaning.

    A clause is main where it begins with the character (you, I, your, my) and ends, like the reach of a denial, at
    the next comma, `but` or conjunction. Up to three words after a comma go on with a list.
    """
    out = []
    main = denied = False
    text = re.sub(r"\bnot afraid (?:to be|to|of)\b", "", sentence.lower())
    text = re.sub(r"\b(rather than|instead of|says? no)\b", lambda m: m[0].replace(" ", "-"), text)
    for clause in re.split(r"[,;:.!?()—–]|\bbut\b", text):
        words = WORD.findall(clause)
        if _SUBJECT.search(clause) or len(words) > LIST_PART:
            main, denied = bool(_SUBJECT.search(clause)), False
        for n, word in enumerate(words):
            if NEGATORS.fullmatch(word):
                denied = True
            elif word in SUBORDINATE:
                main = denied = False
            elif word not in _stop_words():
                out.append(Term(stem(word), denied, main, _attributive(words, n)))
    return tuple(out)


def _attributive(words: list[str], n: int) -> bool:
    """Whether a word stands before a noun that is no part of the character ("proud moments", not "proud manner")."""
    after = words[n + 1] if n + 1 < len(words) else ""
    before = words[n - 1] if n else ""
    if not after or after in _stop_words() or after in SUBORDINATE or NEGATORS.fullmatch(after):
        return False
    return not (after.endswith("ly") or stem(after) in word_list("manner") or _BEFORE_PREDICATE.fullmatch(before))


@cache
def _stop_words() -> frozenset[str]:
    return frozenset(word for line in lines_of("stop") for word in line.split())


@lru_cache(maxsize=20_000)
def content(sentence: str) -> frozenset[str]:
    """The stems of a sentence's meaningful words."""
    return frozenset(term.stem for term in terms(sentence))


@lru_cache(maxsize=20_000)
def meaning(sentence: str) -> frozenset[str]:
    """Like `content`, with words of one pole made one and denied words marked, so that paraphrases meet."""
    out = set()
    for term in (t for t in terms(sentence) if t.stem != stem("people")):
        pole = poles().get(term.stem)
        key = f"{pole[0].axis}/{pole[0].side ^ term.denied}" if pole else term.stem
        out.add(key if pole or not term.denied else f"not {key}")
    return frozenset(out)


def dice(a: frozenset[str], b: frozenset[str]) -> float:
    """Overlap of two sets, 0 to 1 (Dice 1945: twice the shared over the sum of sizes)."""
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else 0.0


@lru_cache(maxsize=20_000)
def bare(text: str) -> frozenset[str]:
    """All words of a text as stems, stop words too: for comparing examples, where wording is what counts."""
    return frozenset(stem(word) for word in WORD.findall(text.lower()))
