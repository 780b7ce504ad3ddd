"""Training does what it says, and a training that was killed ends in the same adapter as one that was not."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import killed_training as killed
from charactery.errors import BadData, CharacteryWarning
from charactery.memory import halvings
from charactery.models.chat import assistant, prompt_text, prompt_tokens, user
from charactery.models.decoder import Decoder
from charactery.models.local import Adapter, LocalModel
from charactery.runs import Row, read_rows
from charactery.train.fitting import train_fitting
from charactery.train.head import score_completions_only
from charactery.train.settings import Dpo, Lora, Sft, at_once
from charactery.train.trainers import Work, _on_one_device, last_checkpoint, plan, train_dpo, train_sft


def weights(adapter: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(adapter / "adapter_model.safetensors"))


def assert_same(one: Path, other: Path, atol: float = 1e-6) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys() and len(first) > 20
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=atol, rtol=0)


# -- the plan


def lengths(rows: list[Row], tokenizer: Any) -> list[int]:
    return [len(prompt_text(tokenizer, r["prompt"])) + len(r["completion"][0]["content"]) for r in rows]


def test_the_plan_is_whole_batches_of_like_length(tiny_model: LocalModel) -> None:
    rows = killed.sft_rows()[:11]
    planned = plan(rows, tiny_model.tokenizer, "completion", Sft(batch=3, epochs=4), 0)
    assert len(planned) == 4 * 3 * 3  # two of eleven are left out of each epoch
    for start in range(0, 36, 9):
        epoch = planned[start : start + 9]
        assert len({r["id"] for r in epoch}) == 9
        batches = sorted(sorted(lengths(epoch[n : n + 3], tiny_model.tokenizer)) for n in range(0, 9, 3))
        assert all(a[-1] <= b[0] for a, b in pairwise(batches))
    assert {r["id"] for r in planned} == {r["id"] for r in rows}  # which are left out changes
    assert planned[:9] != planned[9:18]


def test_the_plan_follows_from_the_seed(tiny_model: LocalModel) -> None:
    rows = killed.sft_rows()
    plans = [plan(rows, tiny_model.tokenizer, "completion", Sft(batch=4), seed) for seed in (0, 0, 1)]
    assert plans[0] == plans[1] != plans[2]


def test_an_order_that_is_asked_for_is_kept(tiny_model: LocalModel) -> None:
    rows = [
        {"id": str(n), "prompt": [user("Q" * (n % 3))], "chosen": [assistant("a" * (n * 5 % 7))], "rank": -n % 4}
        for n in range(9)
    ]

    def planned(order: str, seed: int = 0) -> list[int]:
        settings = Dpo(epochs=2, batch=4, order=order)
        return [int(row["id"]) for row in plan(rows, tiny_model.tokenizer, "chosen", settings, seed)]

    assert planned("given") == [*range(8)] * 2
    assert planned("reversed") == [*range(8, 0, -1)] * 2
    assert planned("by:rank") == sorted(range(9), key=lambda n: -n % 4)[:8] * 2
    rows[2].pop("rank")
    assert planned("by:rank")[-1] != 2 and 2 not in planned("by:rank"), (
        "what lacks the field comes last, and is cut off"
    )
    assert planned("shuffled") == planned("shuffled") != planned("shuffled", 1)
    assert sorted(planned("shuffled")[:8]) != planned("shuffled")[:8]
    with pytest.raises(BadData, match="by 'mood': no row has such a field"):
        planned("by:mood")
    with pytest.raises(BadData, match="no order 'upside'"):
        planned("upside")


@pytest.mark.parametrize(
    ("count", "batch", "epochs", "steps"), [(12, 4, 0.5, 2), (3, 8, 2, 2), (1, 8, 1, 1), (9, 8, 0.1, 1)]
)
def test_few_rows_and_part_epochs_are_still_whole_batches(
    tiny_model: LocalModel, count: int, batch: int, epochs: float, steps: int
) -> None:
    planned = plan(killed.sft_rows()[:count], tiny_model.tokenizer, "completion", Sft(batch=batch, epochs=epochs), 0)
    assert len(planned) == steps * min(batch, count)


def test_no_rows_are_no_plan(tiny_model: LocalModel) -> None:
    with pytest.raises(BadData, match=r"nothing to train on.*--train"):
        plan([], tiny_model.tokenizer, "chosen", Dpo(), 0)


# -- the head


def one_batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, attention mask and labels of three padded rows; the last has nothing to learn from."""
    generator = torch.Generator().manual_seed(0)
    ids_B_T = torch.randint(3, 450, (3, 14), generator=generator)
    mask_B_T = torch.ones_like(ids_B_T)
    mask_B_T[1, 10:] = 0
    labels_B_T = ids_B_T.masked_fill(mask_B_T == 0, -100)
    labels_B_T[:, :6] = -100
    labels_B_T[2] = -100
    return ids_B_T, mask_B_T, labels_B_T


def fused(network: Any, ours: bool, items: int | None) -> tuple[Any, dict[str, torch.Tensor]]:
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(network, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    if ours:
        score_completions_only(network)
    ids_B_T, mask_B_T, labels_B_T = one_batch()
    extra = {} if items is None else {"num_items_in_batch": items}
    out = network(input_ids=ids_B_T, attention_mask=mask_B_T, labels=labels_B_T, fused_lm_head=True, **extra)
    out.loss.backward()
    return out, {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def assert_the_head_is_trls(networks: list[Any], items: int | None) -> None:
    (theirs, their_gradients), (ours, our_gradients) = (
        fused(network, mine, items) for network, mine in zip(networks, (False, True), strict=True)
    )
    for name in ("loss", "log_probs", "entropy", "mean_logits", "is_top1", "label_mask"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), atol=1e-5, rtol=0, msg=name)
    assert our_gradients.keys() == their_gradients.keys() and len(our_gradients) > 10
    for name, gradient in our_gradients.items():
        torch.testing.assert_close(gradient, their_gradients[name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("items", [None, 40])
def test_scoring_completions_only_gives_trls_loss_and_gradients(tiny_model_folder: Path, items: int | None) -> None:
    assert_the_head_is_trls([killed.load(tiny_model_folder).model for _ in range(2)], items)


def test_the_head_keeps_what_a_model_does_to_its_logits() -> None:
    from transformers import GraniteConfig, GraniteForCausalLM

    networks = []
    for _ in range(2):
        torch.manual_seed(0)
        networks.append(GraniteForCausalLM(GraniteConfig(
            vocab_size=456, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, initializer_range=0.25, logits_scaling=8.0, bos_token_id=1, eos_token_id=2,
            pad_token_id=2,
        )))  # fmt: skip
    assert_the_head_is_trls(networks, None)


def test_without_the_fused_call_the_model_is_as_it_was(tiny_model_folder: Path) -> None:
    from trl.trainer.utils import add_fused_lm_head

    network = killed.load(tiny_model_folder).model
    ids_B_T, mask_B_T, labels_B_T = one_batch()
    before = network(input_ids=ids_B_T, attention_mask=mask_B_T, labels=labels_B_T)
    add_fused_lm_head(network)
    score_completions_only(network)
    after = network(input_ids=ids_B_T, attention_mask=mask_B_T, labels=labels_B_T)
    assert torch.equal(before.logits, after.logits) and torch.equal(before.loss, after.loss)


def test_training_reads_through_our_decoder(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    hidden = Decoder.hidden
    monkeypatch.setattr(Decoder, "hidden", lambda self, shared, rows, *at: read.append(len(rows)) or hidden(
        self, shared, rows, *at
    ))  # fmt: skip
    train_sft(
        killed.load(tiny_model_folder), killed.sft_rows()[:4], killed.LORA, Sft(epochs=1, batch=2),
        Work(tmp_path / "sft", 0),
    )  # fmt: skip
    assert read == [2, 2]
    read.clear()
    train_dpo(
        killed.load(tiny_model_folder), killed.dpo_rows()[:4], tmp_path / "sft" / "adapter", Dpo(epochs=1, batch=2),
        Work(tmp_path / "dpo", 0),
    )  # fmt: skip
    assert sum(read) == 2 * 2 * 4  # both sides of four pairs, by what learns and by what it began at


# -- supervised fine-tuning and preferences, once each, for every test that looks at the result


@pytest.fixture(scope="module")
def uninterrupted(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished `sft`, a `dpo` that began at it, and a `grpo`."""
    out = tmp_path_factory.mktemp("uninterrupted")
    shutil.copytree(killed.train("sft", killed.load(tiny_model_folder), out), out / "start")
    for kind in ("dpo", "grpo"):
        killed.train(kind, killed.load(tiny_model_folder), out)
    return out


def test_the_first_loss_is_the_completions_alone(tiny_model: LocalModel, uninterrupted: Path) -> None:
    """Mean negative log-probability of the answer and the end of the turn; the prompt plays no part."""
    tokenizer: Any = tiny_model.tokenizer
    first = plan(killed.sft_rows(), tokenizer, "completion", killed.SFT, 3)[: killed.SFT.batch]
    pairs = []
    for row in first:
        prompt = prompt_tokens(tokenizer, row["prompt"])
        whole = tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], tokenize=False)
        ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
        assert ids[: len(prompt)] == prompt and tokenizer.eos_token_id in ids[len(prompt) :]
        pairs.append((prompt, ids[len(prompt) :]))
    expected = -torch.cat(tiny_model.score(pairs)).mean().item()
    log = read_rows(uninterrupted / "sft" / "log.jsonl")
    assert log[0]["loss"] == pytest.approx(expected, abs=2e-3)


def test_a_set_small_enough_is_learnt_by_heart(tiny_model: LocalModel, uninterrupted: Path) -> None:
    log = read_rows(uninterrupted / "sft" / "log.jsonl")
    assert [entry["step"] for entry in log] == [1, 2, 3, 4, 5, 6]
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]
    adapter = Adapter(uninterrupted / "sft" / "adapter")
    pairs = [
        (prompt_tokens(tiny_model.tokenizer, r["prompt"]),
         tiny_model.tokenizer(r["completion"][0]["content"], add_special_tokens=False)["input_ids"])
        for r in killed.sft_rows()
    ]  # fmt: skip
    base, after = (torch.cat(tiny_model.score(pairs, a)).mean() for a in (None, adapter))
    assert after > base + 1


def test_preferences_widen_the_margin(tiny_model: LocalModel, uninterrupted: Path) -> None:
    log = read_rows(uninterrupted / "dpo" / "log.jsonl")
    margins = [entry["rewards/margins"] for entry in log]
    assert margins[0] == pytest.approx(0, abs=1e-5)  # the reference is the adapter that it began at
    assert log[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert margins[1] == pytest.approx(0, abs=1e-5)  # the first step of a warm-up of one is of no size
    assert margins[-1] > margins[2] > 0 and log[-1]["loss"] < log[0]["loss"]

    def margin(adapter: Path) -> float:
        tokenizer: Any = tiny_model.tokenizer
        scored = [
            tiny_model.score(
                [(prompt_tokens(tokenizer, r["prompt"]), tokenizer(r[side][0]["content"])["input_ids"])
                 for r in killed.dpo_rows()], Adapter(adapter))
            for side in ("chosen", "rejected")
        ]  # fmt: skip
        return sum(float(c.sum() - r.sum()) for c, r in zip(*scored, strict=True))

    assert margin(uninterrupted / "dpo" / "adapter") > margin(uninterrupted / "start") + 1


def test_checkpoints_stay_as_adapters_without_the_trainers_state(uninterrupted: Path) -> None:
    for kind in ("sft", "dpo"):
        kept = sorted(p.name for p in (uninterrupted / kind).iterdir() if p.name != "README.md")
        assert kept == ["adapter", "checkpoint-2", "checkpoint-4", "checkpoint-6", "log.jsonl", "training.json"]
        names = {p.name for p in (uninterrupted / kind / "checkpoint-4").iterdir()}
        assert {"adapter_model.safetensors", "adapter_config.json", "done"} <= names
        assert not names & {"optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "ref"}
        assert_same(uninterrupted / kind / "checkpoint-6", uninterrupted / kind / "adapter")


def test_training_needs_no_gradient_of_the_base(tiny_model_folder: Path, tmp_path: Path) -> None:
    model = killed.load(tiny_model_folder)
    before = {n: p.clone() for n, p in model.model.named_parameters()}
    settings = Dpo(learning_rate=1e-2, epochs=1, batch=6)
    start = train_sft(model, killed.sft_rows()[:2], Lora(2, 4), Sft(epochs=1, batch=2), Work(tmp_path / "sft", 0))
    fresh = killed.load(tiny_model_folder)
    train_dpo(fresh, killed.dpo_rows()[:6], start, settings, Work(tmp_path / "dpo", 0))
    for trained in (model, fresh):
        after = {n.replace(".base_layer", ""): p for n, p in trained.model.named_parameters() if "lora_" not in n}
        assert after.keys() == before.keys()
        assert all(torch.equal(p, before[n]) for n, p in after.items())


# -- kills


@pytest.fixture(scope="module")
def kills(tiny_model_folder: Path, uninterrupted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each case, as the kill left it."""
    out = tmp_path_factory.mktemp("killed")
    shutil.copytree(uninterrupted / "start", out / "dpo-after-checkpoint" / "start")
    script = Path(killed.__file__)
    subprocess.run(
        [sys.executable, str(script), str(tiny_model_folder), str(out), *killed.CASES], check=True, capture_output=True,
        timeout=120,
    )  # fmt: skip
    return out


@pytest.mark.parametrize(
    ("case", "left", "resumes_at"),
    [
        ("after-checkpoint", {2, 4}, 4),
        ("inside-save", {2, 4}, 2),
        ("before-mark", {2, 4}, 2),
        ("before-adapter", {2, 4, 6}, 6),
        ("before-any-checkpoint", set(), None),
        ("dpo-after-checkpoint", {2, 4}, 4),
    ],
)
def test_a_killed_training_ends_as_if_it_had_not_been(
    tiny_model_folder: Path, uninterrupted: Path, kills: Path, case: str, left: set[int], resumes_at: int | None
) -> None:
    kind = killed.CASES[case][0]
    folder = kills / case / kind
    assert {int(p.name.split("-")[1]) for p in folder.glob("checkpoint-*")} == left
    assert not (folder / "adapter").exists()
    steps: list[int] = []
    adapter = killed.train(
        kind, killed.load(tiny_model_folder), kills / case, progress=lambda step, of, log: steps.append(step)
    )
    assert steps == list(range((resumes_at or 0) + 1, 7))
    assert_same(adapter, uninterrupted / kind / "adapter")
    logs = [read_rows(f / kind / "log.jsonl") for f in (kills / case, uninterrupted)]
    assert [(e["step"], e["loss"]) for e in logs[0]] == [(e["step"], e["loss"]) for e in logs[1]]


def test_a_training_that_had_finished_ends_the_same_again(
    tiny_model_folder: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    """A kill after the trainer's state was cleared away, before the stage was marked as done."""
    shutil.copytree(uninterrupted, tmp_path / "again")
    for kind in ("sft", "dpo"):
        adapter = killed.train(kind, killed.load(tiny_model_folder), tmp_path / "again")
        assert_same(adapter, uninterrupted / kind / "adapter")


def test_only_whole_checkpoints_count(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    for step, done in ((9, True), (10, True), (11, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if done:
            (tmp_path / f"checkpoint-{step}" / "done").write_text(json.dumps({"step": step}))
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"  # not the last in the alphabet
    assert not (tmp_path / "checkpoint-11").exists()


def test_few_rows_take_the_steps_planned(tiny_model: LocalModel, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    work = Work(tmp_path, 0, progress=lambda step, steps, log: told.append((step, steps)))
    train_sft(tiny_model, killed.sft_rows()[:3], killed.LORA, Sft(epochs=2, batch=8), work)
    assert told == [(1, 2), (2, 2)]


def test_several_cards_do_not_widen_a_step(tmp_path: Path) -> None:
    from trl import SFTConfig

    config = SFTConfig(output_dir=str(tmp_path), per_device_train_batch_size=2, use_cpu=True, bf16=False)
    config._n_gpu = 4
    assert config.train_batch_size == 8 and _on_one_device(config).train_batch_size == 2


def test_a_base_in_bfloat16_is_trained_as_one_in_float32(tiny_model_folder: Path, tmp_path: Path) -> None:
    losses: dict[torch.dtype, list[float]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        folder, told = tmp_path / str(dtype), losses.setdefault(dtype, [])
        model = LocalModel.load(tiny_model_folder, "tiny", "cpu", dtype)
        work = Work(folder, 0, progress=lambda step, steps, log, told=told: told.append(log["loss"]))  # type: ignore[misc]
        adapter = train_sft(model, killed.sft_rows(), killed.LORA, killed.SFT, work)
        model = LocalModel.load(tiny_model_folder, "tiny", "cpu", dtype)
        train_dpo(model, killed.dpo_rows(), adapter, killed.DPO, replace(work, folder=folder / "dpo"))
        for path in (adapter, folder / "dpo" / "adapter"):
            assert {t.dtype for t in load_file(path / "adapter_model.safetensors").values()} == {torch.float32}
    assert len(losses[torch.float32]) == 12
    assert losses[torch.bfloat16] == pytest.approx(losses[torch.float32], rel=0.03, abs=0.03)


def test_a_logger_of_trls_hears_every_step(tiny_model: LocalModel, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    settings = Sft(epochs=1, batch=6)
    train_sft(tiny_model, killed.sft_rows(), killed.LORA, settings, Work(tmp_path, 3, report_to="tensorboard"))
    [file] = tmp_path.rglob("events.out.tfevents.*")
    told = {(e.step, v.tag): v.tensor.float_val for e in EventFileLoader(str(file)).Load() for v in e.summary.value}
    log = read_rows(tmp_path / "log.jsonl")
    assert len(log) == 2
    for row in log:
        assert told[row["step"], "train/loss"] == [pytest.approx(row["loss"], rel=1e-6)]


@pytest.mark.parametrize(("batch", "parameters", "wanted"), [(8, 135e6, 8), (6, 135e6, 6), (8, 7e9, 2), (3, 7e9, 1)])
def test_rows_in_memory_at_once_divide_the_batch(batch: int, parameters: float, wanted: int) -> None:
    assert at_once(Sft(together=8), batch, parameters) == wanted
    assert at_once(Dpo(together=2), batch, 7e9) == 1


@pytest.mark.parametrize(("parameters", "wanted"), [(1.2e9, 8), (4e9, 4), (7e9, 1)])
def test_more_rows_are_in_memory_at_once_on_a_large_card(parameters: float, wanted: int) -> None:
    assert at_once(Dpo(together=4), 8, parameters, card=80e9) == wanted


@pytest.mark.parametrize(("batch", "parameters", "wanted"), [(8, 3e9, 2), (8, 135e6, 4), (5, 135e6, 1)])
def test_kto_has_two_pairs_at_once_where_they_divide_a_step(batch: int, parameters: float, wanted: int) -> None:
    assert at_once(Dpo(loss="kto"), batch, parameters) == wanted
    assert at_once(Dpo(), 8, 3e9) == 1


# -- too little memory


@pytest.mark.parametrize(("kind", "most"), [("sft", 2), ("dpo", 4), ("grpo", 2)])
def test_too_little_memory_halves_the_rows_at_once(
    kind: str, most: int, tiny_model_folder: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the last checkpoint on, in the steps that there would have been."""
    hidden, saved = Decoder.hidden, tmp_path / kind / "checkpoint-2" / "done"
    read: list[int] = []

    def short(self: Decoder, shared: Any, rows: Any, *at: Any) -> torch.Tensor:
        if len(rows) > most and saved.exists():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        read.append(len(rows))
        return hidden(self, shared, rows, *at)

    monkeypatch.setattr(Decoder, "hidden", short)
    shutil.copytree(uninterrupted / "start", tmp_path / "start")
    told: list[int] = []
    settings: dict[str, Any] = {"sft": killed.SFT, "dpo": killed.DPO, "grpo": killed.GRPO}
    before, wanted = halvings(), "memory ran short: a step trains on 2 rows at once, not 4, from the last"
    with pytest.warns(CharacteryWarning, match=wanted):
        train_fitting(
            lambda: (killed.load(tiny_model_folder), None),
            lambda model, start, fewer: killed.train(
                kind, model, tmp_path, fewer, progress=lambda step, steps, log: told.append(step)
            ),
            settings[kind],
            4,
        )
    assert halvings() == before + 1 and {most, 2 * most} <= set(read)
    assert told == [1, 2, 3, 4, 5, 6]
    ours, theirs = (read_rows(folder / kind / "log.jsonl") for folder in (tmp_path, uninterrupted))
    for name in ("loss", "grad_norm"):
        assert [e[name] for e in ours] == pytest.approx([e[name] for e in theirs], rel=1e-3, abs=1e-5)
    assert len(ours) == 6


def test_rows_are_halved_as_often_as_that_helps(tiny_model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def training(error: Exception) -> Any:
        def train(model: LocalModel, start: Path | None, settings: Sft) -> Path:
            tried.append(at_once(settings, 6, 135e6))
            raise error

        return train

    def attempts(error: Exception) -> list[int]:
        tried.clear()
        with pytest.raises(type(error)):
            train_fitting(lambda: (tiny_model, None), training(error), Sft(batch=6, together=8), 6)
        return tried

    with pytest.warns(CharacteryWarning, match="a step trains on 3 rows at once, not 6"):
        assert attempts(MemoryError()) == [6, 3, 2, 1]
    assert attempts(RuntimeError("shapes cannot be multiplied")) == [6]
    monkeypatch.setenv("WORLD_SIZE", "2")  # the other would wait for the one that failed
    assert attempts(MemoryError()) == [6]


# -- against TRL's own


def assert_every_step_is_trls(folder: Path, theirs: Any) -> None:
    """Loss and gradient norm of each of 20 steps, of our log and of a trainer of TRL's own."""
    theirs.train()
    ours, log = read_rows(folder / "log.jsonl"), [e for e in theirs.state.log_history if "loss" in e]
    assert len(ours) == len(log) == 20
    for name in ("loss", "grad_norm", "learning_rate"):
        assert [e[name] for e in ours] == pytest.approx([e[name] for e in log], rel=1e-3), name
    assert len({round(e["loss"], 4) for e in ours}) > 15, "the steps differ, or this shows nothing"


def trls(folder: Path, settings: Sft | Dpo) -> Row:
    """What TRL's trainers are told so that they take the same steps; the rest is TRL's own."""
    return {
        "output_dir": str(folder), "max_steps": 20, "per_device_train_batch_size": settings.batch, "max_length": None,
        "learning_rate": settings.learning_rate, "lr_scheduler_type": "cosine", "warmup_steps": 2, "logging_steps": 1,
        "train_sampling_strategy": "sequential", "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
        "use_cpu": True, "bf16": False, "seed": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("batch", "targets"), [*((n, "all-linear") for n in (1, 3, 4)), (4, r".*\.(embed_tokens|q_proj)")]
)
def test_twenty_steps_of_sft_are_trls(tiny_model_folder: Path, tmp_path: Path, batch: int, targets: str) -> None:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    settings, model = Sft(learning_rate=5e-3, epochs=20 / (12 // batch), batch=batch), killed.load(tiny_model_folder)
    train_sft(model, killed.sft_rows(), replace(killed.LORA, targets=targets), settings, Work(tmp_path / "ours", 3))
    rows = plan(killed.sft_rows(), model.tokenizer, "completion", settings, 3)
    torch.manual_seed(3)
    theirs = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32),
        SFTConfig(**trls(tmp_path / "theirs", settings), completion_only_loss=True), processing_class=model.tokenizer,
        train_dataset=Dataset.from_list([{c: r[c] for c in ("prompt", "completion")} for r in rows]),
        peft_config=LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM"),
    )  # fmt: skip
    assert_every_step_is_trls(tmp_path / "ours", theirs)


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_twenty_steps_of_dpo_are_trls(tiny_model_folder: Path, uninterrupted: Path, tmp_path: Path, batch: int) -> None:
    from datasets import Dataset
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig, DPOTrainer

    settings = Dpo(learning_rate=1e-3, epochs=20 / (12 // batch), batch=batch, beta=0.2)
    model = killed.load(tiny_model_folder)
    start = uninterrupted / "start"
    train_dpo(model, killed.dpo_rows(), start, settings, Work(tmp_path / "ours", 3))
    rows = plan(killed.dpo_rows(), model.tokenizer, "chosen", settings, 3)
    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32)
    theirs = DPOTrainer(
        PeftModel.from_pretrained(base, start, is_trainable=True), processing_class=model.tokenizer,
        args=DPOConfig(**trls(tmp_path / "theirs", settings), beta=0.2),
        train_dataset=Dataset.from_list([{c: r[c] for c in ("prompt", "chosen", "rejected")} for r in rows]),
    )  # fmt: skip
    assert_every_step_is_trls(tmp_path / "ours", theirs)


# -- several processes


@pytest.fixture(scope="module")
def together(
    tiny_model_folder: Path, uninterrupted: Path, kills: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What `processes.py` leaves, run by accelerate in two processes on the processor."""
    out = tmp_path_factory.mktemp("together")
    shutil.copytree(uninterrupted / "start", out / "start")
    shutil.copytree(kills / "left-to-two-processes" / "sft", out / "resumed")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    script = Path(killed.__file__).with_name("processes.py")
    done = subprocess.run(
        [*launch, "--main_process_port", "0", str(script), str(tiny_model_folder), str(out)], capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("kind", ["sft", "dpo", "grpo"])
def test_two_processes_train_as_one_does(uninterrupted: Path, together: Path, kind: str) -> None:
    one, two = (read_rows(folder / kind / "log.jsonl") for folder in (uninterrupted, together))
    assert len(one) == len(two) == 6
    for name in ("loss", "grad_norm", "learning_rate", *(["reward"] if kind == "grpo" else [])):
        # GRPO's first loss is zero but for rounding
        assert [e[name] for e in two] == pytest.approx([e[name] for e in one], rel=1e-4, abs=1e-6), name
    assert_same(uninterrupted / kind / "adapter", together / kind / "adapter", 1e-4)
    own = {"batches-1.jsonl"} if kind == "grpo" else set()  # the answers of the second process
    assert {p.name for p in (together / kind).iterdir()} == {p.name for p in (uninterrupted / kind).iterdir()} | own
    for checkpoint in (together / kind).glob("checkpoint-*"):
        assert not [p.name for p in checkpoint.iterdir() if p.suffix in (".pt", ".pth", ".bin")]


def test_what_one_process_began_two_go_on_with(uninterrupted: Path, together: Path) -> None:
    assert_same(uninterrupted / "sft" / "adapter", together / "resumed" / "adapter", 1e-4)


def test_only_the_first_process_tells(together: Path) -> None:
    first, second = (json.loads((together / f"told-{rank}.json").read_text()) for rank in (0, 1))
    assert first == [*range(1, 7)] * 3 + [5, 6] and second == []
