"""SFT and learning from pairs on TRL and PEFT, with checkpoints that count only once they are whole."""

import contextlib
import copy
import json
import random
import shutil
import signal
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from charactery.errors import BadData, CharacteryWarning
from charactery.models.chat import prompt_text
from charactery.models.local import LocalModel, card_memory
from charactery.models.reasoning import leaves_something, leaving_reasoning
from charactery.runs import Row, remove_partial, write_json, write_rows
from charactery.train.documents import as_read
from charactery.train.head import score_completions_only
from charactery.train.matched import Matched, looks, reached, stopped
from charactery.train.optimizers import optimizer, tensors
from charactery.train.preferences import reference_once, trainer_of_pairs
from charactery.train.settings import FAR, FULL_RATE, ORDERS, Dpo, Grpo, Lora, Sft, at_once, share

ON_CARDS = True  # whether networks that learn read through our forward on graphics cards, too
SAVES = 4  # checkpoints a stage keeps, at equal distances
ADAPTER, MODEL = "adapter", "model"  # the folder of what a stage trained: an adapter, or all weights
OF_ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "README.md")
TRAINING = "training.json"
STATE = ("optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state*.pth", "trainer_state.json", "done", "ref")


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
    model: LocalModel, rows: Sequence[Row], lora: Lora, settings: Sft, work: Work, start: Path | None = None,
    validation: Sequence[Row] = (),
) -> Path:  # fmt: skip
    """Fine-tune a fresh adapter, or go on with one, on prompt and completion messages; loss on the completion alone.

    Rows without a prompt are documents: plain text, and loss on all of it. At rank 0 all weights of `model` are
    trained, and there is no `start`. `validation` are the rows whose loss training is to stop at, where it is to
    (`settings.stop_at_loss`). `model` is used up: its network is what was trained afterwards. Returns the folder of the
    adapter, or of the model.
    """
    from datasets import Dataset
    from peft import PeftModel
    from trl import SFTConfig, SFTTrainer

    batch = min(settings.batch, len(rows))
    learnt = plan(rows, model.tokenizer, "completion", settings, work.seed)
    common = _common(work, settings, batch, len(learnt), model)
    if settings.stop_at_loss:  # a training that goes on from a checkpoint begins at a look, as it would have gone by it
        every = looks(common["max_steps"])
        common["save_steps"] = -(-common["save_steps"] // every) * every
    config = _on_one_device(SFTConfig(**common, max_length=None, completion_only_loss=True))
    torch.manual_seed(work.seed)  # the adapter's first weights
    network = _trainable(model, full=not lora.rank)
    trainer = _with(SFTTrainer, settings)(
        model=PeftModel.from_pretrained(network, start, is_trainable=True) if start else network, args=config,
        train_dataset=Dataset.from_list(as_read(learnt, model.tokenizer)), processing_class=model.tokenizer,
        eval_dataset=Dataset.from_list(as_read(validation, model.tokenizer)) if settings.stop_at_loss else None,
        peft_config=None if start or not lora.rank else _fresh(lora), callbacks=[_Progress(work)],
    )  # fmt: skip
    if settings.stop_at_loss:
        trainer.add_callback(Matched(trainer, settings.stop_at_loss, work.folder))
    return _run(trainer, work, settings, lora, _tokens(rows, model.tokenizer, "completion"))


def train_dpo(
    model: LocalModel, pairs: Sequence[Row], start: Path | None, settings: Dpo, work: Work, lora: Lora | None = None
) -> Path:
    """Go on from an adapter with preference pairs; the reference is that adapter as it was.

    Without one, a fresh adapter is trained, and the reference is the base. At rank 0 all weights of `model` are
    trained, and the reference is a copy.
    """
    from peft import PeftModel, get_peft_model

    lora = lora or Lora()
    batch = min(settings.batch, len(pairs))
    learnt = plan(pairs, model.tokenizer, "chosen", settings, work.seed)
    common = _common(work, settings, batch, len(learnt), model)
    torch.manual_seed(work.seed)
    network = _trainable(model, full=not lora.rank)
    reference = (
        {}
        if lora.rank or settings.loss == "orpo"
        else {"ref_model": copy.deepcopy(network).requires_grad_(False).eval()}
    )
    if start:
        network = PeftModel.from_pretrained(network, start, is_trainable=True)
    elif lora.rank:
        network = get_peft_model(network, _fresh(lora))
    trainer_class, config, data = trainer_of_pairs(settings, common, learnt, model.context)
    trainer = _with(trainer_class, settings)(
        model=network, args=_on_one_device(config), train_dataset=data, processing_class=model.tokenizer,
        callbacks=[_Progress(work)], **reference,
    )  # fmt: skip
    return _run(trainer, work, settings, lora, _tokens(pairs, model.tokenizer, "chosen", "rejected"))


def _with(trainer_class: Any, settings: Sft | Dpo | Grpo) -> Any:
    """A trainer of TRL's that takes its steps by the optimiser asked for, and leaves reasoning free where it is to."""
    if settings.optimizer == "adamw" and not settings.mask_reasoning:
        return trainer_class

    class Trainer(trainer_class):  # type: ignore[misc]
        data_collator: Any
        optimizer: Any

        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            if settings.mask_reasoning and not isinstance(settings, Grpo):  # which draws what it learns from
                self.data_collator = leaving_reasoning(self.data_collator, self.processing_class)
                if not leaves_something(self.data_collator, self.train_dataset):
                    raise BadData(
                        "nothing is left to learn: all that the completions say is reasoning that never closes; train "
                        "without --mask-reasoning, or on answers whose reasoning ends (a longer --max-tokens)"
                    )

        def create_optimizer(self, model: Any = None) -> Any:
            if settings.optimizer == "adamw":
                return super().create_optimizer(model)
            if self.optimizer is None:
                network = self.model if model is None else model
                self.optimizer = optimizer(network, settings.optimizer, self.args.learning_rate)
            return self.optimizer

    return Trainer


def _tokens(rows: Sequence[Row], tokenizer: Any, *columns: str) -> int:
    """Tokens of the completions of rows."""
    texts = [row[column][0]["content"] for row in rows for column in columns]
    return sum(map(len, tokenizer(texts, add_special_tokens=False)["input_ids"]))


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
    resumed run meets the same batches. Raises BadData where there are no rows, or none has the field to sort by.
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
    """All rows by index, in the order asked for; those that lack the field of `by:FIELD` come last."""
    index = [*range(len(rows))]
    if order == "shuffled":
        rng.shuffle(index)
    elif order == "reversed":
        index.reverse()
    elif order.startswith("by:"):
        name = order.removeprefix("by:")
        if all(row.get(name) is None for row in rows):
            raise BadData(f"cannot be ordered by {name!r}: no row has such a field")
        index.sort(key=lambda i: (rows[i].get(name) is None, rows[i].get(name)))
    elif order != "given":
        raise BadData(f"there is no order {order!r}; there are {', '.join(ORDERS)} and by:FIELD")
    return index


def _trainable(model: LocalModel, full: bool = False) -> Any:
    """The bare network with weights that are not inference tensors, and no gradients of their own.

    Where all of them are to learn they are in float32, with gradients: steps as small as theirs are lost in bfloat16.
    """
    network = model.model
    network.config.use_cache = False
    for parameter in network.parameters():
        parameter.requires_grad_(full)
    return network.float() if full else network


def _on_one_device(config: Any) -> Any:
    """Where several cards are seen, transformers would give each a batch: a step would be of more rows than planned."""
    config._n_gpu = min(config.n_gpu, 1)
    return config


def _common(work: Work, settings: Sft | Dpo | Grpo, batch: int, rows: int, model: LocalModel) -> Row:
    steps = rows // batch
    mine = share(batch)
    parameters = sum(p.numel() for p in model.model.parameters())
    together = at_once(settings, mine, parameters, card_memory(model.device))
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
        # what learns stays in float32 and is multiplied in what the base computes in
        "bf16": model.model.dtype == torch.bfloat16,
        "dataloader_pin_memory": False,
        "use_cpu": model.device == "cpu",
    }


def _run(trainer: Any, work: Work, settings: Sft | Dpo | Grpo, lora: Lora, tokens: int | None = None) -> Path:
    """Train from the last whole checkpoint, then write log and adapter (or model), the first process alone."""
    from peft import PeftModel
    from peft.helpers import disable_input_dtype_casting

    adapted = isinstance(trainer.model, PeftModel)
    with trainer.accelerator.main_process_first():  # it deletes what is half written
        last = last_checkpoint(work.folder)
    trainer.remove_callback(_printer())
    if adapted and _reads_ours(trainer):
        score_completions_only(trainer.model.get_base_model())
    about = _about(trainer, settings, lora, tokens)
    for said in about["warnings"] if trainer.is_world_process_zero() else ():
        warnings.warn(said, CharacteryWarning, stacklevel=1)
    previous = signal.getsignal(signal.SIGINT)
    try:
        # PEFT would widen every input first, for autocast to narrow
        with disable_input_dtype_casting(trainer.model) if adapted else contextlib.nullcontext():
            if not (last and stopped(work.folder, last, settings)):
                if isinstance(settings, Dpo) and not _spread(trainer):
                    reference_once(trainer, settings)
                trainer.train(resume_from_checkpoint=str(last) if last else None)
    finally:
        signal.signal(signal.SIGINT, previous)
    trainer.accelerator.wait_for_everyone()  # each process writes a file to the last checkpoint
    kept = work.folder / (ADAPTER if adapted else MODEL)
    if trainer.is_world_process_zero():
        last = last_checkpoint(work.folder)
        assert last is not None
        state = json.loads((last / "trainer_state.json").read_text())
        write_rows(work.folder / "log.jsonl", [entry for entry in state["log_history"] if "loss" in entry])
        write_json(work.folder / TRAINING, about | reached(work.folder, settings))
        _keep(last, kept)
    trainer.accelerator.wait_for_everyone()
    return kept


def _reads_ours(trainer: Any) -> bool:
    """Whether a trainer's network is to read through our forward. Not where its weights are spread over processes: what
    a layer then multiplies with is gathered by its own forward alone."""
    return not _spread(trainer) and (ON_CARDS or trainer.accelerator.device.type != "cuda")


def _spread(trainer: Any) -> bool:
    """Whether weights are spread over processes, by FSDP or DeepSpeed."""
    return bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)


def _about(trainer: Any, settings: Sft | Dpo | Grpo, lora: Lora, tokens: int | None) -> Row:
    """What a training is, for the report: how much learns from how much, by which optimisers, against what advice."""
    parameters = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    default = type(settings)().learning_rate * (1.0 if lora.rank else FULL_RATE)
    said = []
    if lora.rank and tokens and parameters < tokens:
        said.append(
            f"the adapter has {parameters:,} weights, fewer than the {tokens:,} tokens it is to learn: an adapter too "
            "small for its data learns worse than all weights would (Schulman et al. 2025, LoRA Without Regret). "
            "Give a higher --lora-rank"
        )
    if not default / FAR <= settings.learning_rate <= default * FAR:
        said.append(
            f"the learning rate is {settings.learning_rate:g}; for {'an adapter' if lora.rank else 'all weights'} the "
            f"default is {default:g}, and what suits one suits the other at about a tenth (Schulman et al. 2025, LoRA "
            "Without Regret)"
        )
    return {
        "parameters": parameters, "tokens": tokens, "learning_rate": settings.learning_rate,
        "tensors": tensors(trainer.model, settings.optimizer), "warnings": said,
    }  # fmt: skip


def _keep(last: Path, kept: Path) -> None:
    """Copy the adapter or model out of the last checkpoint, which the trainer writes at its last step, however spread
    it was."""
    fresh = kept.with_name(f"{kept.name}.tmp")
    remove_partial(fresh)
    if kept.name == ADAPTER:
        fresh.mkdir()
        for name in OF_ADAPTER:
            shutil.copyfile(last / name, fresh / name)
    else:
        shutil.copytree(last, fresh, ignore=shutil.ignore_patterns(*STATE))
    remove_partial(kept)
    fresh.rename(kept)
    for checkpoint in last.parent.glob("checkpoint-*"):  # the trainer's state has done its work; adapters stay
        for pattern in ("optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state*.pth"):
            for path in checkpoint.glob(pattern):
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
