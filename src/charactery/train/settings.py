"""What a training stage is told. Plain numbers, no torch, so that a dry run and a manifest can hold them."""

from dataclasses import dataclass

from charactery.errors import CharacteryError
from charactery.runs import process_count

LARGE = 1e9  # parameters above which a quarter as many rows are in memory at once
# On a graphics card it hangs on the card's bytes: so many of them a parameter for all rows, and for twice as many.
CARD, ROOMY_CARD = 16, 40

# In what order rows are learnt from, each epoch: batches of like length, in an order drawn anew (the fastest); rows
# drawn anew; as they are given; the other way about; or sorted by a field of theirs, `by:FIELD`.
ORDERS = ("grouped", "shuffled", "given", "reversed")
FIELDS = {  # that rows have which a run makes
    "sft": ("id", "kind", "seed", "subject"),
    "dpo": ("id", "kind", "chosen_seed", "chosen_subject", "rejected_seed", "rejected_subject"),
}
MORE_FIELDS: dict[str, dict[str, tuple[str, ...]]] = {  # that those have which these stages made
    "sft": {"writings": ("year",), "documents": ("form",), "cases": ("clause", "skeleton")},
    "dpo": {"samples": ("chosen_rating", "rejected_rating")},
}  # fmt: skip


OPTIMIZERS = ("adamw", "muon", "soap", "shampoo")
LOSSES = ("dpo", "ipo", "kto", "orpo")  # of pairs, as TRL has them

# A rate that suits an adapter is ten times the one that suits all weights, at any rank, where alpha stays the same:
# Schulman et al. 2025, "LoRA Without Regret", https://thinkingmachines.ai/blog/lora/
FULL_RATE = 0.1
FAR = 10  # times the default rate, either way, that a warning is given at


@dataclass(frozen=True)
class Lora:
    """The adapter: rank, scale (alpha over rank multiplies the update) and which layers. Rank 0 trains all weights."""

    rank: int = 16
    alpha: int = 32
    targets: str = "all-linear"


@dataclass(frozen=True)
class Sft:
    """Supervised fine-tuning on the character's answers."""

    learning_rate: float = 5e-4
    epochs: float = 3.5
    batch: int = 8
    together: int = 8  # rows of a batch in memory at once; the rest follow, and their gradients are added
    warmup: float = 0.1
    order: str = "grouped"  # see `ORDERS`
    optimizer: str = "adamw"  # see `OPTIMIZERS`
    mask_reasoning: bool = False  # whether what stands between <think> marks is not learnt from
    stop_at_loss: float = 0.0  # nats a token on rows that nothing learns from, where training stops; 0: at its end


@dataclass(frozen=True)
class Dpo:
    """Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290)."""

    learning_rate: float = 3e-4
    epochs: float = 1.0
    batch: int = 8
    together: int = 4  # pairs in memory at once
    beta: float = 0.1
    warmup: float = 0.1
    order: str = "grouped"
    optimizer: str = "adamw"
    mask_reasoning: bool = False
    loss: str = "dpo"  # see `LOSSES`
    nll: float = 0.0  # weight of the chosen answers' nats a token
    kl: float = 0.0  # weight of the divergence from the reference on the pairs' tokens


@dataclass(frozen=True)
class Grpo:
    """Group relative policy optimisation (Shao et al. 2024, arXiv 2402.03300), online: answers drawn as it learns.

    At temperature 1, so that what is drawn is the model's own distribution.
    """

    learning_rate: float = 5e-4
    steps: int = 12
    prompts: int = 4  # in a step
    each: int = 8  # answers to each of them, rated against each other
    together: int = 8  # answers in memory at once
    max_tokens: int = 48
    beta: float = 0.02  # weight of the KL
    warmup: float = 0.1
    optimizer: str = "adamw"
    mask_reasoning: bool = False


def share(batch: int) -> int:
    """How many rows (or pairs) of a batch each process has. Raises CharacteryError where they do not divide."""
    processes = process_count()
    if batch % processes:
        fits = ", ".join(str(n) for n in range(1, batch + 1) if batch % n == 0)
        raise CharacteryError(
            f"a training step of {batch} rows cannot be shared by {processes} processes; start one of {fits} processes"
        )
    return batch // processes


def at_once(settings: Sft | Dpo | Grpo, batch: int, parameters: float, card: float = 0.0) -> int:
    """How many rows (or pairs) of a process's `batch` are in memory at once: a divisor, smaller for a large model.

    `card` is the memory of a graphics card, in bytes.
    """
    most = settings.together if parameters <= max(LARGE, card / CARD) else settings.together // 4
    if parameters <= card / ROOMY_CARD:
        most *= 2
    sets_side_by_side = isinstance(settings, Dpo) and settings.loss == "kto"
    least = 2 if sets_side_by_side and batch % 2 == 0 else 1
    return next(n for n in range(max(least, min(most, batch)), 0, -1) if batch % n == 0)
