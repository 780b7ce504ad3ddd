"""Whether two sentences about one character contradict each other, by their words alone. English only."""

import re
from functools import lru_cache

from charactery.constitution.lint.words import NEGATORS, SUBORDINATE, WORD, Term, content, poles, terms

_CONDITION = re.compile(r"\b(?:when(?:ever)?|if|unless|until|while|with (?:people|those|anyone|somebody) who)\b", re.I)
_UNIVERSAL = re.compile(
    r"\b(?:always|never|every|all|any|everyone|everybody|everything|anything|whatever|no matter)\b", re.I
)
_SCOPE = re.compile(r"\b(?:with|to|towards?|about|at|over|on)\s+((?:[\w'-]+\s*){1,3})", re.I)
_ADJUNCT = re.compile(r"\b(?:without|rather than|instead of|free of)\b", re.I)


@lru_cache(maxsize=20_000)
def conditional(sentence: str) -> bool:
    """Whether it holds only sometimes: when…, if…, with those who…"""
    return bool(_CONDITION.search(sentence))


@lru_cache(maxsize=20_000)
def universal(sentence: str) -> bool:
    """Whether it claims to hold always."""
    return bool(_UNIVERSAL.search(sentence))


@lru_cache(maxsize=20_000)
def scopes(sentence: str) -> frozenset[str]:
    """What a sentence is about or towards: 'gentle with children' -> {child}."""
    return frozenset(s for match in _SCOPE.finditer(sentence) for s in content(match[1]))


def clashes(a: str, b: str) -> tuple[str, str] | None:
    """The words by which two sentences about one character contradict each other, or None."""
    return _denial(a, b) or _turned(_denial(b, a)) or _opposition(a, b)


def _turned(pair: tuple[str, str] | None) -> tuple[str, str] | None:
    return (pair[1], pair[0]) if pair else None


def _denial(yes: str, no: str) -> tuple[str, str] | None:
    """One says it, the other denies all of the same; a denial with a condition or an exception does not count."""
    words = WORD.findall(no.lower())
    if SUBORDINATE.intersection(words) or sum(bool(NEGATORS.fullmatch(word)) for word in words) > 1:
        return None
    said = {t.stem for t in terms(yes) if t.main and not t.denied}
    if _ADJUNCT.search(no) and not {t.stem for t in terms(no) if t.main and not t.denied} <= said:
        return None  # "takes their side without taking their word": about the side
    denied = [t.stem for t in terms(no) if t.main and t.denied]
    if len(denied) == 1 and not _heads(denied[0], yes):
        return None  # "you do not gossip" is not denied by "you listen to gossip"
    if denied and all(d in said or _synonym(d, said) for d in denied):
        return " ".join(denied), f"not {' '.join(denied)}"
    return None


def _heads(word: str, sentence: str) -> bool:
    """Whether the word, or one of its pole, is what the sentence is first of all about."""
    first = next((t.stem for t in terms(sentence) if t.main), "")
    return word == first or _synonym(word, {first})


def _synonym(word: str, others: set[str]) -> bool:
    mine = {(p.axis, p.side) for p in poles().get(word, ())}
    return any((p.axis, p.side) in mine for other in others for p in poles().get(other, ()))


def _opposition(a: str, b: str) -> tuple[str, str] | None:
    """Two opposed words, both said and both of the main clause, about the same or about nothing in particular."""
    if (conditional(a) and not universal(b)) or (conditional(b) and not universal(a)):
        return None
    in_a, in_b = scopes(a), scopes(b)
    if in_a and in_b and not in_a & in_b and not (universal(a) or universal(b)):
        return None
    shared = content(a) & content(b)
    for x in (t for t in terms(a) if t.main and not t.of):
        for y in (t for t in terms(b) if t.main and not t.of):
            if _negative_of(x, y) or _negative_of(y, x):
                return x.stem, y.stem
            for p in poles().get(x.stem, ()):
                for q in poles().get(y.stem, ()):
                    opposed = p.axis == q.axis and (p.side ^ x.denied) != (q.side ^ y.denied)
                    if opposed and x.stem != y.stem and (shared - {x.stem, y.stem} or not p.of):
                        return x.stem, y.stem
    return None


def _negative_of(x: Term, y: Term) -> bool:
    """Whether x is y with a prefix of denial (unkind, impatient, disagree), and both are said alike."""
    prefixes = ("un", "dis", "in", "im", "il", "ir") if y.stem in poles() else ("un", "dis")
    return x.denied == y.denied and len(y.stem) > 3 and any(x.stem == prefix + y.stem for prefix in prefixes)
