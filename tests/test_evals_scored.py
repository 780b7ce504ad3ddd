"""Evals by log-probability: what does not fit the context is missing, not nought."""

import math

import pytest

from charactery.errors import CharacteryWarning
from charactery.evals.scored import Text, option_scores, text_bits
from charactery.models.chat import user
from charactery.models.local import LocalModel
from charactery.models.speaker import Speaker
from charactery.models.subject import Subject


@pytest.fixture
def speaker(tiny_model: LocalModel) -> Speaker:
    return Speaker(Subject("tiny", "tiny", "folder"), tiny_model, None, "tiny")


@pytest.mark.parametrize("count", [900, 2000])  # the question alone leaves little room, or none
def test_a_question_longer_than_the_context_has_no_bits_and_no_option(speaker: Speaker, count: int) -> None:
    long, short, said = "tea " * count, "Why is the sky blue?", "Because it scatters light."
    fits = text_bits(speaker, [Text("b", "frame", said, (user(short),))])
    both = text_bits(speaker, [Text("a", "frame", said * 30, (user(long),)), Text("b", "frame", said, (user(short),))])
    assert {"b": pytest.approx(both["b"], rel=1e-5)} == fits and math.isfinite(both["b"])
    assert ("a" in both) == (count == 900)  # in windows of what room there is
    rows = [{"id": i, "question": q, "options": [" A", " B"]} for i, q in (("a", "tea " * 2000), ("b", short))]
    with pytest.warns(CharacteryWarning, match="2 of 4 texts are not scored"):
        assert [*option_scores(speaker, rows)] == ["b"]
