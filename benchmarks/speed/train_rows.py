"""Training beside TRL's own trainers, on the same rows with the same adapter."""

import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from benchmarks.speed import texts
from benchmarks.speed.ceiling import synchronize
from benchmarks.speed.measure import Pass, Row
from benchmarks.speed.score_rows import body, head, loaded
from transformers import AutoModelForCausalLM

from charactery.models.chat import assistant, prompt_tokens, user
from charactery.models.local import LocalModel
from charactery.runs import read_rows
from charactery.train.settings import Dpo, Lora, Sft
from charactery.train.trainers import SAVES, Work, plan, train_dpo, train_sft

ANSWER, SEED = 80, 0  # tokens; of the order and of the adapter's first weights
NEAR = 0.05  # of the mean loss, within which two trainings in bfloat16 on other rows count as the same


def examples(model: LocalModel, count: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows for SFT and pairs for DPO: neutral prompts, and stretches of prose of 80 tokens as their answers."""
    prompts = texts.prompts(count)
    said = [model.tokenizer.decode(ids) for ids in texts.answers(model.tokenizer, 2 * len(prompts), ANSWER)]
    sft = [{"id": str(n), "prompt": [user(p)], "completion": [assistant(said[n])]} for n, p in enumerate(prompts)]
    pairs = [
        {"id": str(n), "prompt": [user(p)], "chosen": [assistant(said[n])], "rejected": [assistant(said[-1 - n])]}
        for n, p in enumerate(prompts)
    ]
    return sft, pairs


def own_folder(work: Callable[[Path], list[float]], rows: int, device: str = "cpu") -> Pass:
    """A pass over so many rows that writes into a folder of its own; its output is the losses.

    On a card, where loading weights takes as long, the work alone counts.
    """
    with TemporaryDirectory() as folder:
        synchronize(device)
        began = time.perf_counter()
        said = work(Path(folder))
        synchronize(device)
        return Pass(said, rows, None if device == "cpu" else time.perf_counter() - began)


def fresh_model(model: LocalModel, weights: Path) -> LocalModel:
    """The model as it was loaded, to be used up."""
    if model.device == "cpu":
        return LocalModel.load(weights, model.name, "cpu", model.model.dtype)
    return LocalModel(copy.deepcopy(model.model), model.tokenizer, model.name, model.device)


def learnt(train: Callable[[LocalModel, Work], object], model: LocalModel, weights: Path, rows: int) -> Pass:
    """A pass of ours from fresh weights."""
    fresh = fresh_model(model, weights)

    def work(folder: Path) -> list[float]:
        train(fresh, Work(folder, SEED))
        return losses(folder)

    return own_folder(work, rows, model.device)


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_rows(folder / "log.jsonl")]


def beside(within: float) -> Callable[[list[float], list[float]], tuple[str, bool]]:
    """The first and last losses, and how far apart a step's are: of the same rows, from the same weights.

    They are alike within this share of a step's loss, where ours fell by half as much as theirs or more; packed into
    other steps, where their means are within NEAR.
    """

    def compare(ours: list[float], theirs: list[float]) -> tuple[str, bool]:
        said = f"losses from {ours[0]:.3f} to {ours[-1]:.3f} in {len(ours)} steps; theirs {theirs[0]:.3f} to "
        said += f"{theirs[-1]:.3f}"
        if len(ours) != len(theirs):  # packed
            mean, other = sum(ours) / len(ours), sum(theirs) / len(theirs)
            return f"{said} in {len(theirs)} of other rows", abs(mean - other) <= NEAR * other
        apart = max(abs(a - b) / b for a, b in zip(ours, theirs, strict=True))
        fell = ours[0] - ours[-1] >= 0.5 * (theirs[0] - theirs[-1])  # early losses are close to each other in any case
        return f"{said}; those of a step, of the same rows, differ by {apart:.1%} at most", apart <= within and fell

    return compare


def sft_row(model: LocalModel, weights: Path, count: int, sizes: Sequence[int] = ()) -> Row:
    """On a card the peer is swept over these rows at once alone."""
    rows, _ = examples(model, count)
    settings = Sft(epochs=1.0)
    planned = plan(rows, model.tokenizer, "completion", settings, SEED)

    def ours() -> Pass:
        return learnt(lambda fresh, work: train_sft(fresh, rows, Lora(), settings, work), model, weights, len(rows))

    def peer(packing: bool, size: int, dtype: torch.dtype = torch.bfloat16, **others: Any) -> Pass:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        data = Dataset.from_list([{k: r[k] for k in ("prompt", "completion")} for r in planned])

        base = network(model, weights, dtype)

        def work(folder: Path) -> list[float]:
            config = SFTConfig(
                **stock(folder, settings, size, len(rows), model.device) | others, max_length=512, packing=packing,
                completion_only_loss=True,
            )  # fmt: skip
            torch.manual_seed(SEED)  # the adapter's first weights
            return run(SFTTrainer(base, config, train_dataset=data, processing_class=model.tokenizer,
                                  peft_config=lora()))  # fmt: skip

        return own_folder(work, len(rows), model.device)

    tokens = sum(len(prompt_tokens(model.tokenizer, r["prompt"])) for r in rows) + len(rows) * ANSWER
    return Row(
        name="SFT",
        tokens=tokens / len(rows),
        device=model.device,
        work=f"{count} answers of {ANSWER} tokens, one epoch, LoRA r16 on all linear layers",
        peer="TRL SFTTrainer",
        unit="answers",
        target=1.5,
        ours=ours,
        peers=swept(lambda size, **others: peer(False, size, **others), "rows", sizes)
        or {
            **swept(lambda size, **others: peer(False, size, **others), "rows", (2, 4, 8)),
            "bfloat16, packed": lambda: peer(True, 1),
            "bfloat16, packed, 2 rows at once": lambda: peer(True, 2),
            "float32, 8 rows at once": lambda: peer(False, 8, torch.float32, bf16=False),
        },
        compare=beside(0.02),  # 0.003 is what rounding made of fifty steps
        operations=lambda done: 4 * body(model) * tokens + 4 * head(model) * len(rows) * ANSWER,
        arithmetic=f"4 × {body(model):.3g} parameters (forwards, and back to the activations) × {tokens:,} tokens, the "
        f"vocabulary for {len(rows) * ANSWER:,}",
    )


def dpo_row(model: LocalModel, weights: Path, count: int, sizes: Sequence[int] = ()) -> Row:
    """On a card the peer is swept over these pairs at once alone."""
    rows, pairs = examples(model, count)
    settings = Dpo(learning_rate=1e-4)
    planned = plan(pairs, model.tokenizer, "chosen", settings, SEED)
    made = TemporaryDirectory()  # goes when nobody asks `start` any more
    fresh = fresh_model(model, weights)
    train_sft(fresh, rows[:8], Lora(), Sft(epochs=1.0), Work(Path(made.name), SEED))

    def start() -> Path:
        return Path(made.name) / "adapter"

    def ours() -> Pass:
        return learnt(lambda fresh, work: train_dpo(fresh, pairs, start(), settings, work), model, weights, len(pairs))

    def peer(size: int, dtype: torch.dtype = torch.bfloat16, **others: Any) -> Pass:
        from datasets import Dataset
        from peft import PeftModel
        from trl import DPOConfig, DPOTrainer

        data = Dataset.from_list([{k: p[k] for k in ("prompt", "chosen", "rejected")} for p in planned])

        base = network(model, weights, dtype)

        def work(folder: Path) -> list[float]:
            told = stock(folder, settings, size, len(pairs), model.device) | others
            config = DPOConfig(**told, max_length=512, beta=settings.beta)
            adapted = PeftModel.from_pretrained(base, start(), is_trainable=True)
            return run(DPOTrainer(adapted, args=config, train_dataset=data, processing_class=model.tokenizer))

        return own_folder(work, len(pairs), model.device)

    prompt = sum(len(prompt_tokens(model.tokenizer, p["prompt"])) for p in pairs)
    tokens = prompt + 2 * len(pairs) * ANSWER
    return Row(
        name="DPO",
        tokens=(2 * prompt + 2 * len(pairs) * ANSWER) / len(pairs),
        device=model.device,
        work=f"{count} pairs of answers of {ANSWER} tokens, one epoch, LoRA r16 on all linear layers, with reference",
        peer="TRL DPOTrainer",
        unit="pairs",
        target=2.0,
        ours=ours,
        peers=swept(peer, "pairs", sizes)
        or {
            "bfloat16, 2 pairs at once": lambda: peer(2),
            "bfloat16, 4 pairs at once": lambda: peer(4),
            "bfloat16, 8 pairs at once": lambda: peer(8),
            "bfloat16 without autocast, 1 pair at once": lambda: peer(1, bf16=False),
            "bfloat16 without autocast, 2 pairs at once": lambda: peer(2, bf16=False),
            "bfloat16 without autocast, 4 pairs at once": lambda: peer(4, bf16=False),
            "float32, 2 pairs at once": lambda: peer(2, torch.float32, bf16=False),
        },
        compare=beside(0.2),  # 0.12, of losses that end near 0.04
        operations=lambda done: 6 * body(model) * tokens + 6 * head(model) * 2 * len(pairs) * ANSWER,
        arithmetic=f"6 × {body(model):.3g} parameters (reference, forwards, and back to the activations) × {tokens:,} "
        f"tokens, a prompt once for its pair, the vocabulary for {2 * len(pairs) * ANSWER:,}",
    )


def swept(peer: Callable[..., Pass], rows: str, sizes: Sequence[int]) -> dict[str, Callable[[], Pass]]:
    """A peer by how many rows are in memory at once, with autocast and without, which was the faster on an H100."""
    return {
        f"bfloat16{said}, {size} {rows} at once": lambda s=size, o=others: peer(s, **o)  # type: ignore[misc]
        for size in sizes for said, others in (("", {}), (" without autocast", {"bf16": False}))
    }  # fmt: skip


def network(model: LocalModel, weights: Path, dtype: torch.dtype) -> Any:
    if model.device == "cpu":
        return AutoModelForCausalLM.from_pretrained(weights, dtype=dtype)
    return copy.deepcopy(loaded(weights, str(dtype).removeprefix("torch."), model.device))


def lora() -> Any:
    from peft import LoraConfig

    ours = Lora()
    return LoraConfig(r=ours.rank, lora_alpha=ours.alpha, target_modules=ours.targets, task_type="CAUSAL_LM")


def stock(folder: Path, settings: Sft | Dpo, size: int, rows: int, device: str = "cpu") -> dict[str, Any]:
    """TRL's settings for the same steps, gradient checkpointing off. Rows come as ours plans them, of like length.

    As many checkpoints are written as ours writes.
    """
    return {
        "output_dir": str(folder), "num_train_epochs": 1, "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": size, "gradient_accumulation_steps": settings.batch // size,
        "lr_scheduler_type": "cosine", "warmup_steps": round(settings.warmup * (rows // settings.batch)),
        "train_sampling_strategy": "sequential", "logging_steps": 1, "report_to": "none",
        "disable_tqdm": True, "gradient_checkpointing": False, "activation_checkpointing": False, "bf16": True,
        "use_cpu": device == "cpu", "dataloader_pin_memory": False,
        "save_strategy": "steps", "save_steps": max(1, -(-(rows // settings.batch) // SAVES)),
    }  # fmt: skip


def run(trainer: Any) -> list[float]:
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
