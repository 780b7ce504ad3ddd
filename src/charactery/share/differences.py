"""Where texts that lie side by side have other words."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

Parts = list[tuple[str, bool]]  # pieces of a text, and whether each is marked
LONG = 1500  # words beyond which what is frequent is not looked for: the time grows with its square
_CJK = "\u3040-\u30ff\u3400-\u9fff"  # no spaces between words: each letter counts for itself
_SIGNS = re.escape('.,;:!?"()[]{}…—–“”„«»。、，！？')
WORDS = re.compile(rf"\s+|[{_CJK}]|[{_SIGNS}]|[^\s{_CJK}{_SIGNS}]+")


def differences(texts: Sequence[str]) -> list[Parts]:
    """Each text in pieces: marked are the words that the first does not have there, and in the first those that no
    other has. Texts come back whole."""
    first, *others = [WORDS.findall(text) for text in texts]
    told, shared = [], [False] * len(first)
    for words in others:
        own = [False] * len(words)
        for a, b, size in SequenceMatcher(None, first, words, len(first) + len(words) > LONG).get_matching_blocks():
            shared[a : a + size] = own[b : b + size] = [True] * size
        told.append(_parts(words, own))
    return [_parts(first, shared if others else [True] * len(first)), *told]


def _parts(words: Sequence[str], same: Sequence[bool]) -> Parts:
    """Neighbours that are marked alike in one piece. Space is marked between marked words alone."""
    marks = [not one for one in same]
    for n, word in enumerate(words):
        if word.isspace():
            marks[n] = 0 < n < len(words) - 1 and marks[n - 1] and not same[n + 1]
    parts: Parts = []
    for word, marked in zip(words, marks, strict=True):
        if parts and parts[-1][1] == marked:
            parts[-1] = (parts[-1][0] + word, marked)
        else:
            parts.append((word, marked))
    return parts
