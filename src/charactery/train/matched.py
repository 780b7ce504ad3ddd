"""Training that stops at a loss on rows held back, so that runs can be compared at the same one."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from charactery.runs import Row, read_rows, write_rows
from charactery.train.settings import Dpo, Grpo, Sft

VALIDATION = "validation.jsonl"


class Matched(TrainerCallback):  # type: ignore[misc]
    """Stops training at a loss on rows held back, looked at every 2% of the steps. Each process looks for itself."""

    def __init__(self, trainer: Any, wanted: float, folder: Path) -> None:
        self.trainer, self.wanted, self.folder = trainer, wanted, folder

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % max(1, round(0.02 * state.max_steps)) and state.global_step < state.max_steps:
            return
        loss = self._loss(args)
        if state.is_world_process_zero:
            rows = [r for r in self._rows() if r["step"] < state.global_step]  # a resumed training comes by here again
            write_rows(self.folder / VALIDATION, [*rows, {"step": state.global_step, "loss": loss}])
        if loss <= self.wanted:
            control.should_save = control.should_training_stop = True

    def _rows(self) -> list[Row]:
        path = self.folder / VALIDATION
        return read_rows(path) if path.exists() else []

    def _loss(self, args: Any) -> float:
        """Nats a token of the completions held back."""
        trainer, total, count = self.trainer, 0.0, 0
        rows, size = trainer.eval_dataset, args.per_device_train_batch_size
        trainer.model.eval()
        for start in range(0, len(rows), size):
            batch = trainer.data_collator([rows[i] for i in range(start, min(start + size, len(rows)))])
            with torch.no_grad(), trainer.accelerator.autocast():
                out = trainer.model(**trainer._prepare_inputs(batch), fused_lm_head=True)
            total -= float(out.log_probs.sum())
            count += int(out.label_mask.sum())
        trainer.model.train()
        return total / count


def held_back(rows: Sequence[Row], settings: Sft, seed: int) -> tuple[list[Row], list[Row]]:
    """The rows to learn from, and those that the loss to stop at is measured on: a tenth, the same for a seed."""
    if not settings.stop_at_loss:
        return list(rows), []
    held = {*random.Random(seed).sample(range(len(rows)), max(1, len(rows) // 10))} if len(rows) > 1 else set()
    return [r for n, r in enumerate(rows) if n not in held], [r for n, r in enumerate(rows) if n in held]


def reached(folder: Path, settings: Sft | Dpo | Grpo) -> Row:
    """The loss at which a training stopped that was to stop at one."""
    wanted = settings.stop_at_loss if isinstance(settings, Sft) else 0.0
    return {"wanted_loss": wanted, "reached": read_rows(folder / VALIDATION)[-1]} if wanted else {}


def stopped(folder: Path, last: Path, settings: Sft | Dpo | Grpo) -> bool:
    """Whether training had stopped at its loss at this checkpoint before the process ended."""
    if not isinstance(settings, Sft) or not settings.stop_at_loss or not (folder / VALIDATION).exists():
        return False
    step = json.loads((last / "done").read_text())["step"]
    return any(r["step"] == step and r["loss"] <= settings.stop_at_loss for r in read_rows(folder / VALIDATION))
