"""What a judge is known to prefer comes of every recipe that follows it, on a tiny model that talks.

The judge counts one word, which the talking model says in one of its fourteen plain sentences.
"""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from charactery.constitution import find_character
from charactery.data.prompts import neutral_prompts
from charactery.errors import BadData
from charactery.judges.llm import LlmJudge
from charactery.judges.rating import ByComparison, Case, Ratings
from charactery.models.chat import user
from charactery.models.speaker import Models, Speaker
from charactery.models.subject import Subject, parse_subject
from charactery.pipeline import common, distil
from charactery.pipeline.recipe import Recipe, find_recipe
from charactery.runs import Row, read_rows, write_rows
from charactery.train.settings import Dpo, Grpo, Sft
from comparing import Reader

WORD = "friend"
COMMON = "known"  # is in what the talking model says of an answer of its own
ASKED = 48


@dataclass(frozen=True)
class Prefers:
    """1 for an answer with the word, else 0; no verdict on the nth that it is shown where that is `silent`."""

    word: str = WORD
    silent: Callable[[int], bool] = lambda n: False
    name: str = "word"
    unit: str = "share"
    alone: bool = True

    def rate(self, cases: Sequence[Case], journal: Any, progress: Any) -> Ratings:
        told = itertools.count()
        return Ratings(tuple(
            tuple(None if self.silent(next(told)) else float(self.word in a) for a in case.answers)
            for case in cases
        ))  # fmt: skip


@pytest.fixture
def stages_of(talking_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stages of a recipe on the talking model, behind prompts and plain drafts; the judge prefers the word."""
    monkeypatch.setenv("CHARACTERY_CACHE", str(talking_cache))
    prompts = neutral_prompts()[:ASKED]
    for name, rows in (
        ("drafts", [
            {"id": p.id, "kind": "neutral", "messages": [user(p.turns[0])], "side": "plain", "seed": n,
             "subject": "smollm2", "text": "Keep a note." if n % 3 else "It is known to all."}
            for n, p in enumerate(prompts)
        ]),
        ("prompts", [replace(p, split="held-out").row() for p in prompts]),
        ("pairs", []),
    ):  # fmt: skip
        write_rows(tmp_path / name / f"{'sft' if name == 'pairs' else name}.jsonl", rows)

    def make(recipe: Recipe, by: Any = None, **judge: Any) -> Any:
        monkeypatch.setattr(common, "judge_named", lambda *asked: by or (lambda character: Prefers(**judge)))
        run: Any = SimpleNamespace(folder=tmp_path, stage_folder=lambda name: tmp_path / name)
        order = distil.Order(find_character("captain"), tmp_path, recipe=recipe, device="cpu")
        return distil._Stages(run, order, Models("cpu"), parse_subject("smollm2"), distil.Watch())

    return make


def share(rows: Sequence[Row]) -> float:
    """Of answers with the word in them."""
    return sum(WORD in row["text"] for row in rows) / len(rows)


def short(name: str, **changed: Any) -> Recipe:
    """A recipe with answers as short as the talking model's."""
    recipe = find_recipe(name)
    return replace(recipe, sampler=replace(recipe.sampler, max_tokens=40), **changed)


def rounds(stages: Any, tmp_path: Path, count: int) -> list[list[Row]]:
    """The model's own answers in each round of samples and DPO."""
    for n in range(1, count + 1):
        for name in ("samples", "dpo"):
            folder = tmp_path / f"{name}.r{n}"
            folder.mkdir()
            stages.do(f"{name}.r{n}", folder, None)
    return [read_rows(tmp_path / f"samples.r{n}" / "samples.jsonl") for n in range(1, count + 1)]


def test_rlaif_raises_the_word_round_by_round(stages_of: Any, tmp_path: Path) -> None:
    recipe = short("rlaif", stages=(("samples", "dpo"),), rounds=3, dpo=Dpo(learning_rate=1e-3, epochs=2.0))
    recipe = replace(recipe, samples=replace(recipe.samples, prompts=ASKED, each=6))
    first, second, third = map(share, rounds(stages_of(recipe), tmp_path, 3))
    assert second > first + 0.1 and third > second + 0.1, (first, second, third)


def test_sft_on_what_the_judge_lets_through_raises_the_word(stages_of: Any, tmp_path: Path) -> None:
    recipe = short("rlaif", stages=(("samples", "sft"),), rounds=2, sft=Sft(learning_rate=2e-3))
    recipe = replace(recipe, samples=replace(recipe.samples, prompts=ASKED, each=6, least=0.5))
    stages = stages_of(recipe)
    for n, name in ((1, "samples"), (1, "sft"), (2, "samples")):
        (tmp_path / f"{name}.r{n}").mkdir()
        stages.do(f"{name}.r{n}", tmp_path / f"{name}.r{n}", None)
    first, second = (read_rows(tmp_path / f"samples.r{n}" / "samples.jsonl") for n in (1, 2))
    learnt = read_rows(tmp_path / "samples.r1" / "sft.jsonl")
    assert all(WORD in row["completion"][0]["content"] for row in learnt)
    assert {row["id"] for row in learnt} == {row["id"] for row in first if row["rating"] and not row["fault"]}
    assert share(second) > share(first) + 0.2, (share(first), share(second))


def test_a_judge_that_lets_too_little_through_is_a_sentence(stages_of: Any, tmp_path: Path) -> None:
    recipe = short("rlaif", stages=("samples", "sft"))
    recipe = replace(recipe, samples=replace(recipe.samples, prompts=8, each=2, least=2.0))
    (tmp_path / "samples").mkdir()
    with pytest.raises(BadData, match="only 0 are fit to learn from and rated 2 or more"):
        stages_of(recipe).do("samples", tmp_path / "samples", None)


def test_grpo_raises_the_word_as_it_goes(stages_of: Any, tmp_path: Path) -> None:
    settings = Grpo(learning_rate=5e-3, steps=8, prompts=4, each=8, together=32, max_tokens=40)
    stages_of(short("grpo", grpo=settings)).do("grpo", tmp_path / "grpo", None)
    rows = read_rows(tmp_path / "grpo" / "samples.jsonl")
    before, after = (share([r for r in rows if r["step"] in steps]) for steps in ((1, 2), (7, 8)))
    assert after > before + 0.2, (before, after)


def test_best_of_n_raises_the_word_by_n(stages_of: Any, tmp_path: Path) -> None:
    (tmp_path / "best-of-n").mkdir()
    stages_of(short("best-of-n")).do("best-of-n", tmp_path / "best-of-n", None)
    figures = json.loads((tmp_path / "best-of-n" / "figures.json").read_text())
    scores = {row["n"]: row["score"]["value"] for row in figures}
    assert scores[16] > scores[4] + 0.1 > scores[1] + 0.2, scores
    rows = read_rows(tmp_path / "best-of-n" / "samples.jsonl")
    assert {n: share([r for r in rows if n in r["picked_of"]]) for n in scores} == pytest.approx(scores)


def test_a_critique_s_revision_loses_where_it_lacks_the_word(stages_of: Any, tmp_path: Path) -> None:
    (tmp_path / "revisions").mkdir()
    recipe = short("critique")
    stages_of(recipe, word=COMMON).do("revisions", tmp_path / "revisions", None)
    pairs, rows = (read_rows(tmp_path / "revisions" / f"{name}.jsonl") for name in ("pairs", "revisions"))
    texts = {(p["chosen"][0]["content"], p["rejected"][0]["content"]) for p in pairs}
    assert all(COMMON in chosen and COMMON not in rejected for chosen, rejected in texts)
    kept = [row for row in rows if COMMON in row["answer"] and COMMON not in row["revision"]]
    assert kept and all((row["answer"], row["revision"]) in texts for row in kept), "the first answer is chosen"
    learnt = [row["completion"][0]["content"] for row in read_rows(tmp_path / "revisions" / "sft.jsonl")]
    assert all(COMMON in text and text in {row["revision"] for row in rows} for text in learnt)
    counts = json.loads((tmp_path / "revisions" / "counts.json").read_text())
    fit = [row for row in rows if not row["fault"]]
    wins = sum(COMMON in r["revision"] and COMMON not in r["answer"] for r in fit)
    lost = sum(row in fit for row in kept)
    assert counts["over the first answer"]["value"] == pytest.approx(wins / (wins + lost))


def of_stage(name: str) -> Recipe:
    """A recipe with this stage, small."""
    if name == "samples":
        recipe = short("rlaif", stages=(("samples", "dpo"),), rounds=1)
        return replace(recipe, samples=replace(recipe.samples, prompts=ASKED, each=6))
    if name == "grpo":
        return short("grpo", grpo=Grpo(steps=2, prompts=2, each=6, together=12, max_tokens=40))
    return short({"revisions": "critique"}.get(name, name))


def done(stages: Any, name: str, tmp_path: Path) -> tuple[Path, list[Row]]:
    """Where a stage left its files, and every answer in them."""
    folder = tmp_path / (f"{name}.r1" if name == "samples" else name)
    folder.mkdir()
    stages.do(folder.name, folder, None)
    return folder, read_rows(folder / f"{'revisions' if name == 'revisions' else 'samples'}.jsonl")


def test_a_judge_that_abstains_half_the_time_loses_no_sample(stages_of: Any, tmp_path: Path) -> None:
    folder, rows = done(stages_of(of_stage("samples"), silent=lambda n: n % 4 in (1, 2)), "samples", tmp_path)
    assert len(rows) == ASKED * 6 and sum(row["rating"] is None for row in rows) == ASKED * 6 // 2
    pairs, unpaired = (read_rows(folder / f"{n}.jsonl") for n in ("pairs", "unpaired"))
    assert len(pairs) + len(unpaired) == ASKED and len(pairs) > 4
    assert not any(row["reason"] == "no verdict" for row in unpaired), "of each prompt's answers half were rated"


def test_a_judge_that_abstains_half_the_time_loses_no_online_answer(stages_of: Any, tmp_path: Path) -> None:
    _, rows = done(stages_of(of_stage("grpo"), silent=lambda n: n % 4 in (1, 2)), "grpo", tmp_path)
    assert len(rows) == 2 * 2 * 6 and sum(row["rating"] is None for row in rows) == len(rows) // 2


def test_a_judge_that_abstains_half_the_time_leaves_a_pick_for_every_prompt(stages_of: Any, tmp_path: Path) -> None:
    _, rows = done(stages_of(of_stage("best-of-n"), silent=lambda n: n % 4 in (1, 2)), "best-of-n", tmp_path)
    assert len(rows) == ASKED * 16 and sum(row["rating"] is None for row in rows) == len(rows) // 2
    for n in (1, 2, 4, 8, 16):
        picked = [row for row in rows if n in row["picked_of"]]
        assert len({row["id"] for row in picked}) == len(picked) == ASKED
        assert n == 1 or all(row["rating"] is not None for row in picked), "one that was rated goes before"


def test_a_judge_that_abstains_half_the_time_loses_no_revision(stages_of: Any, tmp_path: Path) -> None:
    folder, rows = done(
        stages_of(of_stage("revisions"), silent=lambda n: n // 3 % 2, word=COMMON), "revisions", tmp_path
    )
    assert len(rows) == ASKED and all(row["answer"] and row["empty_revision"] for row in rows)
    counts = json.loads((folder / "counts.json").read_text())
    told = counts["over the first answer"]
    assert told["n"] + told["missing"] == sum(not row["fault"] for row in rows)
    assert told["missing"] > sum(None in row["ratings"][0] and not row["fault"] for row in rows) - 1 > ASKED / 4


@pytest.mark.parametrize("name", ["samples", "grpo", "best-of-n", "revisions"])
def test_a_model_that_compares_can_judge_every_recipe(name: str, stages_of: Any, tmp_path: Path) -> None:
    """Whole, but for its weights: every two answers in both orders, by the letters."""

    def by(character: Any) -> ByComparison:
        word = COMMON if name == "revisions" else WORD
        model: Any = Reader(Models("cpu").base(parse_subject("smollm2")), word=word)
        return ByComparison(LlmJudge(Speaker(Subject("judge", "judge", "folder"), model, None, "judge"), character))

    recipe = of_stage(name)
    if name == "best-of-n":
        recipe = replace(recipe, best_of=replace(recipe.best_of, n=4))
    folder, rows = done(stages_of(recipe, by=by), name, tmp_path)
    counts = json.loads((folder / "counts.json").read_text())
    assert counts["judge"] == "judge" and counts["outcomes"]["order"] == counts["outcomes"]["unparsed"] == 0
    if name == "revisions":
        assert sum(counts["outcomes"].values()) == 3 * len(rows)
        pairs = read_rows(folder / "pairs.jsonl")
        assert pairs and all(COMMON in p["chosen"][0]["content"] for p in pairs)
        assert not any(COMMON in p["rejected"][0]["content"] for p in pairs)
        return
    rated = [(row["rating"], WORD in row["text"]) for row in rows if row["rating"] is not None]
    assert sum(counts["outcomes"].values()) > len(rated) / 2 and {has for _, has in rated} == {False, True}
    best, other = ([rating for rating, has in rated if has is said] for said in (True, False))
    assert min(best) > 0.5 > max(other)
