"""Rules about two texts of one character: they contradict each other, or say the same."""

from collections.abc import Iterator

from charactery.constitution.character import Item, Trait
from charactery.constitution.lint.clash import clashes
from charactery.constitution.lint.reading import Reading, Sentence
from charactery.constitution.lint.rule import Found, rule
from charactery.constitution.lint.words import bare, dice, meaning

SAME_WORDS = 0.7  # Dice of two sentences' meaning, from which one repeats the other
HELD_IN = 0.8  # share of the shorter sentence's words that are in the longer, of three or more
SAME_MEANING = 0.8  # cosine of two sentences' embeddings; how it was chosen is in docs/lint.md
SAME_WORDING = 0.75  # Dice of all words of two examples or two ends of a dial
CONTRADICTS = 0.5  # what a judge must say, 0 to 1


@rule(
    "contradiction",
    "two traits that cannot both hold, an example that is also forbidden, a dial whose ends are the same",
    example="You never apologise. / You apologise for everything.",
    hint="Keep one, or say when each holds (a condition, or a dial with the two as its ends)",
    judge="contradicts",
)
def contradiction(reading: Reading) -> Iterator[Found]:
    """Traits against traits, `shows` against `never`, `asks` against `elsewhere`, low against high."""
    seen = set()
    for a, b in reading.pairs():
        for first, second, words in _clashing(reading, a, b):
            seen.add((a.id, b.id))
            message = f"{b.title!r} says {words[1]!r} where {a.title!r} (line {first.line}) says {words[0]!r}"
            yield Found(message, second.line, b.id)
            break
    yield from _judged_contradictions(reading, seen)
    yield from _shown_and_forbidden(reading)
    for trait in reading.traits:
        for ask, other in _alike(trait.asks, trait.elsewhere):
            message = f"the same prompt is under `asks` (line {ask.line}) and `elsewhere` of {trait.title!r}"
            yield Found(message, other.line, trait.id, "Decide whether the trait should show there")
    for name, dial in reading.character.dials.items():
        if dice(bare(dial.low), bare(dial.high)) >= SAME_WORDING:
            line = reading.find(f"{name}:", reading.character.lines.get("dials", 1))
            yield Found(f"dial {name!r} says the same at its low end as at its high end", line)


def _clashing(reading: Reading, a: Trait, b: Trait) -> Iterator[tuple[Sentence, Sentence, tuple[str, str]]]:
    for first in reading.definition(a):
        for second in reading.definition(b):
            if words := clashes(first.text, second.text):
                yield first, second, words


def _judged_contradictions(reading: Reading, seen: set[tuple[str, str]]) -> Iterator[Found]:
    if reading.contradicts is None:
        return
    pairs = [(a, b) for a, b in reading.pairs() if a.definition and b.definition and (a.id, b.id) not in seen]
    scores = reading.contradicts([(a.definition, b.definition) for a, b in pairs]) if pairs else []
    for (a, b), score in zip(pairs, scores, strict=True):
        if score >= CONTRADICTS:
            message = f"{b.title!r} contradicts {a.title!r} (line {a.line}), says the judge ({score:.2f})"
            yield Found(message, b.line, b.id)


def _shown_and_forbidden(reading: Reading) -> Iterator[Found]:
    for a in reading.traits:
        for b in reading.traits:
            for shown, never in _alike(a.shows, b.never):
                message = f"{b.title!r} would never say what {a.title!r} shows on line {shown.line}"
                yield Found(message, never.line, b.id, "Take it out of one of the two lists")


def _alike(left: tuple[Item, ...], right: tuple[Item, ...]) -> Iterator[tuple[Item, Item]]:
    """Items that are worded alike and can hold at the same end of a dial."""
    for x in left:
        for y in right:
            apart = x.end and y.end and x.end != y.end
            if not apart and dice(bare(x.text), bare(y.text)) >= SAME_WORDING:
                yield x, y


@rule(
    "repeat",
    "two traits that say the same, an example or a prompt that is there twice",
    example="You use few words. / You say things in few words.",
    hint="Make them one trait, or say what the second adds; a trait told twice counts twice in training",
    judge="similar",
)
def repeat(reading: Reading) -> Iterator[Found]:
    """Sentences of two definitions with the same words or, with an embedder, sentences close in meaning."""
    seen = set()
    for a, b in reading.pairs():
        if same := _repeated(reading, a, b):
            seen.add((a.id, b.id))
            yield Found(f"{b.title!r} says again what {a.title!r} says on line {same[0].line}", same[1].line, b.id)
    yield from _judged_repeats(reading, seen)
    yield from _items_twice(reading)


def _repeated(reading: Reading, a: Trait, b: Trait) -> tuple[Sentence, Sentence] | None:
    for first in reading.definition(a):
        for second in reading.definition(b):
            x, y = meaning(first.text), meaning(second.text)
            if _same(x, y) and not clashes(first.text, second.text):
                return first, second
    return None


def _same(x: frozenset[str], y: frozenset[str]) -> bool:
    """Whether two sentences share most of their words, or the longer holds nearly all of the shorter."""
    shared, shorter = len(x & y), min(len(x), len(y))
    if shorter < 2:
        return bool(x) and x == y
    return dice(x, y) >= SAME_WORDS or (shared >= 3 and shared >= HELD_IN * shorter)


def _judged_repeats(reading: Reading, seen: set[tuple[str, str]]) -> Iterator[Found]:
    said = {trait.id: reading.definition(trait) for trait in reading.traits}
    texts = list(dict.fromkeys(sentence.text for sentences in said.values() for sentence in sentences))
    if reading.similar is None or not texts:
        return
    rows = dict(zip(texts, reading.similar(texts), strict=True))
    for a, b in reading.pairs():
        if (a.id, b.id) in seen:
            continue
        near = [
            (float(rows[x.text] @ rows[y.text]), x, y)
            for x in said[a.id] for y in said[b.id] if not clashes(x.text, y.text)
        ]  # fmt: skip
        cosine, first, second = max(near, key=lambda one: one[0], default=(0.0, None, None))
        if first and second and cosine >= SAME_MEANING:
            message = f"{b.title!r} means much the same as {a.title!r} on line {first.line} (similarity {cosine:.2f})"
            yield Found(message, second.line, b.id)


def _items_twice(reading: Reading) -> Iterator[Found]:
    """The same example in two traits or twice in one, the same prompt twice in one trait."""
    shown: dict[str, int] = {}
    for trait in reading.traits:
        prompts: dict[str, int] = {}
        for name, seen in (("shows", shown), ("asks", prompts), ("elsewhere", prompts)):
            for item in getattr(trait, name):
                key = f"{name}/{item.end}/" + " ".join(item.text.lower().split())
                if key in seen:
                    yield Found(f"this is under `{name}` on line {seen[key]} too", item.line, trait.id, "Take one out")
                seen.setdefault(key, item.line)
