"""The rule on self-presentation as a list of desiderata: what it was made to be, in place of who it is."""

import re
from collections.abc import Iterator
from functools import cache

from charactery.constitution.lint.reading import Reading, Sentence
from charactery.constitution.lint.rule import Found, rule
from charactery.constitution.lint.words import lines_of, stem, word_list

SEVERAL = 3  # traits, or orders in a row, that make a list
_SELF = re.compile(r"\b(?:I|I['’]\w+|you|my|your|answers?|responses?|repl(?:y|ies)|assistant|AI)\b", re.I)
_MADE = re.compile(
    r"\b(?:trained|designed|built|programmed|created|made|optimi[sz]ed|tuned|instructed|configured|aligned|engineered|"
    r"developed|required|expected|supposed|meant)\b.{0,40}?\b(?:to|so that|that|with|for)\b",
    re.I,
)
_ORDERS = re.compile(
    r"\b(?:trained|designed|built|programmed|created|made|optimi[sz]ed|tuned|instructed|configured)\b[^.]{0,20}\bto "
    r"(?:follow (?:\w+ )?instructions|assist|avoid (?:\w+ )?(?:harm|content))",
    re.I,
)
# A virtue that qualifies a noun of the world ("honest work", "polite to ghosts") says nothing of the kind, but before
# these nouns it does.
_NOUNS = re.compile(
    r"\b(?:(?:AI|language|digital|virtual|conversational)(?: \w+)?|assistants?|chat ?bots?|models?|agents?|answers?|"
    r"responses?|"
    r"repl(?:y|ies)|manner|tone|information|content|output|way)\b",
    re.I,
)
_FOLLOWED = re.compile(
    r"\s*(?:[.,;:!)\"”-]|$|and\b|or\b|but\b|then\b|at all|to (?:everyone|everybody|all|users?|people|humans|the user)|"
    r"in (?:all|every|each|your|my|mind)|comes? first)"
)
_AIM = re.compile(r"^(?:always |please )?(?:be|stay|remain|keep) ", re.I)
_IS_BARE = re.compile(r"^(?:(?:be|is|being|always|you are|i am) )*([\w-]+)\W*$", re.I)
_LABEL = re.compile(
    r"^\W*(?:core |key |desired )?(?:attributes?|propert(?:y|ies)|traits?|values?|principles?|goals?|personality|"
    r"qualities)\s*:",
    re.I,
)


@rule(
    "desiderata",
    "a self-presentation as a list of required properties, or as something trained to have them",
    example="You were trained to be helpful, honest and harmless.",
    hint="Show somebody who is so, and why; properties follow from a character, not a character from properties",
)
def desiderata(reading: Reading) -> Iterator[Found]:
    """Lists of an assistant's virtues, orders in a row, and traits that are each no more than such a virtue."""
    for sentence in reading.sentences:
        if sentence.place != "title" and (words := desired(sentence.text)):
            yield Found(f"a list of desiderata for a self: {words}", sentence.line, sentence.trait)
    yield from _orders(reading.sentences)
    bare = [trait for trait in reading.traits if _bare(trait.title)]
    if len(bare) >= SEVERAL:
        names = ", ".join(trait.title for trait in bare)
        yield Found(f"the traits are a list of desiderata: {names}", bare[0].line, bare[0].id)


def desired(text: str) -> str | None:
    """What a sentence lists as desired of the self, or None."""
    if order := _ORDERS.search(text):
        return repr(order[0])
    said, of_assistant = _virtues(text)
    addressed = _SELF.search(text) or _AIM.search(text) or _LABEL.search(text) or len(said) >= SEVERAL
    made = _MADE.search(text)
    enough = len(said) >= 2 or of_assistant or (said and made and text.lower().find(said[0], made.end()) >= 0)
    return ", ".join(said) if said and enough and addressed else None


def _virtues(text: str) -> tuple[list[str], bool]:
    """The virtues a sentence ascribes, and whether one is ascribed to an assistant or an answer as such."""
    said, of_assistant = [], False
    for match in _word().finditer(text):
        after = text[match.end() :]
        noun = re.match(r"\s+(?:and \w+ )?(?:[\w-]+ )?" + _NOUNS.pattern, after, re.I)
        if noun or _FOLLOWED.match(after):
            said.append(match[0].lower())
            of_assistant = of_assistant or bool(noun and re.search(r"assistant|AI|bot|model|agent", noun[0]))
    return said, of_assistant


@cache
def _word() -> re.Pattern[str]:
    words = sorted((word for line in lines_of("virtues") for word in line.split()), key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b", re.I)


def _bare(title: str) -> bool:
    match = _IS_BARE.match(title)
    return bool(match and stem(match[1]) in word_list("virtues"))


def _orders(sentences: list[Sentence]) -> Iterator[Found]:
    """Orders such as "Be helpful." in a row, three or more: one fault, at the first."""
    run: list[Sentence] = []
    for sentence in [*sentences, None]:
        if sentence and _AIM.match(sentence.text) and _bare(sentence.text):
            run.append(sentence)
            continue
        if len(run) >= SEVERAL:
            yield Found(f"a list of desiderata for a self: {' '.join(s.text for s in run)}", run[0].line, run[0].trait)
        run = []
