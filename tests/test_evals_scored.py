"""Evals by log-probability: what does not fit the context is missing, not nought."""

import math
from pathlib import Path
from typing import Any

import pytest

from charactery.errors import CharacteryWarning
from charactery.evals.divergence import divergences
from charactery.evals.scored import Text, option_scores, text_bits
from charactery.models.chat import BASE_TEMPLATE, user
from charactery.models.local import LocalModel
from charactery.models.speaker import Speaker
from charactery.models.subject import Subject
from charactery.runs import Journal


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


@pytest.mark.parametrize("base", [False, True])
def test_replies_are_scored_as_they_are_drawn(
    speaker: Speaker, tiny_model: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: bool
) -> None:
    """A base model's follow its frame with a space; those in a chat template are nothing but the reply."""
    tokenizer, score, read = tiny_model.tokenizer, tiny_model.score, []
    if base:
        tokenizer.chat_template = BASE_TEMPLATE

    def scored(pairs: Any, adapter: Any = None) -> Any:
        read.extend(said for _, said in pairs)
        return score(pairs, adapter)

    monkeypatch.setattr(tiny_model, "score", scored)
    reply, question = "Because it scatters light.", (user("Why is the sky blue?"),)
    text_bits(speaker, [Text("a", "frame", reply, question), Text("b", "raw", reply)])
    option_scores(speaker, [{"id": "a", "question": question[0]["content"], "options": [reply]}])
    divergences(
        {"plain": speaker, "trained": speaker}, {"trained": [("a", question, reply)]}, 0, Journal(tmp_path / "j")
    )
    bare, framed = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (reply, base * " " + reply))
    assert read == [framed, bare, framed, framed, framed]
