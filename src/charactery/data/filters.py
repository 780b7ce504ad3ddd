"""Which drafts are fit to learn from. What is not is set aside with the reason, never silently dropped."""

import re
from collections import Counter

from charactery.models.local import Answer

Shingles = set[tuple[str, ...]]
REPEATS = 0.12  # share of repeated 4-grams from which a draft is a loop
SHINGLE, SAME = 5, 0.6  # words in a row; share of a text's that another has, from which it is a copy of it
_WORD = re.compile(r"\w+")
_REFUSES = re.compile(
    r"\A\W*(?:i'?m|i am) sorry,? but (?:i|as an?)\b"
    r"|\A\W*i(?: can(?:no|')t|(?:'m| am) (?:not able|unable) to) (?:\w+ ){0,2}?(?:help|assist|provide|fulfil|comply"
    r"|answer|respond|discuss|engage|participate|write|create|generate|produce|continue|support|offer)\b"
    r"|\bas an? (?:ai |large )?language model\b|\bi can(?:no|')t (?:assist with|fulfil|comply with)\b",
    re.IGNORECASE,
)
_SPOKEN = re.compile(r"(?:sure|certainly|of course|absolutely|here(?:'s| is| are))\b.{0,120}[:!.]\W*", re.IGNORECASE)
# Scripts without spaces between words: Thai, Lao, Burmese, Khmer, kana, Han.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff"
    "\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_COUNTED = re.compile(rf"(?=\w)[{_UNSPACED}]|[^\W{_UNSPACED}]+")
# Words so common in their language that a few dozen words of prose nearly always hold several.
COMMON = {
    "en": "the a of to and in is you it that for i be with on".split(),
    "de": "der die das und ist ich nicht du ein zu es in mit".split(),
    "fr": "le la de et est je les un vous il en que pour dans".split(),
    "es": "el la de que y en un es los se no por con para".split(),
}


def count_words(text: str) -> int:
    """How many words a text has; in scripts without spaces between words, every character counts as one."""
    return len(_COUNTED.findall(text))


def repeated_share(text: str, size: int = 4) -> float:
    """Share of word n-grams that occurred earlier in the text: 0 for fresh prose, near 1 for a loop."""
    words = [w.lower() for w in _WORD.findall(text)]
    grams = [tuple(words[n : n + size]) for n in range(len(words) - size + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def trim(text: str) -> str:
    """A cut-off answer up to its last whole sentence; empty where there is none."""
    ends = [m.end() for m in re.finditer(r"[.!?…][\"'”’)]*(?=\s|$)|[。！？][」』”’）]*", text)]
    return text[: ends[-1]].strip() if ends else ""


def learnt(answer: Answer) -> str:
    """The answer as it would be learnt: up to its last whole sentence where it was cut off."""
    return answer.text if answer.ended else trim(answer.text)


def leaks(text: str, instructions: str, size: int = 8) -> bool:
    """Whether the text repeats this many words in a row of the instructions, or speaks of having them."""
    said = [w.lower() for w in _WORD.findall(text)]
    given = [w.lower() for w in _WORD.findall(instructions)]
    runs = {tuple(given[n : n + size]) for n in range(len(given) - size + 1)}
    if any(tuple(said[n : n + size]) in runs for n in range(len(said) - size + 1)):
        return True
    return bool(re.search(r"\b(system prompt|my instructions|the instructions (above|given))\b", text, re.IGNORECASE))


def other_language(text: str, language: str) -> bool:
    """Whether a text of 12 words and more looks like another language than the one asked for (where we know both)."""
    words = [w.lower() for w in _WORD.findall(text)]
    if count_words(text) < 12 or language not in COMMON:
        return False
    letters = [c for c in text if c.isalpha()]
    if sum(c.isascii() or "À" <= c <= "ɏ" for c in letters) < 0.7 * len(letters):
        return True
    counts = Counter({code: sum(w in common for w in words) for code, common in COMMON.items()})
    best, most = counts.most_common(1)[0]
    return best != language and most >= 4 and most > 2 * counts[language]


def fault(answer: Answer, text: str, instructions: str, language: str, least: int = 4) -> str | None:
    """Why a draft is set aside, or None. `text` is the answer as it would be learnt, of `least` words and more."""
    if answer.error:
        return "longer than the context"
    if not answer.text.strip():
        return "empty"
    if count_words(text) < least:
        return "cut off" if not answer.ended else "too short"
    if repeated_share(text) > REPEATS:
        return "repeating"
    if leaks(text, instructions):
        return "leaks instructions"
    if other_language(text, language):
        return "other language"
    return None


def refuses(text: str) -> bool:
    """Whether a text declines in an assistant's set phrases. A character's own way of saying no is not looked for."""
    return bool(_REFUSES.search(text.replace("’", "'")))


def without_preamble(text: str) -> str:
    """A text less a first line that is meant for whoever asked for it ("Sure, here is the entry:")."""
    first, _, rest = text.partition("\n")
    spoken = _SPOKEN.fullmatch(first.strip().replace("’", "'"))
    return rest.strip() if spoken and rest.strip() else text.strip()


def shingles(text: str) -> Shingles:
    """The runs of five words in a text."""
    words = [w.lower() for w in _COUNTED.findall(text)]
    return {tuple(words[n : n + SHINGLE]) for n in range(len(words) - SHINGLE + 1)}


def copies(one: Shingles, other: Shingles) -> bool:
    """Whether most of a text's runs of words (`shingles`) are among another's."""
    return bool(one) and len(one & other) >= SAME * len(one)
