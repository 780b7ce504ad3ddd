"""Training that stops at a loss on rows that it does not learn from, so that runs can be compared at the same one."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from charactery.runs import Row, read_rows, write_rows
from charactery.train.settings import Dpo, Grpo, Sft

VALIDATION = "validation.jsonl"
NEAR = 0.005  # nats a token that training ends from its loss, either way
HALVINGS = 10  # at most: a thousandth of the way between two looks


class Matched(TrainerCallback):  # type: ignore[misc]
    """Stops training at a loss on the trainer's eval rows, looked at at the start and every 2% of the steps.

    Where a look finds it passed, the weights go back along the straight line to those of the look before. On that line
    the loss is continuous, too high at one end and too low at the other, so halving finds where it is the one wanted,
    whatever learns and by whichever optimiser. What is at the loss before it learns anything, or below it, stays as it
    is: its one step, which the trainer takes in any case, is gone back on. Each process looks for itself.
    """

    def __init__(self, trainer: Any, wanted: float, folder: Path) -> None:
        self.trainer, self.wanted, self.folder = trainer, wanted, folder
        self.before: tuple[float, list[torch.Tensor]]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        row: Row = {"step": state.global_step, "loss": self._loss(args)}
        self._note(args, state, row)
        self.there = not state.global_step and at_loss(row, self.wanted)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % looks(state.max_steps) and state.global_step < state.max_steps and not self.there:
            return
        row: Row = {"step": state.global_step, "loss": self._loss(args)}
        if self.there:
            self._between(0.0, self._learning())
            row = {"step": state.global_step, "loss": self.before[0], "part": 0.0, "passed": row["loss"]}
        elif row["loss"] < self.wanted - NEAR and self.before[0] > self.wanted:
            row |= self._back(args, row["loss"])
        self._note(args, state, row)
        if at_loss(row, self.wanted):
            control.should_save = control.should_training_stop = True

    def _note(self, args: Any, state: Any, row: Row) -> None:
        """Keep what was seen; a resumed training comes by here again."""
        self.before = row["loss"], [p.detach().clone() for p in self._learning()]
        if state.is_world_process_zero:
            path = self.folder / VALIDATION
            rows = [r for r in read_rows(path) if r["step"] < row["step"]] if path.exists() else []
            write_rows(path, [*rows, row])

    def _learning(self) -> list[torch.nn.Parameter]:
        return [p for p in self.trainer.model.parameters() if p.requires_grad]

    def _back(self, args: Any, passed: float) -> Row:
        """Leave the weights where the loss is the one wanted, between the look before and now."""
        late, loss, low, high, part = [p.detach().clone() for p in self._learning()], passed, 0.0, 1.0, 1.0
        for _ in range(HALVINGS):
            part = (low + high) / 2
            self._between(part, late)
            loss = self._loss(args)
            if abs(loss - self.wanted) <= NEAR:
                break
            low, high = (part, high) if loss > self.wanted else (low, part)
        return {"loss": loss, "part": part, "passed": passed}

    def _between(self, part: float, late: list[torch.Tensor] | list[torch.nn.Parameter]) -> None:
        """Set the weights so far on the way from the look before to `late`."""
        with torch.no_grad():
            for parameter, a, b in zip(self._learning(), self.before[1], late, strict=True):
                parameter.copy_(torch.lerp(a, b, part))

    def _loss(self, args: Any) -> float:
        """Nats a token of the completions."""
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


def looks(steps: int) -> int:
    """After how many steps of a training the loss is looked at."""
    return max(1, round(0.02 * steps))


def at_loss(row: Row, wanted: float) -> bool:
    """Whether training ends with this look."""
    return "part" in row or bool(row["loss"] <= wanted + NEAR)


def reached(folder: Path, settings: Sft | Dpo | Grpo) -> Row:
    """The loss at which a training stopped that was to stop at one."""
    wanted = settings.stop_at_loss if isinstance(settings, Sft) else 0.0
    return {"wanted_loss": wanted, "reached": read_rows(folder / VALIDATION)[-1]} if wanted else {}


def stopped(folder: Path, last: Path, settings: Sft | Dpo | Grpo) -> bool:
    """Whether training had stopped at its loss at this checkpoint before the process ended."""
    if not isinstance(settings, Sft) or not settings.stop_at_loss or not (folder / VALIDATION).exists():
        return False
    step = json.loads((last / "done").read_text())["step"]
    return any(r["step"] == step and at_loss(r, settings.stop_at_loss) for r in read_rows(folder / VALIDATION))
