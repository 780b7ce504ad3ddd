"""The likelihood judge: how much likelier does this character make the answer than other characters do?

Mean log-probability per token of the answer, by a named base model with the character in its prompt, less the mean of
the same under foil characters of like length. Against no character in place of foils, any character's answer passes:
what is measured then is "some character", not this one.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from charactery.constitution import Character, foil_characters, system_prompt
from charactery.constitution.render import trait_words
from charactery.errors import CharacteryError
from charactery.models.chat import Message, prompt_tokens, reply_tokens, user
from charactery.models.local import LocalModel
from charactery.models.speaker import as_character

FOILS = 3
READ = 48  # tokens of an answer that are read; the character shows early, and reading all would double the time


@dataclass(frozen=True)
class Evidence:
    """A text answers are held against, and its foils. `trait` is empty for the whole character."""

    trait: str
    text: str
    foils: tuple[str, ...]


def evidence(character: Character, foils: Sequence[Character] | None = None) -> list[Evidence]:
    """The whole character, then each trait, with the foils nearest in length (at least three).

    The traits share their foils, one trait of each foil character, so that a foil is scored once for all of them.
    Raises CharacteryError where there are fewer than three foils; one without traits is passed over.
    """
    pool = [
        f for f in (foils if foils is not None else foil_characters()) if f.name != character.name and [*f.traits()]
    ]
    if len(pool) < FOILS:
        raise CharacteryError(f"the likelihood judge needs {FOILS} foil characters and has {len(pool)}")
    whole = system_prompt(character)
    near = sorted(pool, key=lambda f: abs(len(system_prompt(f)) - len(whole)))[:FOILS]
    traits = [(t.id, trait_words(character, t, character.mix)) for t in character.traits()]
    middle = float(np.median([len(text) for _, text in traits])) if traits else 0.0
    others = tuple(
        min((trait_words(f, t, 0) for t in f.traits()), key=lambda text: abs(len(text) - middle)) for f in near
    )
    return [
        Evidence("", whole, tuple(system_prompt(f) for f in near)),
        *(Evidence(id, text, others) for id, text in traits),
    ]


def shuffled(held: Evidence, seed: int) -> Evidence:
    """The same with the words of its text and of its foils in an order drawn by the seed: what is left is which words.

    The foils' too: a text in order is likelier to be answered fluently than one without, whatever either says.
    """

    def salad(text: str) -> str:
        words = text.split()
        random.Random(seed).shuffle(words)
        return " ".join(words)

    return replace(held, text=salad(held.text), foils=tuple(map(salad, held.foils)))


def distinct_texts(evidences: Sequence[Evidence]) -> int:
    """How many texts each answer is read under."""
    return len({text for e in evidences for text in (e.text, *e.foils)})


def margins(
    model: LocalModel, cases: Sequence[tuple[Sequence[Message], str]], evidences: Sequence[Evidence]
) -> np.ndarray:
    """Nats per token in favour of each evidence over its foils: shape (len(evidences), len(cases)).

    `cases` are (messages up to the last user turn, answer). NaN where the answer is empty.
    """
    means = _means(model, cases, [text for e in evidences for text in (e.text, *e.foils)])
    return np.array([_margin(e, means) for e in evidences]).reshape(len(evidences), len(cases))


def each_margin(
    model: LocalModel, cases: Sequence[tuple[Sequence[Message], str]], evidences: Sequence[Evidence]
) -> Iterator[np.ndarray]:
    """The same, one evidence after another as it is read: of shape (len(cases),). A foil is read once for all."""
    means: dict[str, np.ndarray] = {}
    for e in evidences:
        means |= _means(model, cases, [text for text in (e.text, *e.foils) if text not in means])
        yield _margin(e, means)


def _margin(e: Evidence, means: dict[str, np.ndarray]) -> np.ndarray:
    margin: np.ndarray = means[e.text] - np.mean([means[foil] for foil in e.foils], axis=0)
    return margin


def _means(
    model: LocalModel, cases: Sequence[tuple[Sequence[Message], str]], texts: Sequence[str]
) -> dict[str, np.ndarray]:
    """Under each text the mean log-probability of an answer's token: (len(cases),), NaN where it is empty."""
    texts = list(dict.fromkeys(texts))
    frame = prompt_tokens(model.tokenizer, [user("")])  # ends as all prompts do
    answers = [reply_tokens(model.tokenizer, frame, answer)[:READ] for _, answer in cases]
    asked = [n for n, (_, answer) in enumerate(cases) if answer.strip()]
    pairs = [
        (prompt_tokens(model.tokenizer, as_character(cases[n][0], text)), answers[n]) for text in texts for n in asked
    ]
    mean_T_N = np.full((len(texts), len(cases)), np.nan)
    mean_T_N[:, asked] = np.reshape([float(values.mean()) for values in model.score(pairs)], (len(texts), len(asked)))
    return dict(zip(texts, mean_T_N, strict=True))
