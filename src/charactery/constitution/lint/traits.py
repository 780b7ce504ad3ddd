"""Rules about one trait: it can be tested, and it has a reason."""

import re
from collections.abc import Iterator

from charactery.constitution.character import Trait
from charactery.constitution.lint.reading import Reading, Sentence
from charactery.constitution.lint.rule import Found, rule
from charactery.constitution.lint.words import content, poles, stem, word_list

_QUOTED = re.compile(r"[\"“][^\"”]+[\"”]")


@rule(
    "untestable",
    "a trait without prompts and examples whose definition names nothing that could be seen in an answer",
    example="You embody excellence in everything.",
    hint="Say what would be seen in an answer, or list prompts under `asks:` and examples under `shows:`",
)
def untestable(reading: Reading) -> Iterator[Found]:
    """No `asks`, `shows` or `never`, and no sentence with an observable verb and something concrete to it."""
    for trait in reading.traits:
        if trait.asks or trait.shows or trait.never:
            continue
        title = Sentence(trait.title, trait.line, "title", trait.id)
        if not any(_observable(s.text) for s in [title, *reading.definition(trait)]):
            yield Found(f"no answer could show whether {trait.title!r} is there", trait.line, trait.id)


def _observable(sentence: str) -> bool:
    """Whether a sentence says what is done in an answer, with something concrete to it."""
    if _QUOTED.search(sentence):
        return True
    said = content(sentence) | _spoken(sentence)
    concrete = said - word_list("vague")
    seen = said & word_list("observable")
    if seen and concrete - (seen if len(seen) == 1 else set()):
        return True
    act = _ACT.match(sentence)
    return bool(act and stem(act[1]) not in word_list("stative") and len(concrete) >= 2)


# The verb of "you (never) VERB …".
_ACT = re.compile(r"(?:you|I) (?:(?:always|never|often|sometimes|do not|don['’]t|\w+ly) )*([a-z-]+)\b", re.I)


def _spoken(sentence: str) -> frozenset[str]:
    """Verbs of speech, which are stop words elsewhere."""
    return frozenset(w for w in ("say", "speak", "talk", "use") if re.search(rf"\b{w}(?:s|ing)?\b", sentence, re.I))


_GIVEN = re.compile(r"\b(?:because|so that|since|which is why|that is why|after all)\b", re.I)
# A reason that only hands on an order: policy, rules, being told or designed to.
_ORDER = re.compile(
    r"\b(?:polic(?:y|ies)|guidelines?|requirements?|requires?|required|specifications?|instructions?|regulations?|"
    r"(?:not|never|isn't|aren't) (?:allowed|permitted|acceptable|appropriate)|best practi[cs]e|forbidden|mandatory|"
    r"compulsory|unprofessional|inappropriate|unacceptable|standard practi[cs]e|the standard|user (?:experience|"
    r"satisfaction)|"
    r"(?:supposed|meant|told|ordered|instructed|designed|programmed|trained|made|built|expected|obliged) (?:to|of|"
    r"from)\b|"
    r"is (?:expected|required|desired|recommended)|(?:must|should|has to|have to|needs? to) be|by design|the rules?|"
    r"(?:law|operator|company|management|boss|employer|users?|customers?|clients?|developers?|they) (?:\w+ )*?"
    r"(?:demands?|wants?|requires?|asks?|expects?|prefers?|insists?)|"
    r"(?:no|without any|without a) (?:particular |special )?reason)\b",
    re.I,
)
FAMILY = 5  # first letters that make two stems one family
SHORT = 12  # words; a longer reason that speaks of rules may still be a reason


@rule(
    "no-reason",
    "a trait without `because`, or with one that only repeats the trait or hands on an order",
    example="because: It is against policy.",
    hint="Write under `because:` what in this character's life or cares makes it so; reasons carry over to new cases",
)
def no_reason(reading: Reading) -> Iterator[Found]:
    """Missing, circular or an order. A definition that says `because` or `so that` itself needs no field."""
    for trait in reading.traits:
        line = trait.lines.get("because", trait.line)
        if not trait.because:
            if not _GIVEN.search(trait.definition):
                yield Found(f"{trait.title!r} gives no reason", line, trait.id)
        elif len(trait.because.split()) <= SHORT and _ORDER.search(trait.because):
            yield Found(f"the reason of {trait.title!r} is only an order: {trait.because!r}", line, trait.id)
        elif _circular(trait):
            yield Found(f"the reason of {trait.title!r} says no more than the trait", line, trait.id)


def _circular(trait: Trait) -> bool:
    said = content(trait.title) | content(trait.definition)
    return not any(not _akin(word, said) and word not in word_list("empty") for word in content(trait.because))


def _akin(word: str, said: frozenset[str]) -> bool:
    """Whether a word is one of these, of their family (discretion, discreet) or of their pole (brevity, brief)."""
    mine = {(pole.axis, pole.side) for pole in poles().get(word, ())}
    if any((pole.axis, pole.side) in mine for other in said for pole in poles().get(other, ())):
        return True
    return (
        any(word[:FAMILY] == other[:FAMILY] for other in said if min(len(word), len(other)) >= FAMILY) or word in said
    )
