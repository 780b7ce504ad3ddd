"""LoRA by SFT and DPO on TRL and PEFT, with checkpoints that count only once they are whole."""

import json
import random
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from charactery.errors import BadData
from charactery.models.chat import prompt_text
from charactery.models.local import LocalModel
from charactery.runs import Row, remove_partial, write_json, write_rows
from charactery.train.documents import as_read
from charactery.train.head import score_completions_only
from charactery.train.settings import ORDERS, Dpo, Lora, Sft, at_once, share

SAVES = 4  # checkpoints a stage keeps, at equal distances
ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "README.md")


@dataclass(frozen=True)
class Work:
    """Where a training stage works: its folder, the seed, TRL's loggers, and whom to tell of each step."""

    folder: Path
    seed: int
    report_to: str = "none"
    progress: Callable[[int, int, Row], None] = lambda step, steps, log: None


class _Progress(TrainerCallback):  # type: ignore[misc]
    """Marks checkpoints and tells progress, in the first process."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            write_json(folder / "done", {"step": state.global_step})

    def on_log(self, args: Any, state: Any, control: Any, logs: Row | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and logs and "loss" in logs:
            self.work.progress(state.global_step, state.max_steps, logs)


def train_sft(
    model: LocalModel, rows: Sequence[Row], lora: Lora, settings: Sft, work: Work, start: Path | None = None
) -> Path:
    """Fine-tune a fresh adapter, or go on with one, on prompt and completion messages; loss on the completion alone.

    Rows without a prompt are documents: plain text, and loss on all of it.
    `model` is used up: its network carries the adapter afterwards. Returns the adapter's folder.
    """
    from datasets import Dataset
    from peft import PeftModel
    from trl import SFTConfig, SFTTrainer

    batch = min(settings.batch, len(rows))
    rows = plan(rows, model.tokenizer, "completion", settings, work.seed)
    common = _common(work, settings, batch, len(rows), model)
    config = _on_one_device(SFTConfig(**common, max_length=None, completion_only_loss=True))
    torch.manual_seed(work.seed)  # the adapter's first weights
    network = _trainable(model)
    trainer = SFTTrainer(
        model=PeftModel.from_pretrained(network, start, is_trainable=True) if start else network, args=config,
        train_dataset=Dataset.from_list(as_read(rows, model.tokenizer)), processing_class=model.tokenizer,
        peft_config=None if start else _fresh(lora), callbacks=[_Progress(work)],
    )  # fmt: skip
    return _run(trainer, work)


def train_dpo(
    model: LocalModel, pairs: Sequence[Row], start: Path | None, settings: Dpo, work: Work, lora: Lora | None = None
) -> Path:
    """Go on from an adapter with preference pairs; the reference is that adapter as it was.

    Without one, a fresh adapter is trained, and the reference is the base.
    """
    from datasets import Dataset
    from peft import PeftModel, get_peft_model
    from trl import DPOConfig, DPOTrainer

    batch = min(settings.batch, len(pairs))
    pairs = plan(pairs, model.tokenizer, "chosen", settings, work.seed)
    common = _common(work, settings, batch, len(pairs), model)
    config = _on_one_device(DPOConfig(**common, max_length=None, beta=settings.beta))
    torch.manual_seed(work.seed)
    network = (
        PeftModel.from_pretrained(_trainable(model), start, is_trainable=True)
        if start
        else get_peft_model(_trainable(model), _fresh(lora or Lora()))
    )
    trainer = DPOTrainer(
        model=network, args=config, train_dataset=Dataset.from_list(_only(pairs, "prompt", "chosen", "rejected")),
        processing_class=model.tokenizer, callbacks=[_Progress(work)],
    )  # fmt: skip
    return _run(trainer, work)


def _fresh(lora: Lora) -> Any:
    """PEFT's settings for a new adapter."""
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=0.0, target_modules=lora.targets, task_type="CAUSAL_LM"
    )


def plan(rows: Sequence[Row], tokenizer: Any, column: str, settings: Sft | Dpo, seed: int) -> list[Row]:
    """The rows in the order they are trained on, epoch after epoch, cut into whole batches.

    By default rows of like length share a batch (less padding), batches come in an order drawn anew each epoch, and the
    few rows over a whole number of batches are left out of that epoch at random. Where another order is asked for
    (`settings.order`, see ORDERS), that is the order, and the rows over are its last. Fixed before training, so a
    resumed run meets the same batches. Raises BadData where there are no rows, or a row lacks the field to sort by.
    """
    if not rows:
        raise BadData(
            "there is nothing to train on: no rows are left. See set_aside.jsonl in the drafts for why, or ask for "
            "more training prompts (--train)"
        )
    rng, size = random.Random(seed), min(settings.batch, len(rows))
    whole = len(rows) // size * size
    lengths = [
        (len(prompt_text(tokenizer, row["prompt"])) if row["prompt"] else 0) + len(row[column][0]["content"])
        for row in rows
    ]
    wanted = max(1, round(settings.epochs * (len(rows) // size)))
    batches: list[list[int]] = []
    while len(batches) < wanted:
        if settings.order == "grouped":
            index = sorted(rng.sample(range(len(rows)), whole), key=lambda i: lengths[i])
        else:
            index = _ordered(rows, settings.order, rng)[:whole]
        epoch = [index[n : n + size] for n in range(0, whole, size)]
        if settings.order == "grouped":
            rng.shuffle(epoch)
        batches += epoch
    return [rows[i] for batch in batches[:wanted] for i in batch]


def _ordered(rows: Sequence[Row], order: str, rng: random.Random) -> list[int]:
    """All rows by index, in the order asked for."""
    index = [*range(len(rows))]
    if order == "shuffled":
        rng.shuffle(index)
    elif order == "reversed":
        index.reverse()
    elif order.startswith("by:"):
        name = order.removeprefix("by:")
        if lacking := next((row for row in rows if row.get(name) is None), None):
            raise BadData(f"cannot be ordered by {name!r}: the row {lacking.get('id')!r} has no such field")
        index.sort(key=lambda i: rows[i][name])
    elif order != "given":
        raise BadData(f"there is no order {order!r}; there are {', '.join(ORDERS)} and by:FIELD")
    return index


def _trainable(model: LocalModel) -> Any:
    """The bare network with weights that are not inference tensors and no gradients of their own."""
    network = model.model
    network.config.use_cache = False
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network


def _only(rows: Sequence[Row], *columns: str) -> list[Row]:
    return [{c: row[c] for c in columns} for row in rows]


def _on_one_device(config: Any) -> Any:
    """Where several cards are seen, transformers would give each a batch: a step would be of more rows than planned."""
    config._n_gpu = min(config.n_gpu, 1)
    return config


def _common(work: Work, settings: Sft | Dpo, batch: int, rows: int, model: LocalModel) -> Row:
    steps = rows // batch
    mine = share(batch)
    together = at_once(settings, mine, sum(p.numel() for p in model.model.parameters()))
    return {
        "output_dir": str(work.folder),
        "max_steps": steps,
        "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": together,
        "gradient_accumulation_steps": mine // together,
        "train_sampling_strategy": "sequential",  # dealt out to processes in turn: a step has the rows planned for it
        "warmup_steps": round(settings.warmup * steps),
        "lr_scheduler_type": "cosine",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "save_steps": max(1, -(-steps // SAVES)),
        "save_total_limit": None,
        "seed": work.seed,
        "data_seed": work.seed,
        "report_to": work.report_to,
        "disable_tqdm": True,
        "activation_checkpointing": False,  # TRL turns it on by default: less memory, a third more time
        # the adapter's weights stay in float32 and are multiplied in what the base computes in
        "bf16": model.model.dtype == torch.bfloat16,
        "dataloader_pin_memory": False,
        "use_cpu": model.device == "cpu",
    }


def _run(trainer: Any, work: Work) -> Path:
    """Train from the last whole checkpoint, then write log and adapter, the first process alone."""
    from peft.helpers import disable_input_dtype_casting

    adapter = work.folder / "adapter"
    with trainer.accelerator.main_process_first():  # it deletes what is half written
        last = last_checkpoint(work.folder)
    trainer.remove_callback(_printer())
    if trainer.accelerator.device.type != "cuda":
        score_completions_only(trainer.model.get_base_model())
    previous = signal.getsignal(signal.SIGINT)
    try:
        with disable_input_dtype_casting(trainer.model):  # PEFT would widen every input first, for autocast to narrow
            trainer.train(resume_from_checkpoint=str(last) if last else None)
    finally:
        signal.signal(signal.SIGINT, previous)
    trainer.accelerator.wait_for_everyone()  # each process writes a file to the last checkpoint
    if trainer.is_world_process_zero():
        write_rows(work.folder / "log.jsonl", [entry for entry in trainer.state.log_history if "loss" in entry])
        _keep_adapter(work.folder, adapter)
    trainer.accelerator.wait_for_everyone()
    return adapter


def _keep_adapter(folder: Path, adapter: Path) -> None:
    """Copy the adapter out of the last checkpoint, which the trainer writes at its last step, however spread it was."""
    last, fresh = last_checkpoint(folder), adapter.with_name("adapter.tmp")
    assert last is not None
    remove_partial(fresh)
    fresh.mkdir()
    for name in ADAPTER:
        shutil.copyfile(last / name, fresh / name)
    remove_partial(adapter)
    fresh.rename(adapter)
    for checkpoint in folder.glob("checkpoint-*"):  # the trainer's state has done its work; adapters stay
        for path in (checkpoint / name for name in ("optimizer.pt", "scheduler.pt", "training_args.bin")):
            path.unlink(missing_ok=True)
        for path in checkpoint.glob("rng_state*.pth"):
            path.unlink()
        shutil.rmtree(checkpoint / "ref", ignore_errors=True)


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint with its marker; those without one are half written, and are deleted."""
    whole = {}
    for checkpoint in folder.glob("checkpoint-*"):
        if (checkpoint / "done").exists():
            whole[json.loads((checkpoint / "done").read_text())["step"]] = checkpoint
        else:
            remove_partial(checkpoint)
    return whole[max(whole)] if whole else None
