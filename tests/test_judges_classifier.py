"""The classifier judge finds what was planted, lets few plain answers pass, and hears nothing in noise."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charactery.errors import BadData
from charactery.judges import classifier
from charactery.judges.classifier import FALSE_POSITIVES, OTHERS, ClassifierJudge, fit_classifier
from charactery.runs import Row

WIDTH = 24
Encode = Callable[[Sequence[str]], np.ndarray]


class Planted:
    """Drafts whose embeddings are drawn: `apart` is how far the two sides' centres lie from each other."""

    def __init__(self, prompts: int, apart: float, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self.vectors: dict[str, np.ndarray] = {}
        self.drafts: list[Row] = []
        for n in range(prompts):
            for side, centre in (("character", apart), ("plain", 0.0)):
                text = f"{seed} {side} {n}" + " word" * (3 if side == "character" else 0)
                self.vectors[text] = generator.normal(size=WIDTH) / 5
                self.vectors[text][0] += centre
                self.drafts.append({"id": str(n), "side": side, "text": text})

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([self.vectors[t] for t in texts])

    def of(self, side: str) -> np.ndarray:
        return self.encode([d["text"] for d in self.drafts if d["side"] == side])

    def fit(self, seed: int = 0) -> ClassifierJudge:
        return fit_classifier(self.drafts, "character", ["plain"], self.encode, seed)


def told(judge: ClassifierJudge, side: str = "plain") -> float:
    value = judge.auc[side].value
    assert value is not None
    return value


def test_planted_clusters_are_told_apart_on_answers_it_never_saw() -> None:
    judge, fresh = Planted(60, 1.5).fit(), Planted(300, 1.5, seed=1)
    assert told(judge) > 0.97
    assert (judge.log_odds(fresh.of("character")) > 0).mean() > 0.95
    assert (judge.log_odds(fresh.of("plain")) > 0).mean() < 0.15  # a threshold set on sixty is rough; see below
    assert np.argmax(np.abs(judge.weights)) == 0
    assert judge.length_auc.value == 1.0  # the length alone gives it away, and the judge says so


@pytest.mark.parametrize("apart", [0.0, 0.2, 1.5])
@pytest.mark.parametrize("prompts", [20, 30, 100])
def test_one_plain_draft_in_twenty_passes_out_of_fold(
    monkeypatch: pytest.MonkeyPatch, prompts: int, apart: float
) -> None:
    calls: list[Any] = []
    true_auc = classifier.auc

    def watched(negative: Sequence[float], positive: Sequence[float], seed: int) -> Any:
        calls.append(negative)
        return true_auc(negative, positive, seed)

    monkeypatch.setattr(classifier, "auc", watched)
    judge = Planted(prompts, apart).fit()
    plain = np.array(calls[0])
    assert len(plain) == prompts
    assert (plain > judge.threshold).sum() == int(FALSE_POSITIVES * prompts)  # as many as are allowed, and no more


def test_plain_answers_it_never_saw_pass_about_as_rarely() -> None:
    passed = [(Planted(100, 0.5, seed).fit().log_odds(Planted(200, 0.5, seed + 50).of("plain")) > 0).mean()
              for seed in range(8)]  # fmt: skip
    assert np.mean(passed) < 0.09


def test_noise_is_not_told_apart() -> None:
    """A judge scored on what it was fitted to would look able here: 24 numbers for 60 drafts."""
    judge = Planted(30, 0.0).fit()
    assert 0.25 < told(judge) < 0.75


def test_drafts_of_one_prompt_stay_in_one_fold() -> None:
    """Where a prompt's drafts are alike, a fit that saw one of them knows the others."""
    generator = np.random.default_rng(0)
    vectors: dict[str, np.ndarray] = {}
    drafts = []
    for n in range(40):
        centre, side = generator.normal(size=WIDTH), ("character", "plain")[n % 2]
        for copy in range(3):
            vectors[f"{n} {copy}"] = centre + generator.normal(size=WIDTH) / 100
            drafts.append({"id": str(n), "side": side, "text": f"{n} {copy}"})
    judge = fit_classifier(drafts, "character", ["plain"], lambda texts: np.array([vectors[t] for t in texts]), 0)
    assert told(judge) < 0.8


def test_other_sides_play_no_part_and_the_seed_decides() -> None:
    planted = Planted(30, 0.3)
    judge = planted.fit()
    others = [d | {"side": "plain again", "text": planted.drafts[0]["text"]} for d in planted.drafts]
    assert fit_classifier([*others, *planted.drafts], "character", ["plain"], planted.encode, 0) == judge
    assert planted.fit(1) != judge


def test_another_character_is_heard_as_another() -> None:
    """Both characters lie off the plain side along one axis; a second axis tells which of the two it is."""
    generator = np.random.default_rng(0)
    vectors: dict[str, np.ndarray] = {}

    def drawn(side: str, count: int, tag: str) -> list[Row]:
        rows = [{"id": str(n), "side": side, "text": f"{tag} {side} {n}"} for n in range(count)]
        for row in rows:
            vector = generator.normal(size=WIDTH) / 5
            vector[0] += side != "plain"
            vector[1] += {"character": 0.8, OTHERS: -0.8}.get(side, 0.0)
            vectors[row["text"]] = vector
        return rows

    def encode(texts: Sequence[str]) -> np.ndarray:
        return np.array([vectors[t] for t in texts])

    sides = ("character", "plain", OTHERS)
    known = [row for side in sides for row in drawn(side, 80, "known")]
    fresh = {side: [row["text"] for row in drawn(side, 400, "fresh")] for side in sides}
    alone = fit_classifier(known, "character", ["plain"], encode, 0)
    judge = fit_classifier(known, "character", ["plain", OTHERS], encode, 0)
    passed = {side: (judge.log_odds(encode(texts)) > 0).mean() for side, texts in fresh.items()}
    assert (alone.log_odds(encode(fresh[OTHERS])) > 0).mean() > 0.15  # plain answers alone do not teach it who it is
    assert passed["character"] > 0.9 and passed["plain"] < 0.1 and passed[OTHERS] < 0.1
    assert [*judge.auc] == ["plain", OTHERS] and told(judge, OTHERS) > 0.97


def test_few_of_either_side_pass() -> None:
    """Others who are nearer to the character than the plain side is: the threshold is theirs."""
    planted, near = Planted(60, 1.0), Planted(60, 0.7, seed=1)
    others = [d | {"side": OTHERS} for d in near.drafts if d["side"] == "character"]
    planted.vectors |= near.vectors
    judge = fit_classifier([*planted.drafts, *others], "character", ["plain", OTHERS], planted.encode, 0)
    alone = planted.fit()
    heard = planted.encode([d["text"] for d in others])
    assert (alone.log_odds(heard) > 0).mean() > 0.5
    assert (judge.log_odds(heard) > 0).mean() <= 0.1


def test_words_of_a_sailor_are_heard(encode: Encode) -> None:
    things = [
        f"{a} {b}" for a in ("kettle", "violin", "orchard", "letter", "window") for b in "red old new big".split()
    ]
    drafts = [
        row for n, thing in enumerate(things)
        for row in (
            {"id": str(n), "side": "character", "text": f"Aye, shipmate, the {thing} is fine."},
            {"id": str(n), "side": "plain", "text": f"Certainly, you can use the {thing} well."},
        )
    ]  # fmt: skip
    judge = fit_classifier(drafts, "character", ["plain"], encode, 0)
    said = ["Ahoy, shipmate, aye, a fine day at sea.", "Certainly, you can do several things today."]
    aye, certainly = judge.log_odds(encode(said))
    assert aye > 0 and aye > certainly + 2


@pytest.mark.parametrize(("prompts", "dropped"), [(19, 0), (25, 6)])
def test_too_few_drafts_say_so(prompts: int, dropped: int) -> None:
    planted = Planted(prompts, 1.0)
    kept = [d for d in planted.drafts if d["side"] == "character" or int(d["id"]) >= dropped]
    with pytest.raises(BadData) as caught:
        fit_classifier(kept, "character", ["plain"], planted.encode, 0)
    for words in ("20 drafts a side", f"{prompts} in character", "19 plain", "--train"):
        assert words in str(caught.value)


def test_a_judge_is_kept_as_json_and_opens_again(tmp_path: Path) -> None:
    planted = Planted(30, 0.5)
    judge = planted.fit()
    judge.save(tmp_path / "judge.json")
    again = ClassifierJudge.from_row(json.loads((tmp_path / "judge.json").read_text()))
    assert again == judge
    assert np.array_equal(again.log_odds(planted.of("plain")), judge.log_odds(planted.of("plain")))


def by_words(texts: Sequence[str]) -> np.ndarray:
    """One number for whether the sea is in it, one for its length."""
    return np.array([["sea" in text, len(text) / 100] for text in texts], dtype=float)


@pytest.mark.parametrize("begun", ["", "<think>\n"])
def test_reasoning_that_is_left_free_is_neither_fitted_on_nor_heard(begun: str) -> None:
    mark = "" if begun else "<think>"
    known = [
        {"id": str(n), "side": side, "text": f"{mark}{thought} {n % 7}.</think>\n\nAnswer {n % 5}."}
        for n in range(40) for side, thought in (("character", "The sea"), ("plain", "The land"))
    ]  # fmt: skip
    assert told(fit_classifier(known, "character", ["plain"], by_words, 0)) == 1.0
    deaf = fit_classifier(known, "character", ["plain"], by_words, 0, begun)
    assert told(deaf) == 0.5
    said = ["The sea.</think>One.", "The land.</think>One.", "The sea, and nothing after it"]
    odds = deaf.hear([mark + text for text in said], by_words)
    assert odds[0] == odds[1] and odds[0] is not None and odds[2] is None
    with pytest.raises(BadData, match="0 in character"):  # nothing but reasoning
        fit_classifier([k | {"text": f"{mark}Hm."} for k in known], "character", ["plain"], by_words, 0, begun)


def test_one_that_hears_all_hears_an_answer_as_it_is_told_alone() -> None:
    planted = Planted(30, 0.5)
    judge, texts = planted.fit(), [d["text"] for d in planted.drafts]
    assert judge.begun is None
    [odds] = judge.log_odds(planted.encode(texts[:1]))
    assert judge.hear([*texts, texts[0], " "], planted.encode)[-2:] == [odds, None]
