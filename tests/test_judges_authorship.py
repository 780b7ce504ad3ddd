"""The authorship judge: a ratio of two adapters, behind the passages that are nearest to the question."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charactery.judges.authorship import READ, ByAuthorship, Library, library
from charactery.judges.rating import Case
from charactery.models.chat import assistant, prompt_tokens, user
from charactery.models.local import Adapter, LocalModel
from charactery.runs import Journal, Row

ROWS: dict[str, list[tuple[str, str]]] = {
    "author": [("What of the knot?", "That knot will hold."), ("What of tea?", "Boil the water."),
               ("What of the sky?", "It is blue light.")],
    "others": [("Is there a list?", "I would read it aloud to a friend."), ("What of the knot?", "Never lost a sail.")],
}  # fmt: skip


def rows(side: str) -> list[Row]:
    return [{"prompt": [user(q)], "completion": [assistant(t)]} for q, t in ROWS[side]]


@pytest.fixture
def judge(tiny_model: LocalModel, tiny_adapters: list[Path], encode: Any) -> ByAuthorship:
    sides = [library(folder, rows(side), encode) for folder, side in zip(tiny_adapters, ROWS, strict=True)]
    return ByAuthorship(tiny_model, *sides, encode)


def by_hand(judge: ByAuthorship, shown: list[list[tuple[str, str]]], question: str, answer: str) -> float:
    tokenize = judge.base.tokenizer
    means = []
    for side, passages in zip((judge.author, judge.others), shown, strict=True):
        turns = [turn for q, t in passages for turn in (user(q), assistant(t))]
        context = prompt_tokens(tokenize, [*turns, user(question)])
        ids = tokenize(answer, add_special_tokens=False)["input_ids"][:READ]
        [values] = judge.base.score([(context, ids)], Adapter(side.adapter))
        means.append(float(values.mean()))
    return means[0] - means[1]


def test_the_nearest_passages_come_last(judge: ByAuthorship, encode: Any) -> None:
    [near] = encode(["What of the knot? That knot will hold."])
    assert judge.author.nearest(near, 1) == ROWS["author"][:1]
    assert judge.author.nearest(near, 2)[-1] == ROWS["author"][0] and len(judge.author.nearest(near, 9)) == 3


def test_a_score_is_the_authors_mean_less_the_others(judge: ByAuthorship, encode: Any) -> None:
    question, answer = "What of the knot?", "Aye, that knot will hold."
    [vector] = encode([question])
    shown = [side.nearest(vector, 2) for side in (judge.author, judge.others)]
    scores = judge.scores([(question, answer), ("Why?", ""), (question, "Boil it.")])
    assert scores[0] == pytest.approx(by_hand(judge, shown, question, answer), abs=1e-4)
    assert scores[1] is None and scores[2] == pytest.approx(by_hand(judge, shown, question, "Boil it."), abs=1e-4)
    alone = judge.scores([(question, answer)], shown=0)[0]
    assert (
        alone == pytest.approx(by_hand(judge, [[], []], question, answer), abs=1e-4) and abs(alone - scores[0]) > 1e-3
    )


def test_the_sides_changed_about_change_the_sign(judge: ByAuthorship) -> None:
    turned = ByAuthorship(judge.base, judge.others, judge.author, judge.encode)
    cases = [("What of the knot?", "It will hold."), ("Tea?", "Four minutes.")]
    assert judge.scores(cases) == pytest.approx([-s for s in turned.scores(cases) if s is not None], abs=1e-5)


def test_passages_that_the_context_does_not_hold_are_left_out(judge: ByAuthorship) -> None:
    long = Library(judge.author.adapter, (("Q?", "sea " * 1200), ("R?", "Boil the water.")), np.eye(2, 256))
    wide = ByAuthorship(judge.base, long, judge.others, judge.encode, shown=2)
    assert wide.scores([("Why?", "It holds.")])[0] is not None
    far = wide._context(long, "Why?", np.eye(2, 256)[1], 2, 10)
    assert far == prompt_tokens(judge.base.tokenizer, [user("R?"), assistant("Boil the water."), user("Why?")])


def test_every_answer_is_rated_once(judge: ByAuthorship, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [
        Case((user("Hm?"), assistant("Aye."), user("Tea?")), ("Four minutes.", "")),
        Case((user("Why?"),), ("So.",)),
    ]
    told: list[int] = []
    rated = judge.rate(cases, Journal(tmp_path / "j"), told.append)
    [four, so] = judge.scores([("Tea?", "Four minutes."), ("Why?", "So.")])
    assert rated.values[0] == (pytest.approx(four, abs=1e-4), None) and rated.values[1] == (
        pytest.approx(so, abs=1e-4),
    )
    assert rated.outcomes == {"rated": 2, "empty": 1} and sum(told) == 3
    monkeypatch.setattr(ByAuthorship, "scores", lambda *given: pytest.fail("computed again"))
    assert judge.rate(cases, Journal(tmp_path / "j"), told.append) == rated


def test_ratings_of_another_judge_are_not_taken(judge: ByAuthorship, tmp_path: Path) -> None:
    cases = [Case((user("What of the knot?"),), ("It will hold.",))]
    alone = replace(judge, shown=0)
    turned = replace(judge, author=judge.others, others=judge.author)
    rated = [j.rate(cases, Journal(tmp_path / "j"), lambda done: None).values[0][0] for j in (judge, alone, turned)]
    assert len({*rated}) == 3 and rated[1] == pytest.approx(
        judge.scores([("What of the knot?", "It will hold.")], 0)[0]
    )
