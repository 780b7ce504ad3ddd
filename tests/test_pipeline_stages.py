"""What each stage hands on is what the recipe says."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from charactery.constitution import find_character
from charactery.data.prompts import Prompt
from charactery.models.local import Sampler
from charactery.models.speaker import Speaker
from charactery.models.subject import parse_subject
from charactery.pipeline import distil
from charactery.pipeline.recipe import Recipe, Sampling
from charactery.runs import write_rows

RECIPE = Recipe(sampler=Sampling(50, 0.6), draft_temperature=0.9, draws=2, self_play=7)


def work(folder: Path, **order: Any) -> Any:
    """The stages of a run whose models are nobody."""
    models: Any = SimpleNamespace(speaker=lambda subject: Speaker(subject, None, None, "nobody"))
    run: Any = SimpleNamespace(folder=folder, stage_folder=lambda name: folder)
    asked = distil.Order(find_character("captain"), folder, recipe=RECIPE, **order)
    return distil._Stages(run, asked, models, parse_subject("smollm2"), distil.Watch())


@pytest.mark.parametrize(("pairs", "draws"), [(None, 2), (Path("mine.jsonl"), 1)])
def test_drafts_are_warm_and_earlier_turns_are_not(
    pairs: Path | None, draws: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "prompts.jsonl", [Prompt("1", "neutral", ("Why?",)).row()])
    seen: list[Any] = []
    monkeypatch.setattr(distil, "draft", lambda prompts, drafting, *rest: seen.append(drafting))
    work(tmp_path, pairs=pairs).drafts(tmp_path)
    [drafting] = seen
    assert drafting.sampler == Sampler(50, 0.9) and drafting.told == Sampler(50, 0.6)
    assert drafting.draws == draws and drafting.encode is not None


def test_self_play_is_drawn_as_the_model_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "sft.jsonl", [{"id": "1", "kind": "asks"}])
    seen: list[Any] = []
    monkeypatch.setattr(distil, "self_play", lambda *given: seen.append(given) or [])
    work(tmp_path).self_play(tmp_path)
    _, speaker, sampler, most, *_ = seen[0]
    assert sampler == Sampler(50, 0.6) and most == 7 and speaker.subject.adapter == tmp_path / "adapter"
    assert '"n": 0' in (tmp_path / "repeats.json").read_text()


def test_dpo_gets_the_pairs_the_recipe_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = ["asks"] * 9 + ["task"] * 3 + ["self-play"] * 2
    rows = [{"id": f"{n}", "kind": kind, "prompt": n} for n, kind in enumerate(kinds)]
    folders = {"pairs": tmp_path / "a", "self-play": tmp_path / "b", "sft": tmp_path / "c"}
    for name, mine in (("pairs", rows[:12]), ("self-play", rows[12:])):
        folders[name].mkdir()
        write_rows(folders[name] / "pairs.jsonl", mine)
    seen: list[Any] = []
    monkeypatch.setattr(distil, "train_dpo", lambda model, pairs, *rest: seen.append(pairs))
    stages = work(tmp_path)
    stages.run.stage_folder = folders.__getitem__
    stages.recipe = replace(RECIPE, contrast=4)
    monkeypatch.setattr(stages, "fresh", lambda: None)
    stages.dpo(tmp_path, "")
    assert [sum(p["kind"] == kind for p in seen[0]) for kind in ("asks", "task", "self-play")] == [4, 3, 2]
