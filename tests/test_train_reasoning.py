"""Reasoning is learnt from by no trainer, and shown to no judge."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import killed_training as killed
from charactery.errors import BadData
from charactery.judges.rating import Case, OfAnswersAlone, Ratings
from charactery.models.chat import assistant, user
from charactery.models.decoder import Decoder
from charactery.models.local import LocalModel
from charactery.models.reasoning import left_open, reasoned, without_reasoning
from charactery.runs import Row, read_rows
from charactery.train.grpo import _Online, train_grpo
from charactery.train.settings import Dpo, Sft
from charactery.train.trainers import Work, train_dpo, train_sft
from conftest import CHAT_TEMPLATE, OPENED, REOPENED
from trained import answer_tokens, losses, nats


def thinking(rows: list[Row], column: str, thought: str) -> list[Row]:
    return [
        row | {column: [assistant(f"<think>{thought}</think> {row[column][0]['content']}")]} for row in rows
    ]  # fmt: skip


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
