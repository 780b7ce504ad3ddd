"""Optimisers, all weights, losses of pairs, reasoning left free, and stopping at a loss: each is what it says."""

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import killed_training as killed
from charactery.errors import BadData, CharacteryError, CharacteryWarning
from charactery.judges.rating import Case, OfAnswersAlone, Ratings
from charactery.models.chat import assistant, prompt_tokens, user
from charactery.models.decoder import Decoder
from charactery.models.local import Adapter, LocalModel
from charactery.models.reasoning import left_open, reasoned, without_reasoning
from charactery.runs import Row, read_rows
from charactery.train import matched, trainers
from charactery.train.grpo import _Online, train_grpo
from charactery.train.matched import NEAR
from charactery.train.optimizers import Together, check_optimizer, optimizer, split
from charactery.train.preferences import unpaired
from charactery.train.settings import Dpo, Lora, Sft
from charactery.train.trainers import Work, plan, train_dpo, train_sft
from conftest import CHAT_TEMPLATE, OPENED, REOPENED

FULL = Lora(rank=0)


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_rows(folder / "log.jsonl")]


def about(folder: Path) -> Row:
    read: Row = json.loads((folder / "training.json").read_text())
    return read


def same(one: Path, other: Path) -> None:
    from safetensors.torch import load_file

    [first, second] = (load_file(next(folder.glob("*.safetensors"))) for folder in (one, other))
    assert first.keys() == second.keys() and first
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=1e-6, rtol=0)


class Killed(Exception):
    pass


def dies_at(wanted: int) -> Any:
    def progress(step: int, steps: int, log: Row) -> None:
        if step == wanted:
            raise Killed

    return progress


def answer_tokens(model: LocalModel, text: str) -> list[int]:
    """An answer and the end of the turn, as the trainers read it."""
    tokenizer: Any = model.tokenizer
    before = tokenizer.apply_chat_template([user("Q")], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([user("Q"), assistant(text)], tokenize=False)
    ids: list[int] = tokenizer(whole.removeprefix(before), add_special_tokens=False)["input_ids"]
    return ids


def nats(model: LocalModel, rows: Sequence[Row], side: str) -> list[torch.Tensor]:
    """Log-probabilities of each row's answer and the end of its turn."""
    pairs = [
        (prompt_tokens(model.tokenizer, r["prompt"]), answer_tokens(model, r[side][0]["content"])) for r in rows
    ]  # fmt: skip
    return model.score(pairs)


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


# -- reasoning


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<think>hm\nhm</think>\nAye.", "Aye."),
        ("Aye. <reasoning>a</reasoning> No.", "Aye.  No."),
        ("Aye. <think>never closed", "Aye."),
        ("<think>a</think>b<think>c</think>d", "bd"),
        ("I think <so>", "I think <so>"),
        ("hm\nhm</think>\nAye.", "Aye."),
        ("a</reasoning>b<think>c</think>d</think>", "bd</think>"),
    ],
)
def test_reasoning_is_what_stands_between_its_marks(text: str, left: str, tiny_model: LocalModel) -> None:
    assert without_reasoning(text) == left
    ids = tiny_model.tokenizer(text, add_special_tokens=False)["input_ids"]
    kept = [i for i, inside in zip(ids, reasoned(ids, tiny_model.tokenizer), strict=True) if not inside]
    assert set("".join(tiny_model.tokenizer.decode(kept).split())) <= set("".join(left.split()))


def test_an_answer_may_begin_in_a_mark_that_its_prompt_opened(tiny_model: LocalModel) -> None:
    tokenizer: Any = tiny_model.tokenizer
    for template, frame in (
        (CHAT_TEMPLATE, ""), (OPENED, "<think>\n"), (REOPENED, "<think>\n"),
        (OPENED.replace("<think>\n' }}", "<think>\n\n</think>\n' }}"), ""),
        (CHAT_TEMPLATE.replace("helpful AI assistant", "helpful AI assistant <think>"), ""),
    ):  # fmt: skip
        tokenizer.chat_template = template
        assert left_open(tokenizer) == frame
    tokenizer.chat_template = OPENED
    closed = copy.deepcopy(tokenizer)
    closed.add_special_tokens({"additional_special_tokens": ["</think>"]})
    assert left_open(closed) == "", "an answer's text does not say where its reasoning ends"
    for text, left in (("hm</think>Aye.", "Aye."), ("never closed", ""), ("a</think>b<think>c</think>d", "bd")):
        assert without_reasoning(text, "<think>\n") == left
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        kept = [i for i, inside in zip(ids, reasoned(ids, tokenizer, "<think>\n"), strict=True) if not inside]
        assert set(tokenizer.decode(kept)) <= set(left)


def thinking(rows: list[Row], column: str, thought: str) -> list[Row]:
    return [
        row | {column: [assistant(f"<think>{thought}</think> {row[column][0]['content']}")]} for row in rows
    ]  # fmt: skip


def test_reasoning_is_not_learnt_from(tiny_model_folder: Path, tmp_path: Path) -> None:
    rows = thinking(killed.sft_rows()[:4], "completion", "The harbour is far away.")
    settings = Sft(epochs=1, batch=4, mask_reasoning=True)
    for name, asked in (("masked", settings), ("whole", replace(settings, mask_reasoning=False))):
        train_sft(killed.load(tiny_model_folder), rows, killed.LORA, asked, Work(tmp_path / name, 3))
    model = killed.load(tiny_model_folder)
    scored = nats(model, rows, "completion")
    masks = [
        torch.tensor(reasoned(answer_tokens(model, row["completion"][0]["content"]), model.tokenizer)) for row in rows
    ]  # fmt: skip
    assert all(mask.sum() > 10 and (~mask).sum() > 3 for mask in masks)
    free = torch.cat([values[~mask] for values, mask in zip(scored, masks, strict=True)])
    assert losses(tmp_path / "masked")[0] == pytest.approx(-free.mean().item(), abs=2e-3)
    assert losses(tmp_path / "whole")[0] == pytest.approx(-torch.cat(scored).mean().item(), abs=2e-3)
    assert abs(losses(tmp_path / "masked")[0] - losses(tmp_path / "whole")[0]) > 0.02


@pytest.mark.parametrize("loss", ["", "dpo", "kto"])
def test_where_reasoning_is_all_there_is_nothing_is_learnt(loss: str, tiny_model_folder: Path, tmp_path: Path) -> None:
    def endless(rows: list[Row], column: str, count: int) -> list[Row]:
        said = [assistant("<think>The harbour is far away, and is never reached.")]
        return [row | {column: said} if n < count else row for n, row in enumerate(rows)]

    def fit(count: int) -> None:
        model, work = killed.load(tiny_model_folder), Work(tmp_path / f"{count}", 3)
        if not loss:
            rows = endless(killed.sft_rows()[:4], "completion", count)
            train_sft(model, rows, killed.LORA, Sft(epochs=1, batch=4, mask_reasoning=True), work)
        else:
            rows = endless(endless(killed.dpo_rows()[:4], "chosen", count), "rejected", count)
            train_dpo(model, rows, None, Dpo(epochs=1, batch=4, loss=loss, mask_reasoning=True), work, killed.LORA)

    with pytest.raises(BadData, match="reasoning that never closes; train without --mask-reasoning"):
        fit(4)
    fit(3)


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_pairs_are_compared_without_their_reasoning(loss: str, tiny_model_folder: Path, tmp_path: Path) -> None:
    rows = thinking(thinking(killed.dpo_rows()[:4], "chosen", "As a captain."), "rejected", "Say it plainly, if so.")
    settings = Dpo(epochs=1, batch=4, loss=loss, mask_reasoning=True)
    train_dpo(killed.load(tiny_model_folder), rows, None, settings, Work(tmp_path, 3), killed.LORA)
    model = killed.load(tiny_model_folder)
    for side in ("chosen", "rejected"):
        free = [
            values[~torch.tensor(reasoned(answer_tokens(model, row[side][0]["content"]), model.tokenizer))].sum()
            for row, values in zip(rows, nats(model, rows, side), strict=True)
        ]
        told = read_rows(tmp_path / "log.jsonl")[0][f"logps/{side}"]
        assert told == pytest.approx(torch.stack(free).mean().item(), abs=2e-2)


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, OPENED, REOPENED], ids=["answer", "prompt", "prompt alone"])
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_no_gradient_comes_from_reasoning(
    kind: str, template: str, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what a token is predicted from: the last hidden state one place before it, which nothing else is read from."""
    from transformers import LlamaModel

    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    forward = LlamaModel.forward

    def watched(self: Any, input_ids: Any = None, **others: Any) -> Any:
        out = forward(self, input_ids=input_ids, **others)
        if out.last_hidden_state.requires_grad:
            out.last_hidden_state.register_hook(lambda gradient: seen.append((input_ids.clone(), gradient.clone())))
        return out

    monkeypatch.setattr(LlamaModel, "forward", watched)
    model, work = killed.load(tiny_model_folder), Work(tmp_path, 3)
    model.tokenizer.chat_template = template
    said = "Well, well. <think>The harbour is far away.</think> "  # so that what is learnt is in two pieces
    if template != CHAT_TEMPLATE:
        said = f"What of it?</think> {said}"

    def thinking(rows: list[Row], column: str) -> list[Row]:
        rows = [row | {column: [assistant(said + row[column][0]["content"])]} for row in rows]
        if template == OPENED:
            rows[0][column] = [assistant("The harbour is far away, and is never reached.")]
        return rows

    if kind == "sft":
        rows = thinking(killed.sft_rows()[:4], "completion")
        train_sft(model, rows, killed.LORA, Sft(epochs=1, batch=4, mask_reasoning=True), work)
    else:
        rows = thinking(thinking(killed.dpo_rows()[:4], "chosen"), "rejected")
        train_dpo(model, rows, None, Dpo(epochs=1, batch=4, mask_reasoning=True), work, killed.LORA)
    free = 0
    for ids_B_T, gradient_B_T_C in seen:
        for ids, gradient_T_C in zip(ids_B_T.tolist(), gradient_B_T_C, strict=True):
            inside = torch.tensor(reasoned(ids, model.tokenizer)).nonzero().flatten()
            assert len(inside) > 10 and not gradient_T_C[inside - 1].any(), "exactly zero"
            free += int((gradient_T_C[inside[-1] :].abs().sum(-1) > 0).sum())
    assert seen and free > 3 * sum(len(ids) for ids, _ in seen)


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, OPENED], ids=["answer", "prompt"])
def test_no_gradient_comes_from_reasoning_that_was_drawn(
    template: str, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GRPO's: of what each token of an answer is predicted from, while the judge likes the answers unequally."""
    model = killed.load(tiny_model_folder)
    model.tokenizer.chat_template = template
    said = [f"Well, {'e' * n}! <think>The harbour is far away.</think> Aye, the {'e' * n}sea." for n in range(8)]
    mark: list[int] = []
    if template == OPENED:
        mark = model.tokenizer.encode("<think>\n", add_special_tokens=False)
        said = [*(text.partition("<think>")[2] for text in said[:7]), "The harbour is far away, and is never reached."]
    drawn = [model.tokenizer.encode(text, add_special_tokens=False) for text in said]
    monkeypatch.setattr(LocalModel, "draw", lambda self, prompts, *_, **__: drawn[: len(prompts)])
    seen: list[tuple[list[list[int]], torch.Tensor]] = []
    hidden = Decoder.hidden

    def watched(self: Decoder, shared: Any, rows: Any, starts: Any, counts: Any) -> torch.Tensor:
        out = hidden(self, shared, rows, starts, counts)
        if out.requires_grad:
            answers = [row[s + 1 : s + 1 + n] for row, s, n in zip(rows, starts, counts, strict=True)]
            out.register_hook(lambda gradient: seen.append((answers, gradient.clone())))
        return out

    monkeypatch.setattr(Decoder, "hidden", watched)
    counted: list[int] = []
    scored = _Online._generate_and_score_completions

    def counting(self: _Online, inputs: Any) -> Any:
        batch = scored(self, inputs)
        counted.append(int(batch["num_items_in_batch"]))
        return batch

    monkeypatch.setattr(_Online, "_generate_and_score_completions", counting)
    asked = [(row["id"], tuple(row["prompt"])) for row in killed.sft_rows()]
    settings = replace(killed.GRPO, steps=1, max_tokens=120, mask_reasoning=True)
    train_grpo(model, asked, killed.Es(), settings, Work(tmp_path, 3), killed.LORA)
    assert sum(len(ids) for answers, _ in seen for ids in answers) == sum(map(len, drawn))
    left = 0
    for answers, gradient_N_C in seen:
        marked = [reasoned([*mark, *ids], model.tokenizer)[len(mark) :] for ids in answers]
        inside = torch.tensor([one for answer in marked for one in answer])
        left += int((~inside).sum())
        assert inside.sum() > 40 and not gradient_N_C[inside].any(), "exactly zero"
        assert (gradient_N_C[~inside].abs().sum(-1) > 0).float().mean() > 0.5
    assert counted == [left], "what a token's loss is divided by"


def test_a_judge_is_not_shown_reasoning() -> None:
    class Hears:
        name = "hears"
        heard: tuple[Case, ...] = ()

        def rate(self, cases: Sequence[Case], journal: Any, progress: Any) -> Ratings:
            self.heard = tuple(cases)
            return Ratings(tuple((1.0,) * len(c.answers) for c in cases))

    said = ("<think>x</think>Aye.", "No.", "x</think>Aye.")
    for begun, shown in (("", ("Aye.", "No.", "Aye.")), ("<think>\n", ("Aye.", "", "Aye."))):
        hears = Hears()
        judge = OfAnswersAlone(hears, begun)
        judge.rate([Case((user("Q"),), said)], None, lambda n: None)  # type: ignore[arg-type]
        assert judge.name == "hears" and hears.heard == (Case((user("Q"),), shown),)


# -- stopping at a loss

APART = 4  # of the twelve rows, to stop by


def stopping(folder: Path, wanted: float, model: Path, lora: Lora = killed.LORA, **given: Any) -> Path:
    """A hundred steps, looked at after every second, less where the loss is met before."""
    rows = killed.sft_rows()
    progress = {"progress": given.pop("progress")} if "progress" in given else {}
    settings = Sft(**{"learning_rate": 1e-2, "epochs": 50, "batch": 4, "stop_at_loss": wanted, **given})
    return train_sft(
        killed.load(model), rows[APART:], lora, settings, Work(folder, 3, **progress), validation=rows[:APART]
    )


def measured(kept: Path, model_folder: Path) -> float:
    """Nats a token of the rows kept apart, by what training left, read anew."""
    full = not (kept / "adapter_config.json").exists()
    model = killed.load(kept if full else model_folder)
    tokens = [(prompt_tokens(model.tokenizer, r["prompt"]), answer_tokens(model, r["completion"][0]["content"]))
              for r in killed.sft_rows()[:APART]]  # fmt: skip
    return -torch.cat(model.score(tokens, None if full else Adapter(kept))).mean().item()


def looked_at(folder: Path) -> list[Row]:
    return read_rows(folder / "validation.jsonl")


@pytest.mark.parametrize(
    ("lora", "optimizer", "rate"),
    [(killed.LORA, "adamw", 1e-2), (Lora(rank=1), "muon", 1e-2), (killed.LORA, "soap", 1e-2), (FULL, "adamw", 1e-3)],
)
def test_a_loss_that_was_passed_is_gone_back_to(
    lora: Lora, optimizer: str, rate: float, tiny_model_folder: Path, tmp_path: Path
) -> None:
    def train(name: str, wanted: float) -> Path:
        return stopping(tmp_path / name, wanted, tiny_model_folder, lora, optimizer=optimizer, learning_rate=rate)

    train("to-its-end", 0.01)
    rows = looked_at(tmp_path / "to-its-end")
    assert [row["step"] for row in rows] == [*range(0, 101, 2)]
    before, after = next((a, b) for a, b in pairwise(rows) if a["loss"] - b["loss"] > 0.06)  # a leap past it
    wanted = (before["loss"] + after["loss"]) / 2
    kept = train("stops", wanted)
    told = about(tmp_path / "stops")
    ended = told["reached"]
    assert told["wanted_loss"] == wanted and ended["step"] == after["step"] == len(losses(tmp_path / "stops"))
    assert ended["passed"] == pytest.approx(after["loss"], abs=1e-5) and 0 < ended["part"] < 1
    assert abs(ended["loss"] - wanted) <= NEAR < 0.02
    assert measured(kept, tiny_model_folder) == pytest.approx(ended["loss"], abs=2e-3)


def test_training_stops_at_the_loss_asked_for(tiny_model_folder: Path, tmp_path: Path) -> None:
    stopping(tmp_path / "to-its-end", 0.01, tiny_model_folder)
    looked = looked_at(tmp_path / "to-its-end")
    assert looked[0]["loss"] > looked[-1]["loss"] > 0.01
    wanted = looked[len(looked) // 4]["loss"] - NEAR + 1e-4  # a hair more than what it comes to there
    first = next(row for row in looked if row["loss"] <= wanted + NEAR)
    kept = stopping(tmp_path / "stops", wanted, tiny_model_folder)
    assert about(tmp_path / "stops")["reached"] == first and len(losses(tmp_path / "stops")) == first["step"] < 100
    assert measured(kept, tiny_model_folder) == pytest.approx(first["loss"], abs=2e-3)
    # ended once it had stopped and before the adapter was kept, it does not train on
    shutil.rmtree(kept)
    (tmp_path / "stops" / "training.json").unlink()
    again: list[int] = []
    same(stopping(tmp_path / "stops", wanted, tiny_model_folder, progress=lambda step, *_: again.append(step)),
         tmp_path / "stops" / f"checkpoint-{first['step']}")  # fmt: skip
    assert not again


def test_killed_on_the_way_it_stops_where_it_would_have(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matched, "NEAR", 1e-4)  # it is always passed
    slow = {"learning_rate": 1e-3}
    stopping(tmp_path / "to-its-end", 0.01, tiny_model_folder, **slow)
    looked = looked_at(tmp_path / "to-its-end")
    [before, after] = [row["loss"] for row in looked if row["step"] in (26, 28)]  # the first checkpoint is at a look
    wanted = (before + after) / 2
    kept = stopping(tmp_path / "whole", wanted, tiny_model_folder, **slow)
    with pytest.raises(Killed):
        stopping(tmp_path / "killed", wanted, tiny_model_folder, progress=dies_at(27), **slow)
    resumed: list[int] = []
    again = stopping(
        tmp_path / "killed", wanted, tiny_model_folder, progress=lambda step, *_: resumed.append(step), **slow
    )
    assert resumed == [27, 28] and 0 < about(tmp_path / "whole")["reached"]["part"] < 1
    assert about(tmp_path / "whole") == about(tmp_path / "killed")
    assert looked_at(tmp_path / "whole") == looked_at(tmp_path / "killed")
    same(kept, again)


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
