"""SFT that stops at a loss: where it was asked to, gone back to where it was passed, and so when it is killed."""

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import killed_training as killed
from charactery.models.chat import prompt_tokens
from charactery.models.local import Adapter
from charactery.runs import Row, read_rows
from charactery.train import matched
from charactery.train.matched import NEAR
from charactery.train.settings import Lora, Sft
from charactery.train.trainers import Work, train_sft
from killed_training import FULL
from trained import Killed, about, answer_tokens, dies_at, losses, same

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


def test_what_begins_at_its_loss_learns_nothing(tiny_model_folder: Path, tmp_path: Path) -> None:
    start = stopping(tmp_path / "start", 0.01, tiny_model_folder, epochs=10)
    begins = looked_at(tmp_path / "start")[-1]["loss"]
    rows = killed.sft_rows()
    settings = Sft(learning_rate=1e-2, epochs=50, batch=4, warmup=0.0, stop_at_loss=begins + 0.5)
    model, work = killed.load(tiny_model_folder), Work(tmp_path / "on", 3)
    kept = train_sft(model, rows[APART:], killed.LORA, settings, work, start, rows[:APART])
    same(kept, start)
    ended = about(tmp_path / "on")["reached"]
    assert (ended["step"], ended["part"]) == (1, 0.0) and ended["loss"] == pytest.approx(begins, abs=1e-4)
    assert ended["passed"] != ended["loss"] and len(losses(tmp_path / "on")) == 1


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
