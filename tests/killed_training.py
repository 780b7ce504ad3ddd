"""Trainings that die, each in a process of its own: `python killed_training.py MODEL_FOLDER OUT_FOLDER CASE…`.

Torch is imported once and each case is forked off before torch has done anything, which saves its start-up time.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charactery.judges.rating import Case, Ratings
from charactery.models.local import LocalModel
from charactery.runs import Journal, Row
from charactery.train import trainers
from charactery.train.grpo import train_grpo
from charactery.train.settings import Dpo, Grpo, Lora, Sft
from charactery.train.trainers import Work, train_dpo, train_sft

LORA = Lora(rank=4, alpha=8)
FULL = Lora(rank=0)  # all weights
SFT = Sft(learning_rate=3e-2, epochs=2, batch=4)
DPO = Dpo(learning_rate=1e-2, epochs=2, batch=4, beta=0.1)
GRPO = Grpo(learning_rate=1e-2, steps=6, prompts=2, each=4, together=4, max_tokens=8, beta=0.05)
THINGS = "kettle harbour ladder violin orchard letter pepper window tunnel garden basket candle".split()


def sft_rows() -> list[Row]:
    """Twelve rows: three batches an epoch, six steps, a checkpoint after steps 2, 4 and 6."""
    return [
        {"id": str(n), "prompt": [{"role": "user", "content": f"What of the {word}{'?' * n}"}],
         "completion": [{"role": "assistant", "content": f"Aye, the {word}."}]}
        for n, word in enumerate(THINGS)
    ]  # fmt: skip


def dpo_rows() -> list[Row]:
    """The same with a plain answer to reject."""
    return [
        {"id": row["id"], "prompt": row["prompt"], "chosen": row["completion"],
         "rejected": [{"role": "assistant", "content": f"A {THINGS[n]} is an object."}]}
        for n, row in enumerate(sft_rows())
    ]  # fmt: skip


@dataclass(frozen=True)
class Es:
    """A judge who likes one letter: the share of an answer's letters that are an e."""

    name: str = "es"
    unit: str = "share"
    alone: bool = True

    def rate(self, cases: Sequence[Case], journal: Journal, progress: Any) -> Ratings:
        """An empty answer has no verdict."""
        return Ratings(tuple(tuple(a.count("e") / len(a) if a else None for a in c.answers) for c in cases))


def load(folder: Path) -> LocalModel:
    """The tiny model, in float32 on the CPU."""
    import torch

    return LocalModel.load(folder, "tiny", "cpu", torch.float32)


def train(kind: str, model: LocalModel, out: Path, settings: Any = None, **work: Any) -> Path:
    """Train `kind` in `out`/kind, as above but for other settings; DPO goes on from the adapter in `out`/start."""
    settings = settings or {"sft": SFT, "dpo": DPO, "grpo": GRPO}[kind]
    if kind == "sft":
        return train_sft(model, sft_rows(), LORA, settings, Work(out / "sft", 3, **work))
    if kind == "grpo":
        asked = [(row["id"], tuple(row["prompt"])) for row in sft_rows()]
        return train_grpo(model, asked, Es(), settings, Work(out / "grpo", 3, **work), LORA)
    return train_dpo(model, dpo_rows(), out / "start", settings, Work(out / "dpo", 3, **work))


def die_at_step(wanted: int) -> Any:
    """A progress callback that ends the process, as a kill would."""

    def progress(step: int, steps: int, log: Row) -> None:
        if step == wanted:
            os._exit(9)

    return progress


def die_inside_save(wanted: int) -> None:
    """End the process with the adapter of checkpoint `wanted` on disk and the optimizer not."""
    from transformers import Trainer

    save = Trainer._save_optimizer_and_scheduler

    def dying(self: Any, output_dir: str) -> None:
        if output_dir.endswith(f"checkpoint-{wanted}"):
            os._exit(9)
        save(self, output_dir)

    Trainer._save_optimizer_and_scheduler = dying


def die_before_mark(wanted: int) -> None:
    """End the process with checkpoint `wanted` whole but its marker unwritten."""
    write = trainers.write_json

    def dying(path: Path, value: Any) -> None:
        if value["step"] == wanted:
            os._exit(9)
        write(path, value)

    trainers.write_json = dying  # type: ignore[assignment]


def die_before_adapter(*_: Any) -> None:
    """End the process once the last checkpoint is marked and before the adapter is written."""
    os._exit(9)


CASES = {
    "after-checkpoint": ("sft", {"progress": die_at_step(5)}, lambda: None),
    "inside-save": ("sft", {}, lambda: die_inside_save(4)),
    "before-mark": ("sft", {}, lambda: die_before_mark(4)),
    "before-adapter": ("sft", {}, lambda: setattr(trainers, "write_rows", die_before_adapter)),
    "before-any-checkpoint": ("sft", {"progress": die_at_step(1)}, lambda: None),
    "left-to-two-processes": ("sft", {"progress": die_at_step(5)}, lambda: None),
    "dpo-after-checkpoint": ("dpo", {"progress": die_at_step(5)}, lambda: None),
    "grpo-after-checkpoint": ("grpo", {"progress": die_at_step(5)}, lambda: None),
}


def main(model_folder: Path, out: Path, cases: list[str]) -> None:
    """Run each case in a forked process and insist that it dies of the planted kill."""
    for case in cases:
        kind, work, plant = CASES[case]
        child = os.fork()
        if child == 0:
            try:
                plant()
                train(kind, load(model_folder), out / case, **work)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 9, f"{case} ended with {status}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
