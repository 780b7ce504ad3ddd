"""The likelihood judge asks whether this character, rather than any character, makes an answer likely."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from charactery.constitution import Character, Section, Trait, find_character, system_prompt
from charactery.errors import CharacteryError, CharacteryWarning
from charactery.judges.likelihood import FOILS, READ, Evidence, each_margin, evidence, margins
from charactery.models.chat import Message, prompt_tokens, system, user
from charactery.models.local import LocalModel

CASES: list[tuple[tuple[Message, ...], str]] = [
    ((user("Why is the sky blue?"),), "Because the air scatters blue light."),
    ((user("Tea?"),), ""),
    ((system("Be brief."), user("Tea?")), "Aye, four minutes."),
    ((user("A list?"),), "I would write the list the evening before, and read it aloud to a friend. " * 4),
]
EVIDENCES = [
    Evidence("", "You are a captain.", ("You are a poet.", "You are a coach.", "You are a butler.")),
    Evidence("sails", "You talk of sails.", ("You rhyme.", "You cheer.", "You bow.")),
    Evidence("knots", "You talk of knots.", ("You rhyme.", "You cheer.", "You bow.")),
]


def character(name: str, words: int, traits: Sequence[int] = (5,)) -> Character:
    return Character(
        name, "word " * words, (Section("Voice", traits=tuple(Trait(f"T{n}", "say " * n) for n in traits)),)
    )


def by_hand(model: LocalModel, messages: tuple[Message, ...], answer: str, text: str) -> float:
    if messages[0]["role"] == "system":
        messages = (system(f"{text}\n\n{messages[0]['content']}"), *messages[1:])
    else:
        messages = (system(text), *messages)
    ids = model.tokenizer(answer, add_special_tokens=False)["input_ids"][:READ]
    [score] = model.score([(prompt_tokens(model.tokenizer, messages), ids)])
    return float(score.mean())


def test_a_margin_is_nats_per_token_over_the_mean_foil(tiny_model: LocalModel) -> None:
    found_E_N = margins(tiny_model, CASES, EVIDENCES)
    assert found_E_N.shape == (3, 4)
    for e, held in enumerate(EVIDENCES):
        for n, (messages, answer) in enumerate(CASES):
            if answer:
                own, *foils = (by_hand(tiny_model, messages, answer, text) for text in (held.text, *held.foils))
                assert found_E_N[e, n] == pytest.approx(own - sum(foils) / 3, abs=1e-4)


def test_margins_come_one_by_one_and_are_the_same(tiny_model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    together = margins(tiny_model, CASES, EVIDENCES)
    asked: list[int] = []
    score = tiny_model.score
    monkeypatch.setattr(tiny_model, "score", lambda pairs: asked.append(len(pairs)) or score(pairs))
    for n, margin in enumerate(each_margin(tiny_model, CASES, EVIDENCES)):
        np.testing.assert_allclose(margin, together[n], atol=1e-5)
        assert len(asked) == n + 1
    assert asked == [12, 12, 3]  # three answers under 4 texts; the foils of both traits are read once


def test_an_empty_answer_is_no_number(tiny_model: LocalModel) -> None:
    found_E_N = margins(tiny_model, CASES, EVIDENCES)
    assert np.isnan(found_E_N[:, 1]).all() and np.isfinite(np.delete(found_E_N, 1, axis=1)).all()
    assert np.isnan(margins(tiny_model, [CASES[1]], EVIDENCES)).all()
    long = replace(EVIDENCES[1], foils=("tea " * 2000, "You cheer.", "You bow."))
    with pytest.warns(CharacteryWarning, match="not scored"):
        found_E_N = margins(tiny_model, CASES[2:], [EVIDENCES[0], long])
    assert np.isnan(found_E_N).tolist() == [[False] * 2, [True] * 2]
    assert margins(tiny_model, [], EVIDENCES).shape == (3, 0)


def test_only_the_beginning_of_an_answer_is_read(tiny_model: LocalModel) -> None:
    messages, long = CASES[3]
    assert len(tiny_model.tokenizer(long)["input_ids"]) > READ
    same = margins(tiny_model, [(messages, long), (messages, long + " And more.")], EVIDENCES)
    assert same[:, 0] == pytest.approx(same[:, 1], abs=1e-5)


def test_a_foil_that_traits_share_is_scored_once(tiny_model: LocalModel) -> None:
    asked: list[Any] = []
    score = tiny_model.score
    tiny_model.score = lambda pairs: asked.extend(pairs) or score(pairs)  # type: ignore[method-assign,assignment]
    margins(tiny_model, CASES, EVIDENCES)
    assert len(asked) == (4 + 2 + 3) * 3


def test_the_character_itself_in_place_of_a_foil_takes_the_margin_away(tiny_model: LocalModel) -> None:
    same = Evidence("", "You are a captain.", ("You are a captain.",) * 3)
    assert np.nanmax(np.abs(margins(tiny_model, CASES, [same]))) == 0


# -- what answers are held against


def test_foils_are_those_nearest_in_length() -> None:
    captain = character("Captain", 50)
    foils = [character(f"F{n}", n) for n in (5, 48, 400, 55, 30)]
    [whole, trait] = evidence(captain, foils)
    assert whole.trait == "" and whole.text == system_prompt(captain)
    assert set(whole.foils) == {system_prompt(foils[n]) for n in (1, 3, 4)}
    assert trait.trait == "t5" and len(trait.foils) == FOILS


def test_traits_share_their_foils() -> None:
    captain = character("Captain", 50, (3, 8, 9))
    foils = [character(f"F{n}", 50, (2, 8, 30)) for n in range(4)]
    _, *traits = evidence(captain, foils)
    assert [t.trait for t in traits] == ["t3", "t8", "t9"]
    assert {t.foils for t in traits} == {traits[0].foils}
    assert traits[0].foils == (("say " * 8).strip(),) * 3  # of each foil the trait nearest in length


def test_a_character_is_not_its_own_foil_and_three_others_are_needed() -> None:
    captain = character("Captain", 50)
    foils = [replace(captain, introduction="another text"), *(character(f"F{n}", 50) for n in range(3))]
    assert all("another text" not in text for text in evidence(captain, foils)[0].foils)
    with pytest.raises(CharacteryError, match="needs 3 foil characters and has 2"):
        evidence(captain, foils[:3])


def test_a_foil_without_traits_is_passed_over() -> None:
    captain, bare = character("Captain", 50), character("Bare", 50, ())
    foils = [bare, *(character(f"F{n}", n) for n in (5, 400, 30))]
    whole, trait = evidence(captain, foils)
    assert system_prompt(bare) not in whole.foils and len(whole.foils) == len(trait.foils) == FOILS
    with pytest.raises(CharacteryError, match="needs 3 foil characters and has 2"):
        evidence(captain, foils[:3])


def test_bundled_characters_have_foils_of_like_length() -> None:
    for name in ("captain", "grandmother", "hhh"):
        chosen = find_character(name)
        whole, *traits = evidence(chosen)
        assert [t.trait for t in traits] == [t.id for t in chosen.traits()]
        assert all(len(e.foils) == len(set(e.foils)) == FOILS for e in (whole, *traits))
        ratio = math.prod(len(f) for f in whole.foils) ** (1 / 3) / len(whole.text)
        assert 0.4 < ratio < 2.5
