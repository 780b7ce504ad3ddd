"""What a training left, read anew; and one that is killed on its way."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from charactery.models.chat import assistant, prompt_tokens, user
from charactery.models.local import LocalModel
from charactery.runs import Row, read_rows


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
