"""GRPO: answers are drawn by our own decoder, the reward is the judge's, and a kill changes nothing."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import killed_training as killed
from charactery.errors import BadData, CharacteryError
from charactery.judges.rating import ByCoin, Case, Ratings
from charactery.models.chat import prompt_tokens, user
from charactery.models.decoder import Decoder
from charactery.models.local import Adapter, LocalModel, Sampler
from charactery.runs import Journal, read_rows
from charactery.train import grpo
from charactery.train.grpo import plan_prompts, train_grpo
from charactery.train.settings import Grpo
from charactery.train.trainers import Work

ASKED = [(row["id"], tuple(row["prompt"])) for row in killed.sft_rows()]


def assert_same(one: Path, other: Path) -> None:
    first, second = (load_file(path / "adapter_model.safetensors") for path in (one, other))
    assert first.keys() == second.keys() and len(first) > 20
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=1e-6, rtol=0)


def share_of_es(model: LocalModel, adapter: Path | None) -> float:
    """Of letters in fresh answers to the prompts."""
    prompts = [prompt_tokens(model.tokenizer, messages) for _, messages in ASKED] * 8
    worn = Adapter(adapter) if adapter else None
    drawn = model.draw(prompts, [1000 + n for n in range(len(prompts))], Sampler(8, 1.0), worn)
    text = "".join(model.answer_of(ids).text for ids in drawn)
    return text.count("e") / len(text)


@pytest.fixture(scope="module")
def uninterrupted(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted")
    killed.train("grpo", killed.load(tiny_model_folder), out)
    return out / "grpo"


# -- what is asked


def test_each_step_has_prompts_of_its_own_and_every_prompt_its_turn(tiny_model: LocalModel) -> None:
    settings = Grpo(steps=7, prompts=4, max_tokens=8)
    planned = plan_prompts(ASKED, tiny_model, settings, 0)
    steps = [planned[n : n + 4] for n in range(0, len(planned), 4)]
    assert len(steps) == 7 and all(len({id for id, _ in step}) == 4 for step in steps)
    assert len({id for step in steps[:3] for id, _ in step}) == 12
    assert planned == plan_prompts(ASKED, tiny_model, settings, 0) != plan_prompts(ASKED, tiny_model, settings, 1)


def test_prompts_that_leave_no_room_to_answer_are_left_out(tiny_model: LocalModel) -> None:
    long = ("long", (user("sea " * 1200),))
    settings = Grpo(steps=6, prompts=4, max_tokens=8)
    assert "long" not in {id for id, _ in plan_prompts([*ASKED, long], tiny_model, settings, 0)}
    with pytest.raises(BadData, match=r"3 of 4 prompts fit the model's context, and a step of \[grpo\] asks 4"):
        plan_prompts([*ASKED[:3], long], tiny_model, settings, 0)


# -- how it trains


def test_answers_are_drawn_by_our_decoder_and_rated_by_the_judge(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import GenerationMixin

    monkeypatch.setattr(GenerationMixin, "generate", None)
    drawn: list[list[int]] = []
    step = Decoder.step
    monkeypatch.setattr(Decoder, "step", lambda self, token_B, states: drawn.append([]) or step(self, token_B, states))
    seen: list[Case] = []

    @dataclass(frozen=True)
    class Watching(killed.Es):
        def rate(self, cases: Sequence[Case], journal: Journal, progress: Any) -> Ratings:
            seen.extend(cases)
            return super().rate(cases, journal, progress)

    settings = replace(killed.GRPO, steps=2)
    train_grpo(killed.load(tiny_model_folder), ASKED, Watching(), settings, Work(tmp_path, 3), killed.LORA)
    assert drawn and len(seen) == 2 * settings.prompts and all(len(c.answers) == settings.each for c in seen)
    rows, log = read_rows(tmp_path / "samples.jsonl"), read_rows(tmp_path / "log.jsonl")
    assert [row["text"] for row in rows] == [text for case in seen for text in case.answers]
    for n in (1, 2):
        ratings = [row["rating"] for row in rows if row["step"] == n and row["rating"] is not None]
        assert log[n - 1]["reward"] == pytest.approx(sum(ratings) / len(ratings), abs=1e-5)
    assert log[0]["kl"] == pytest.approx(0, abs=1e-6) and all(entry["kl"] is not None for entry in log)


def test_what_is_drawn_follows_the_adapter_as_it_learns(tiny_model_folder: Path, uninterrupted: Path) -> None:
    """The last step's answers are those of the adapter as it was at the step before, of which there is a checkpoint."""
    model = killed.load(tiny_model_folder)
    rows = [row for row in read_rows(uninterrupted / "samples.jsonl") if row["step"] == 5]
    prompts = [prompt_tokens(model.tokenizer, dict(ASKED)[row["id"]]) for row in rows]
    seeds = [grpo.derive_seed(3, "grpo", 4, n) for n in range(len(rows))]
    sampler = Sampler(killed.GRPO.max_tokens, 1.0)
    then, base = (
        [model.answer_of(ids).text for ids in model.draw(prompts, seeds, sampler, worn)]
        for worn in (Adapter(uninterrupted / "checkpoint-4"), None)
    )
    said = [row["text"] for row in rows]
    assert said == then != base


def test_a_planted_preference_is_learnt_and_a_coins_is_not(
    tiny_model: LocalModel, tiny_model_folder: Path, tmp_path: Path
) -> None:
    settings = Grpo(learning_rate=5e-2, steps=20, prompts=4, each=8, together=32, max_tokens=8, beta=0.001)
    learnt, sham = (
        train_grpo(killed.load(tiny_model_folder), ASKED, judge, settings, Work(tmp_path / judge.name, 0), killed.LORA)
        for judge in (killed.Es(), ByCoin(0))
    )
    log = [entry["reward"] for entry in read_rows(tmp_path / "es" / "log.jsonl")]
    assert sum(log[-6:]) > 1.5 * sum(log[:6])
    before, after, by_coin = (share_of_es(tiny_model, adapter) for adapter in (None, learnt, sham))
    assert after > 1.5 * before and abs(by_coin - before) < 0.3 * (after - before)


def test_every_step_is_trls(tiny_model_folder: Path, uninterrupted: Path, tmp_path: Path) -> None:
    """The same answers, through TRL's own head and forward."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import GRPOConfig

    model, settings = killed.load(tiny_model_folder), killed.GRPO
    planned = plan_prompts(ASKED, model, settings, 3)
    torch.manual_seed(3)
    for parameter in model.model.parameters():
        parameter.requires_grad_(False)
    theirs = grpo._Online(
        model, False, model=model.model, processing_class=model.tokenizer,
        reward_funcs=[grpo.rewarding(killed.Es(), model, 4, Journal(tmp_path / "j"))],
        train_dataset=Dataset.from_list([{"id": id, "prompt": [*messages]} for id, messages in planned]),
        peft_config=LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"),
        args=GRPOConfig(
            output_dir=str(tmp_path / "theirs"), max_steps=6, per_device_train_batch_size=4,
            gradient_accumulation_steps=2, learning_rate=settings.learning_rate, lr_scheduler_type="cosine",
            warmup_steps=1, logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
            bf16=False, seed=3, num_generations=4, max_completion_length=8, beta=settings.beta, temperature=1.0,
            shuffle_dataset=False,
        ),
    )  # fmt: skip
    theirs.train()
    ours, log = read_rows(uninterrupted / "log.jsonl"), [e for e in theirs.state.log_history if "loss" in e]
    assert len(ours) == len(log) == 6
    for name in ("loss", "grad_norm", "reward", "kl"):
        assert [e[name] for e in ours] == pytest.approx([e[name] for e in log], rel=1e-2, abs=1e-4), name
    assert len({round(e["grad_norm"], 4) for e in ours}) == 6, "the steps differ, or this shows nothing"


def test_an_answer_without_a_verdict_moves_nothing(tiny_model_folder: Path, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Silent(killed.Es):
        def rate(self, cases: Sequence[Case], journal: Journal, progress: Any) -> Ratings:
            return Ratings(tuple((None,) * len(case.answers) for case in cases))

    adapter = train_grpo(
        killed.load(tiny_model_folder), ASKED, Silent(), replace(killed.GRPO, steps=2), Work(tmp_path, 3), killed.LORA
    )
    ups = [t for name, t in load_file(adapter / "adapter_model.safetensors").items() if "lora_B" in name]
    assert ups and all(not t.any() for t in ups)
    rows = read_rows(tmp_path / "samples.jsonl")
    assert len(rows) == 16 and all(row["rating"] is None for row in rows)
    asked = replace(killed.GRPO, steps=4)
    with pytest.raises(BadData, match="no verdict on any of the first 24 answers"):
        train_grpo(killed.load(tiny_model_folder), ASKED, Silent(), asked, Work(tmp_path / "silent", 3), killed.LORA)
    assert {"step 0", "step 1", "step 2"} <= Journal(tmp_path / "silent" / "batches.jsonl").done.keys()


def test_it_goes_on_from_an_adapter_which_is_then_the_reference(
    tiny_model: LocalModel, tiny_model_folder: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    start = uninterrupted / "adapter"
    settings = replace(killed.GRPO, steps=2)
    adapter = train_grpo(
        killed.load(tiny_model_folder), ASKED, killed.Es(), settings, Work(tmp_path, 4), killed.LORA, start
    )
    log = read_rows(tmp_path / "log.jsonl")
    assert log[0]["kl"] == pytest.approx(0, abs=1e-6)
    first = [row for row in read_rows(tmp_path / "samples.jsonl") if row["step"] == 1]
    prompts = [prompt_tokens(tiny_model.tokenizer, dict(ASKED)[row["id"]]) for row in first]
    seeds = [grpo.derive_seed(4, "grpo", 0, n) for n in range(len(first))]
    drawn = tiny_model.draw(prompts, seeds, Sampler(settings.max_tokens, 1.0), Adapter(start))
    assert [row["text"] for row in first] == [tiny_model.answer_of(ids).text for ids in drawn]
    names = {p.name for p in (tmp_path / "checkpoint-2").iterdir()}
    assert adapter.exists() and not names & {"optimizer.pt", "ref", "rng_state.pth"}


def test_a_step_that_processes_cannot_share_is_refused(
    tiny_model: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CharacteryError, match="of 3 rows cannot be shared by 2 processes"):
        train_grpo(tiny_model, ASKED, killed.Es(), Grpo(prompts=3), Work(tmp_path, 0), killed.LORA)


# -- a kill


def test_a_killed_training_ends_as_if_it_had_not_been(
    tiny_model_folder: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    script = Path(killed.__file__)
    subprocess.run(
        [sys.executable, str(script), str(tiny_model_folder), str(tmp_path), "grpo-after-checkpoint"], check=True,
        capture_output=True, timeout=120,
    )  # fmt: skip
    folder = tmp_path / "grpo-after-checkpoint" / "grpo"
    assert {p.name for p in folder.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4"}
    assert not (folder / "adapter").exists()
    before = (folder / "batches.jsonl").read_text()
    steps: list[int] = []
    adapter = killed.train(
        "grpo", killed.load(tiny_model_folder), folder.parent, progress=lambda step, of, log: steps.append(step)
    )
    assert steps == [5, 6]
    assert_same(adapter, uninterrupted / "adapter")
    assert read_rows(folder / "samples.jsonl") == read_rows(uninterrupted / "samples.jsonl")
    kept = (folder / "batches.jsonl").read_text()
    keys = [json.loads(line)["key"] for line in kept.splitlines()]
    assert kept.startswith(before) and len({*keys}) == len(keys)
