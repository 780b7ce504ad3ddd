"""Optimisers, all weights, losses of pairs, and advice on settings: each is what it says."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import killed_training as killed
from charactery.errors import CharacteryError, CharacteryWarning
from charactery.models.chat import assistant, prompt_tokens
from charactery.models.local import Adapter, LocalModel
from charactery.runs import Row, read_rows
from charactery.train import trainers
from charactery.train.optimizers import Together, check_optimizer, optimizer, split
from charactery.train.preferences import unpaired
from charactery.train.settings import Dpo, Lora, Sft
from charactery.train.trainers import Work, plan, train_dpo, train_sft
from killed_training import FULL
from trained import Killed, about, answer_tokens, dies_at, losses, nats, same

# -- optimisers


@pytest.mark.parametrize("name", ["muon", "soap", "shampoo"])
def test_an_optimizer_learns_by_heart_and_goes_on_where_it_was(
    name: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    settings = replace(killed.SFT, optimizer=name, epochs=8)

    def train(out: Path, **work: Any) -> Path:
        return train_sft(
            killed.load(tiny_model_folder), killed.sft_rows(), killed.LORA, settings, Work(out, 3, **work)
        )  # fmt: skip

    whole = train(tmp_path / "whole")
    first, *_, last = losses(tmp_path / "whole")
    assert last < 0.7 * first
    assert about(tmp_path / "whole")["tensors"].keys() == {name}  # an adapter is matrices and nothing else
    with pytest.raises(Killed):
        train(tmp_path / "killed", progress=dies_at(15))
    assert (tmp_path / "killed" / "checkpoint-12" / "done").exists()
    same(train(tmp_path / "killed"), whole)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


def test_what_a_matrix_optimizer_cannot_take_goes_to_adamw(tiny_model_folder: Path) -> None:
    model = killed.load(tiny_model_folder).model.requires_grad_(True)
    matrices, rest = split(model)
    assert all(p.ndim == 2 for p in matrices) and len(matrices) + len(rest) == len([*model.parameters()])
    ends = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    assert not any(p is end for p in matrices for end in ends)
    ours = optimizer(model, "muon", 0.1)
    assert [type(part).__name__ for part in ours.parts] == ["Muon", "AdamW"]  # type: ignore[attr-defined]
    assert sum(len(group["params"]) for group in ours.param_groups) == len([*model.parameters()])


@pytest.mark.parametrize(("name", "kind"), [("muon", "Muon"), ("soap", "SOAP"), ("shampoo", "ScalableShampoo")])
def test_an_optimizer_is_the_one_named_and_its_steps_are_as_long_as_adamws(name: str, kind: str) -> None:
    def moved(name: str) -> tuple[str, float]:
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(24, 400, bias=False), torch.nn.Linear(400, 24, bias=False))
        network.get_input_embeddings = network.get_output_embeddings = lambda: None  # type: ignore[assignment]
        read, said = torch.randn(64, 24), torch.randn(64, 24)
        ours = optimizer(network, name, 1e-3) if name != "adamw" else torch.optim.AdamW(network.parameters(), lr=1e-3)
        for _ in range(24):  # past those in which some of them only look
            before = network[1].weight.detach().clone()
            ours.zero_grad()
            (network(read) - said).square().mean().backward()
            ours.step()
        step = (network[1].weight - before).square().mean().sqrt().item() / 1e-3
        return type(getattr(ours, "parts", [ours])[0]).__name__, step

    found, step = moved(name)
    assert found == kind and 0.1 < step / moved("adamw")[1] < 10


def test_optimizers_together_keep_what_each_holds() -> None:
    def made() -> tuple[list[torch.nn.Parameter], Together]:
        torch.manual_seed(0)
        weights = [torch.nn.Parameter(torch.randn(3, 4)), torch.nn.Parameter(torch.randn(5))]
        return weights, Together([torch.optim.SGD(weights[:1], lr=0.1, momentum=0.9), torch.optim.Adam(weights[1:])])

    def step(weights: list[torch.nn.Parameter], ours: Together) -> None:
        ours.zero_grad()
        sum((w**2).sum() for w in weights).backward()  # type: ignore[union-attr]
        ours.step()

    weights, ours = made()
    for _ in range(3):
        step(weights, ours)
    others, theirs = made()
    for p, q in zip(others, weights, strict=True):
        p.data.copy_(q.data)
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    for group in theirs.param_groups:  # as a scheduler does: what it sets must be what the steps use
        group["lr"] = 0.01
    assert {group["lr"] for part in theirs.parts for group in part.param_groups} == {0.01}
    for group in ours.param_groups:
        group["lr"] = 0.01
    step(weights, ours)
    step(others, theirs)
    for p, q in zip(others, weights, strict=True):
        torch.testing.assert_close(p, q, atol=0, rtol=0)


def test_an_optimizer_that_is_not_here_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CharacteryError, match="no optimizer 'adam'; there are adamw, muon, soap, shampoo"):
        check_optimizer("adam")
    monkeypatch.setattr("charactery.train.optimizers.find_spec", lambda name: None)
    with pytest.raises(CharacteryError, match=r"pip install 'charactery\[optimizers\]'"):
        check_optimizer("soap")
    check_optimizer("adamw")


# -- all weights


def test_all_weights_are_trained_and_go_on_where_they_were(tiny_model_folder: Path, tmp_path: Path) -> None:
    def train(out: Path, **work: Any) -> Path:
        model = LocalModel.load(tiny_model_folder, "tiny", "cpu", torch.bfloat16)
        return train_sft(
            model, killed.sft_rows(), FULL, Sft(learning_rate=3e-3, epochs=4, batch=4), Work(out, 3, **work)
        )  # fmt: skip

    whole = train(tmp_path / "whole")
    assert whole.name == "model" and losses(tmp_path / "whole")[-1] < 0.7 * losses(tmp_path / "whole")[0]
    with pytest.raises(Killed):
        train(tmp_path / "killed", progress=dies_at(8))
    same(train(tmp_path / "killed"), whole)
    base, trained = killed.load(tiny_model_folder), killed.load(whole)
    weights = dict(base.model.named_parameters())
    assert all(not torch.equal(p, weights[name]) for name, p in trained.model.named_parameters())
    before, after = (torch.cat(nats(m, killed.sft_rows(), "completion")).mean() for m in (base, trained))
    assert after > before + 1
    assert about(tmp_path / "whole")["parameters"] == sum(p.numel() for p in base.model.parameters())


def test_preferences_over_all_weights_begin_at_their_reference(tiny_model_folder: Path, tmp_path: Path) -> None:
    settings = Dpo(learning_rate=1e-3, epochs=4, batch=4)
    kept = train_dpo(killed.load(tiny_model_folder), killed.dpo_rows(), None, settings, Work(tmp_path, 3), FULL)
    margins = [row["rewards/margins"] for row in read_rows(tmp_path / "log.jsonl")]
    assert margins[0] == pytest.approx(0, abs=1e-5) and margins[-1] > 0.5
    base, trained = killed.load(tiny_model_folder), killed.load(kept)
    gain = {
        side: sum(float(a.sum() - b.sum()) for a, b in zip(
            nats(trained, killed.dpo_rows(), side), nats(base, killed.dpo_rows(), side), strict=True))
        for side in ("chosen", "rejected")
    }  # fmt: skip
    assert gain["chosen"] > gain["rejected"] + 12


# -- losses of pairs


@pytest.mark.parametrize(("start", "rank", "loss"), [(True, 4, "dpo"), (False, 4, "ipo"), (False, 0, "dpo")])
def test_a_reference_that_is_read_once_for_each_pair_is_the_one_read_at_every_step(
    start: bool, rank: int, loss: str, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import DPOTrainer

    lora, read = replace(killed.LORA, rank=rank), [0]
    begun = (
        train_sft(killed.load(tiny_model_folder), killed.sft_rows(), killed.LORA, killed.SFT, Work(tmp_path / "sft", 3))
        if start
        else None
    )
    kept = DPOTrainer.compute_ref_log_probs

    def counted(self: Any, network: Any, batch: Row) -> Any:
        read[0] += len(batch["input_ids"]) // 2
        return kept(self, network, batch)

    monkeypatch.setattr(DPOTrainer, "compute_ref_log_probs", counted)

    def steps(name: str, settings: Dpo) -> list[Row]:
        read[0] = 0
        train_dpo(killed.load(tiny_model_folder), killed.dpo_rows(), begun, settings, Work(tmp_path / name, 3), lora)
        return read_rows(tmp_path / name / "log.jsonl")

    settings = Dpo(learning_rate=1e-3, epochs=2, batch=4, loss=loss)
    once = steps("once", settings)
    assert read == [12]
    for name, other in (("one epoch", replace(settings, epochs=1)), ("kl", replace(settings, kl=0.1))):
        steps(name, other)
        assert read == [0], name
    monkeypatch.setattr(trainers, "reference_once", lambda *_: None)
    each = steps("each", settings)
    assert read == [0] and len(once) == len(each) == 6
    for key in ("loss", "grad_norm", "rewards/margins"):
        assert [row[key] for row in once] == pytest.approx([row[key] for row in each], rel=1e-5), key
    assert len({row["loss"] for row in each}) > 4, "the steps differ, or this shows nothing"


def preferences(model_folder: Path, out: Path, settings: Dpo) -> list[Row]:
    train_dpo(killed.load(model_folder), killed.dpo_rows(), None, settings, Work(out, 3), killed.LORA)
    return [row for row in read_rows(out / "log.jsonl") if "loss" in row]


@pytest.mark.parametrize("loss", ["ipo", "kto", "orpo"])
def test_a_loss_begins_where_its_paper_says_and_goes_down(loss: str, tiny_model_folder: Path, tmp_path: Path) -> None:
    settings = Dpo(learning_rate=1e-2, epochs=4, batch=4, beta=0.2, loss=loss)
    log = preferences(tiny_model_folder, tmp_path, settings)
    if loss == "orpo":  # nats a token of prompt and chosen answer, and beta times the log-odds ratio's log-sigmoid
        model = killed.load(tiny_model_folder)
        rows = plan(killed.dpo_rows(), model.tokenizer, "chosen", settings, 3)[:4]
        end = [model.tokenizer.eos_token_id]  # TRL ends these rows once more
        prompts = [prompt_tokens(model.tokenizer, row["prompt"]) for row in rows]
        said = {
            side: [[*answer_tokens(model, row[side][0]["content"]), *end] for row in rows]
            for side in ("chosen", "rejected")
        }
        chosen, rejected = (
            [values.mean() for values in model.score([*zip(prompts, said[side], strict=True)])] for side in said
        )
        odds = [
            (c - torch.log1p(-c.exp())) - (r - torch.log1p(-r.exp())) for c, r in zip(chosen, rejected, strict=True)
        ]  # fmt: skip
        ratio = -torch.nn.functional.logsigmoid(torch.stack(odds)).mean()
        whole = [prompt + answer for prompt, answer in zip(prompts, said["chosen"], strict=True)]
        nll = -torch.cat(model.score([(ids[:1], ids[1:]) for ids in whole])).mean()
        expected = float(nll + 0.2 * ratio)
    else:
        expected = {"ipo": (1 / (2 * 0.2)) ** 2, "kto": 0.5}[loss]
    assert log[0]["loss"] == pytest.approx(expected, rel=2e-3)
    assert log[-1]["loss"] < 0.97 * log[0]["loss"]
    assert log[-1]["rewards/margins"] > log[0]["rewards/margins"] + 0.02


def test_kto_sets_no_answer_beside_its_own_prompt() -> None:
    rows = unpaired(killed.dpo_rows(), 4)
    assert len(rows) == 24 and [row["label"] for row in rows[:8]] == [True] * 4 + [False] * 4
    for start in range(0, 24, 8):  # TRL moves the answers of a batch on by one
        batch = rows[start : start + 8]
        moved = [batch[-1], *batch[:-1]]
        assert all(row["prompt"] != other["prompt"] for row, other in zip(batch, moved, strict=True))


def test_kto_of_one_pair_at_a_time_is_refused(tiny_model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CharacteryError, match="one pair at a time; take another --loss"):  # five have no other divisor
        train_dpo(
            killed.load(tiny_model_folder), killed.dpo_rows()[:5], None, Dpo(loss="kto"), Work(tmp_path, 3), killed.LORA
        )


def test_the_weights_beside_the_loss_do_what_they_say(tiny_model_folder: Path, tmp_path: Path) -> None:
    settings = Dpo(learning_rate=1e-2, epochs=6, batch=4)
    logs = {
        name: preferences(tiny_model_folder, tmp_path / name, replace(settings, **change))
        for name, change in (("bare", {}), ("nll", {"nll": 0.5}), ("kl", {"kl": 5.0}))
    }
    model = killed.load(tiny_model_folder)
    rows = plan(killed.dpo_rows(), model.tokenizer, "chosen", settings, 3)[:4]
    nll = float(-torch.cat(nats(model, rows, "chosen")).mean())
    assert logs["bare"][0]["loss"] == pytest.approx(0.6931, abs=1e-3) == logs["kl"][0]["loss"]
    assert logs["nll"][0]["loss"] == pytest.approx(0.6931 + 0.5 * nll, abs=2e-3)
    assert logs["nll"][-1]["logps/chosen"] > logs["bare"][-1]["logps/chosen"] + 1
    assert logs["kl"][-1]["rewards/margins"] < 0.5 * logs["bare"][-1]["rewards/margins"]
    assert logs["kl"][0]["kl"] == pytest.approx(0, abs=1e-6) and logs["kl"][-1]["kl"] > 1e-4


def test_the_divergence_is_half_the_squared_log_ratio_of_the_pairs_tokens(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    start = train_sft(
        killed.load(tiny_model_folder), killed.sft_rows(), killed.LORA, killed.SFT, Work(tmp_path / "sft", 3)
    )  # fmt: skip
    settings = Dpo(learning_rate=1e-2, epochs=2, batch=12, together=12, kl=0.7)
    out = tmp_path / "dpo"
    train_dpo(killed.load(tiny_model_folder), killed.dpo_rows(), start, settings, Work(out, 3))
    first, second = (row["kl"] for row in read_rows(out / "log.jsonl"))
    assert first == pytest.approx(0, abs=1e-6)  # the reference is the adapter that it began at, not the base
    model = killed.load(tiny_model_folder)
    pairs = [
        (prompt_tokens(model.tokenizer, row["prompt"]), answer_tokens(model, row[side][0]["content"]))
        for row in killed.dpo_rows() for side in ("chosen", "rejected")
    ]  # fmt: skip
    after, before = (torch.cat(model.score(pairs, Adapter(folder))) for folder in (out / "checkpoint-1", start))
    expected = 0.5 * (after - before).square().mean().item()
    assert second == pytest.approx(expected, rel=0.02) and expected > 1e-3


# -- advice


def test_advice_that_is_not_kept_to_is_said(tiny_model_folder: Path, tmp_path: Path) -> None:
    with pytest.warns(CharacteryWarning, match="the learning rate is 1; for an adapter the default is 0.0005"):
        train_sft(
            killed.load(tiny_model_folder), killed.sft_rows(), killed.LORA, Sft(learning_rate=1.0, epochs=1),
            Work(tmp_path / "fast", 0),
        )  # fmt: skip
    [said] = about(tmp_path / "fast")["warnings"]
    assert "LoRA Without Regret" in said
    long = [row | {"completion": [assistant("the kettle and the harbour " * 100)]} for row in killed.sft_rows()]
    with pytest.warns(CharacteryWarning, match="fewer than the"):
        train_sft(killed.load(tiny_model_folder), long, Lora(1), Sft(epochs=1, batch=2), Work(tmp_path / "small", 0))
