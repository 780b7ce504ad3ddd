"""What each stage hands on is what the recipe says."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from charactery.cli import app
from charactery.constitution import find_character
from charactery.data.pairs import read_pairs
from charactery.data.prompts import Prompt
from charactery.errors import BadData, CharacteryError, RunConflict
from charactery.judges.rating import LIKELIHOOD, OfAnswersAlone
from charactery.models.chat import user
from charactery.models.local import LocalModel, Sampler
from charactery.models.speaker import Speaker
from charactery.models.subject import parse_subject
from charactery.pipeline import common, distil, examining, making, training
from charactery.pipeline.manifest import stated
from charactery.pipeline.plan import foresee
from charactery.pipeline.recipe import DEFAULT, Recipe, Sampling, find_recipe, stages
from charactery.report.words import subjects
from charactery.runs import read_rows, write_json, write_rows
from charactery.train.settings import Dpo, Sft
from conftest import OPENED

RECIPE = Recipe(sampler=Sampling(50, 0.6), draft_temperature=0.9, draws=2, self_play=7, self_play_temperature=0.2)


def work(folder: Path, **order: Any) -> Any:
    """The stages of a run whose models are nobody."""
    models: Any = SimpleNamespace(speaker=lambda subject: Speaker(subject, None, None, "nobody"))
    run: Any = SimpleNamespace(folder=folder, stage_folder=lambda name: folder)
    asked = distil.Order(find_character("captain"), folder, recipe=RECIPE, **order)
    return distil._Stages(run, asked, models, parse_subject("smollm2"), distil.Watch())


@pytest.mark.parametrize(("pairs", "draws"), [(None, 2), (Path("mine.jsonl"), 1)])
def test_drafts_are_warm_and_earlier_turns_are_not_and_are_short(
    pairs: Path | None, draws: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "prompts.jsonl", [Prompt("1", "neutral", ("Why?",)).row()])
    seen: list[Any] = []
    monkeypatch.setattr(making, "draft", lambda prompts, drafting, *rest: seen.append(drafting))
    work(tmp_path, pairs=pairs).drafts(tmp_path)
    [drafting] = seen
    assert drafting.sampler == Sampler(50, 0.9) and drafting.told == Sampler(48, 0.6)
    assert drafting.draws == draws and drafting.encode is not None
    longer = work(tmp_path)
    longer.recipe = replace(RECIPE, told=80)
    longer.drafts(tmp_path)
    assert seen[1].told == Sampler(50, 0.6)  # never longer than what is asked of an answer


def test_answers_to_stop_by_are_those_of_any_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [replace(Prompt(split, "neutral", (f"{split}?",)), split=split).row() for split in ("train", "validation")]
    write_rows(tmp_path / "prompts.jsonl", rows)
    seen: list[Any] = []
    monkeypatch.setattr(making, "draft", lambda prompts, drafting, *rest: seen.append((prompts, drafting)) or rows)
    monkeypatch.setattr(making, "sft_rows", lambda drafts, side: drafts)
    with pytest.raises(BadData, match="only 2 answers are left for a loss to stop at"):
        work(tmp_path).validation(tmp_path)
    seen.clear()
    rows *= 2
    for seed in (0, 5):
        asked_for = work(tmp_path, seed=seed, sham=True)
        asked_for.validation(tmp_path)
        asked_for.drafts(tmp_path)
    asked = [([p.id for p in prompts], drafting.seed, drafting.sham, drafting.draws) for prompts, drafting in seen]
    assert asked == [(["validation"], 0, False, 2), (["train"], 0, True, 2),
                     (["validation"], 0, False, 2), (["train"], 5, True, 2)]  # fmt: skip


def test_what_stops_at_a_loss_has_a_stage_for_it_and_the_sham_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = replace(RECIPE, sft=Sft(stop_at_loss=3.0))
    assert stages(stopping, False)[:3] == ["prompts", "drafts", "validation"]
    assert "validation" not in stages(replace(stopping, stages=("pairs", "dpo")), False) + stages(RECIPE, False)
    order = distil.Order(find_character("captain"), tmp_path / "run", recipe=RECIPE)
    less, more = (foresee(o).rows["answers to generate"] for o in (order, replace(order, recipe=stopping)))
    assert more - less == 32 * (2 + 1) + round(2.2 * 8)
    write_rows(tmp_path / "sft.jsonl", [{"id": "1", "kind": "asks"}])
    seen: list[Any] = []
    monkeypatch.setattr(training, "train_fitting", lambda begin, train, settings, batch: train(None, None, settings))
    monkeypatch.setattr(training, "train_sft", lambda *given: seen.append((given[3].stop_at_loss, given[-1])))
    arms = work(tmp_path)
    arms.recipe = stopping
    arms.sft(tmp_path, "sft")
    arms.recipe = replace(stopping, stages=("pairs", "sft", ("sft",)))
    arms.sft(tmp_path, "sft.r1")  # what it learns from may be anything, and the loss is on the character's answers
    arms.recipe = stopping
    said = {"id": "1", "kind": "asks", "messages": [user("Q?")], "text": "Yes.", "subject": "smollm2", "seed": 0}
    write_rows(tmp_path / "drafts.jsonl", [said | {"side": "plain"}, said | {"side": "character", "text": "Aye."}])
    arms.sham_sft(tmp_path)
    assert [row["completion"][0]["content"] for row in read_rows(tmp_path / "sft.jsonl")] == ["Yes."]
    assert seen == [(3.0, [{"id": "1", "kind": "asks"}]), (0.0, []), (0.0, [])]
    with pytest.raises(CharacteryError, match=r"\[authors\] has no `stop_at_loss`"):
        replace(RECIPE, authors=Sft(stop_at_loss=3.0)).check()


def test_self_play_is_drawn_colder_from_what_sft_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "sft.jsonl", [{"id": "1", "kind": "asks", "prompt": [user("Q?")]}])
    seen: list[Any] = []
    monkeypatch.setattr(making, "self_play", lambda *given: seen.append(given) or [])
    work(tmp_path).self_play(tmp_path, "self-play")
    _, speaker, sampler, most, *_ = seen[0]
    assert sampler == Sampler(50, 0.2) and most == 7 and speaker.subject.adapter == tmp_path / "adapter"
    assert '"n": 0' in (tmp_path / "repeats.json").read_text()


@pytest.mark.parametrize(("alone", "count"), [(True, 14), (False, 20)])
def test_revisions_are_drawn_as_warm_as_what_they_revise(
    alone: bool, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = (("plain", "asks"), ("plain", "neutral"), ("plain", "task"), ("character", "asks"))
    rows = [{"id": f"{n}", "kind": kind, "side": side} for n, (side, kind) in enumerate(sides)]
    write_rows(tmp_path / "drafts.jsonl", rows)
    seen: list[Any] = []
    monkeypatch.setattr(making, "revise", lambda *given: seen.append(given) or ([], []))
    stages = work(tmp_path)
    stages.judge = lambda: SimpleNamespace(alone=alone)
    stages.recipe = replace(RECIPE, stages=("pairs", "revisions", "sft"))
    started: list[int] = []
    stages.watch = distil.Watch(start=lambda name, total: started.append(total))
    with pytest.raises(BadData, match="only 0 revisions are better"):
        stages.revisions(tmp_path, "revisions")
    [(drafts, revising, *_)] = seen
    assert [d["id"] for d in drafts] == ["0", "1"] and started == [count]
    assert revising.sampler == Sampler(50, 0.9)  # drafts' own, not that of the evals


def test_a_judge_begins_to_read_where_the_template_leaves_off(tiny_model: LocalModel, tmp_path: Path) -> None:
    tiny_model.tokenizer.chat_template = OPENED
    stages = work(tmp_path)
    stages.models.base = lambda subject: tiny_model
    assert stages.judge().name == LIKELIHOOD and not isinstance(stages.judge(), OfAnswersAlone)
    stages.recipe = replace(RECIPE, grpo=replace(RECIPE.grpo, mask_reasoning=True))
    assert isinstance(stages.judge(), OfAnswersAlone) and stages.judge().begun == "<think>\n"


@pytest.mark.parametrize(("masks", "begun"), [(True, "<think>\n"), (False, None)])
def test_what_picks_drafts_and_judges_answers_knows_what_is_left_of_them(
    tiny_model: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, masks: bool, begun: str | None
) -> None:
    tiny_model.tokenizer.chat_template = OPENED
    stages = work(tmp_path)
    stages.models.base = lambda subject: tiny_model
    stages.recipe = replace(RECIPE, sft=replace(Sft(), mask_reasoning=masks))
    assert stages.drafting().begun == begun
    # and before anything is trained: of these no side has said anything
    told = {"kind": "asks", "messages": [user("Q?")], "subject": "s", "seed": 0}
    write_rows(tmp_path / "drafts.jsonl", [
        told | {"id": f"{n}", "side": side, "text": f"{side} {n}"} for n in range(24) for side in ("character", "plain")
    ])  # fmt: skip
    if masks:
        with pytest.raises(BadData, match=r"0 in character and 0 plain; what is reasoning alone .*--max-tokens"):
            stages.pairs(tmp_path, None)
    else:
        stages.pairs(tmp_path, None)
    # and of a person's portrait
    write_rows(tmp_path / "samples.jsonl", [{"answer": "Hm.</think>Aye."}])
    write_json(tmp_path / "authorship.json", {"threshold": 0.0})
    seen: list[Any] = []
    monkeypatch.setattr(examining, "portray", seen.append)
    monkeypatch.setattr(examining, "portrait_ahead", lambda *given: 1)
    monkeypatch.setattr(examining, "stage_json", lambda *given: {"threshold": 0.0})
    monkeypatch.setattr(distil.Order, "texts", lambda self: {"author": []})
    stages.by_authorship = lambda: None
    stages.subjects = dict
    stages.person(tmp_path)
    assert [row["answer"] for row in seen[0].answers] == ["Aye." if masks else "Hm.</think>Aye."]


def test_who_is_compared_is_said_as_it_was() -> None:
    plain = subjects(stages(find_recipe("distill+dpo"), False), True, False)
    assert "Sham" not in plain and "with the adapter, and no system message" in plain
    said = subjects(stages(find_recipe("distill+dpo"), True), True, False)
    assert "in as many steps: SFT on the model's own plain answers, then DPO on pairs of two of them" in said
    assert "DPO" not in subjects(stages(find_recipe("spec-docs"), True), True, False)
    assert "GRPO by rewards that are drawn" in subjects(stages(find_recipe("grpo"), True), True, False)
    stopped = subjects(stages(find_recipe("distill"), True), False, True)
    assert "all its weights trained" in stopped and "SFT to its end: SFT" in stopped
    assert "the one that the judge picks" in subjects(stages(find_recipe("best-of-n"), False), True, False)


def test_no_round_draws_what_another_drew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "sft.jsonl", [{"id": "1", "kind": "asks", "prompt": [user("Q?")]}])
    write_rows(tmp_path / "drafts.jsonl", [])
    seen: list[int] = []
    monkeypatch.setattr(making, "self_play", lambda *given: seen.append(given[4]) or [])
    monkeypatch.setattr(making, "revise", lambda drafts, revising, *rest: seen.append(revising.seed) or ([], []))
    stages = work(tmp_path, seed=5)
    stages.judge = lambda: SimpleNamespace(alone=True)
    stages.recipe = replace(RECIPE, stages=("pairs", "sft", ("revisions", "self-play", "dpo")), rounds=2)
    for name in ("self-play.r1", "self-play.r2"):
        stages.self_play(tmp_path, name)
    for name in ("revisions.r1", "revisions.r2"):
        with pytest.raises(BadData, match="only 0 revisions"):
            stages.revisions(tmp_path, name)
    seen += [stages.work(name, tmp_path).seed for name in ("dpo.r1", "dpo.r2")]
    assert len({*seen}) == 6 and 5 not in seen and all(seed < 2**32 for seed in seen[-2:])
    stages.recipe = RECIPE
    stages.self_play(tmp_path, "self-play")
    assert seen[-1] == stages.work("dpo", tmp_path).seed == stages.work("sham-sft", tmp_path).seed == 5


@pytest.mark.parametrize(("rounds", "steps"), [(1, 12), (3, 36)])
def test_a_sham_of_grpo_takes_as_many_steps_as_all_its_rounds(
    rounds: int, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(training, "train_fitting", lambda begin, train, told, batch: seen.append((told.steps, batch)))
    write_rows(tmp_path / "drafts.jsonl", [])
    stages = work(tmp_path)
    stages.recipe = replace(RECIPE, stages=(("grpo",),), rounds=rounds)
    stages.grpo(tmp_path, "grpo.r1", None, None)
    stages.sham_grpo(tmp_path)
    assert seen == [(12, 32), (steps, 32)]


def test_own_pairs_that_are_left_out_are_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encode: Any
) -> None:
    held = replace(Prompt("1", "neutral", ("Why is the sky blue at noon?",)), split="held-out")
    write_rows(tmp_path / "prompts.jsonl", [held.row()])
    write_rows(tmp_path / "drafts.jsonl", [])
    asked = ["Why is the sky blue at noon ?", "What is a kettle for?", "Who made tea?", "How long is a mile?"]
    mine = tmp_path / "mine.jsonl"
    write_rows(mine, [{"prompt": text, "chosen": "Aye.", "rejected": "Yes."} for text in asked])
    monkeypatch.setattr(making, "check_drafts", lambda *given: None)
    stages, said = work(tmp_path), list[str]()
    stages._encode, stages.watch = encode, distil.Watch(say=said.append)
    with pytest.raises(BadData, match=r"only 3 pairs are left to train on; see set_aside.jsonl here"):
        stages.pairs(tmp_path, read_pairs(mine))
    [left_out] = read_rows(tmp_path / "set_aside.jsonl")
    assert left_out["id"] == "own-1" and "held-out" in left_out["reason"] and "1 of your pairs" in said[0]


def test_a_recipe_that_leaves_dpo_nothing_is_refused_at_once(tmp_path: Path) -> None:
    bare = replace(RECIPE, sizes=replace(RECIPE.sizes, tasks=0), self_play=0, contrast=0)
    order = distil.Order(find_character("captain"), tmp_path / "run", recipe=bare)
    for asked in (lambda: distil.train(order, distil.Watch()), lambda: foresee(order)):
        with pytest.raises(CharacteryError, match="DPO would have no pairs"):
            asked()
    assert not (tmp_path / "run").exists()
    replace(order, recipe=replace(bare, contrast=1)).check()
    replace(order, recipe=replace(bare, stages=("pairs", "revisions", "sft", "dpo"))).check()
    mine = tmp_path / "mine.jsonl"
    mine.write_text('{"prompt": "Q?", "chosen": "Aye.", "rejected": "Yes."}\n' * 4)
    replace(order, pairs=mine).check()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sft": replace(Sft(), epochs=0.0)}, "--sft-epochs is 0; give a number above 0"),
        ({"dpo": replace(Dpo(), learning_rate=float("nan"))}, "--dpo-rate is nan"),
        ({"dpo": replace(Dpo(), beta=-0.1)}, "--dpo-beta is -0.1"),
        ({"draft_temperature": 0.0}, "at --draft-temperature 0 they are the same"),
        ({"authors": Sft(optimizer="lion")}, "`optimizer` is 'lion'; give one of adamw"),
    ],
)
def test_what_could_not_be_trained_is_refused_before_hours_of_it(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    order = distil.Order(find_character("captain"), tmp_path / "run", sham=True, recipe=replace(RECIPE, **change))
    for asked in (lambda: distil.train(order, distil.Watch()), lambda: foresee(order)):
        with pytest.raises(CharacteryError, match=words):
            asked()
    assert not (tmp_path / "run").exists()
    bare = replace(RECIPE, stages=("pairs", "sft"), draft_temperature=0.0)  # whose sham compares nothing
    replace(order, recipe=bare).check()


def test_the_models_of_a_judge_of_authorship_are_checked_too(tmp_path: Path) -> None:
    recipe = find_recipe("person")
    order = distil.Order(find_character("lincoln"), tmp_path / "run", recipe=recipe)
    order._check_training()
    with pytest.raises(CharacteryError, match=r"\[authors\] `order` is 'bogus'; give one of grouped"):
        replace(order, recipe=replace(recipe, authors=Sft(order="bogus")))._check_training()


def test_a_step_that_processes_cannot_share_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(CharacteryError, match="of 8 rows cannot be shared by 3 processes; start one of 1, 2, 4, 8"):
        distil.train(distil.Order(find_character("captain"), tmp_path / "run"), distil.Watch())
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("WORLD_SIZE", "8")  # as many as a step of SFT and DPO has rows; GRPO asks four prompts
    order = distil.Order(find_character("captain"), tmp_path / "run")
    order._check_training()
    with pytest.raises(CharacteryError, match="of 4 rows cannot be shared by 8"):
        replace(order, recipe=find_recipe("grpo"))._check_training()


def test_a_run_to_reuse_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    order = distil.Order(find_character("captain"), tmp_path / "run", reuse=(tmp_path / "none",))
    for asked in (lambda: distil.train(order, distil.Watch()), lambda: foresee(order)):
        with pytest.raises(RunConflict, match="is not a run"):
            asked()
    assert not (tmp_path / "run").exists()


def test_what_another_run_has_is_not_foreseen(tmp_path: Path) -> None:
    def order(recipe: str = "rlaif", **given: Any) -> distil.Order:
        return distil.Order(find_character("captain"), tmp_path / "new", recipe=find_recipe(recipe), **given)

    def run(folder: Path, made_by: distil.Order, done: int) -> Path:
        names = stages(made_by.recipe, made_by.sham)
        settings = {**stated(made_by, parse_subject("smollm2")), "teacher": None}
        write_json(folder / "manifest.json", {"settings": settings, "stages": names})
        for n, name in enumerate(names[:done]):
            write_json(folder / "stages" / f"{n + 1:02d}-{name}" / "done", {})
        return folder

    fresh = foresee(order())
    drafted = run(tmp_path / "drafted", order("distill"), 2)  # its prompts and drafts alone
    by_drafts = foresee(order(reuse=(drafted,)))
    drafts = (
        100 * 3 + 32 + 100 + 32 + round(2.2 * 25)
    )  # three of the character's to a prompt, one to a task; plain; histories
    assert by_drafts.taken == drafts and by_drafts.tokens["train"] == fresh.tokens["train"]
    assert fresh.rows["answers to generate"] - by_drafts.rows["answers to generate"] == drafts
    assert fresh.tokens["generate"] - by_drafts.tokens["generate"] == drafts * order().recipe.sampler.max_tokens
    assert f"{drafts} answers more are taken from what is reused" in "\n".join(by_drafts.lines())
    evaluated = run(tmp_path / "evaluated", order("distill"), 99)
    same = run(tmp_path / "same", order(), 99)
    assert drafts < foresee(order(reuse=(evaluated,))).taken < foresee(order(reuse=(same,))).taken
    assert foresee(order(reuse=(drafted, evaluated))).taken == foresee(order(reuse=(evaluated,))).taken
    assert foresee(order(reuse=(evaluated, same))).taken == foresee(order(reuse=(same,))).taken
    assert foresee(order(reuse=(same,))).tokens["score"] < foresee(order(reuse=(evaluated,))).tokens["score"]
    for other in (
        order(reuse=(same,), seed=1),
        order(reuse=(same,), sham=True),
        order(reuse=(same,), teacher="openai/gpt-5"),
    ):
        assert foresee(other).taken == 0, "another seed, other batches and another teacher have other answers"
    warm = replace(order().recipe, draft_temperature=0.5)
    assert foresee(replace(order(reuse=(evaluated,)), recipe=warm)).taken == 0
    kept = json.loads((same / "manifest.json").read_text())
    del kept["settings"]["writings"], kept["settings"]["teacher"], kept["settings"]["recipe"]["draws"]
    write_json(same / "manifest.json", kept)
    assert foresee(order(reuse=(same,))).taken == 0, "an older version's run, which does not say all"


def test_three_pairs_are_refused_before_hours_of_drafting(tmp_path: Path) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_text('{"prompt": "Q?", "chosen": "Aye.", "rejected": "Yes."}\n' * 3)
    with pytest.raises(BadData, match="fewer than 4 pairs"):
        distil.train(distil.Order(find_character("captain"), tmp_path / "run", pairs=mine), distil.Watch())
    assert not (tmp_path / "run").exists()


def test_the_commands_defaults_are_the_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[distil.Order] = []
    monkeypatch.setattr("charactery.cli.train._dry_run", seen.append)
    done = CliRunner().invoke(app, ["train", "captain", "--dry-run"])
    assert done.exit_code == 0 and [order.recipe for order in seen] == [find_recipe(DEFAULT)]
    assert [replace(order.recipe, about="", source="") for order in seen] == [Recipe()]


def test_ones_own_pairs_are_foreseen(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(f'{{"prompt": "Q{n}?", "chosen": "Aye.", "rejected": "Yes."}}\n' for n in range(900)))
    order = distil.Order(find_character("captain"), tmp_path / "run")
    ours, theirs = foresee(order).tokens, foresee(replace(order, pairs=path)).tokens
    assert theirs["train"] > 3 * ours["train"] and theirs["generate"] < ours["generate"]


def test_dpo_gets_the_pairs_the_recipe_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = ["asks"] * 9 + ["task"] * 3 + ["self-play"] * 2
    sides = {side: [{"role": "assistant", "content": f"{side} it is."}] for side in ("chosen", "rejected")}
    rows = [{"id": f"{n}", "kind": kind, "prompt": n, **sides} for n, kind in enumerate(kinds)]
    folders = {"pairs": tmp_path / "a", "self-play": tmp_path / "b", "sft": tmp_path / "c"}
    for name, mine in (("pairs", rows[:12]), ("self-play", rows[12:])):
        folders[name].mkdir()
        write_rows(folders[name] / "pairs.jsonl", mine)
    seen: list[Any] = []
    monkeypatch.setattr(training, "train_dpo", lambda model, pairs, *rest: seen.append(pairs))
    monkeypatch.setattr(training, "train_fitting", lambda begin, train, told, batch: train(None, None, told))
    stages = work(tmp_path)
    stages.run.stage_folder = folders.__getitem__
    stages.recipe = replace(RECIPE, contrast=4)
    stages.dpo(tmp_path, "dpo")
    assert [sum(p["kind"] == kind for p in seen[0]) for kind in ("asks", "task", "self-play")] == [4, 3, 2]
    assert '"pairs": 6' in (tmp_path / "confounds.json").read_text()


def test_what_is_evaluated_as_trained_is_what_dpo_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(examining, "evaluate", seen.append)
    monkeypatch.setattr(common, "read_chosen", lambda path: [])
    monkeypatch.setattr(common, "read_rows", lambda path: [])
    stages = work(tmp_path, sham=True)
    stages.models.base = lambda subject: None
    stages.run.stage_folder = lambda name: tmp_path / name
    stages.evaluate(tmp_path)
    adapters = {role: s.subject.adapter and s.subject.adapter.parent.name for role, s in seen[0].subjects.items()}
    assert adapters == {"plain": None, "prompted": None, "trained": "dpo", "sham": "sham-dpo"}
    heard = [speaker.subject.character.name for speaker in (seen[0].other, *seen[0].foils)]
    assert len({*heard, "Captain"}) == len(heard) + 1 >= 6 and seen[0].subjects["prompted"].subject.character
