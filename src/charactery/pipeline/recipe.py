"""A recipe: everything that decides what a run is, in plain numbers."""

from dataclasses import asdict, dataclass, field

from charactery.data.prompts import Sizes
from charactery.runs import Row
from charactery.train.settings import Dpo, Lora, Sft


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn, in drafts and evals alike."""

    max_tokens: int = 96
    temperature: float = 0.7


@dataclass(frozen=True)
class Recipe:
    """Distil the character: SFT on its answers, then DPO on pairs with and without it, and on the model's own loops."""

    sizes: Sizes = field(default_factory=Sizes)
    sampler: Sampling = field(default_factory=Sampling)
    lora: Lora = field(default_factory=Lora)
    sft: Sft = field(default_factory=Sft)
    dpo: Dpo = field(default_factory=Dpo)
    match_lengths: bool = False
    barred: int = 4  # tokens in a row that may not come twice in a draft
    contrast: int = 60  # pairs of character against plain; more give more character, and damage
    loop_draws: int = 1  # answers to each training prompt in which loops are looked for
    batch: int = 64  # answers generated together; part of the recipe, since texts depend on it

    def row(self) -> Row:
        """As the manifest holds it."""
        return asdict(self)


def stages(sham: bool) -> list[str]:
    """The stages of a run, in order."""
    return [
        "prompts",
        "drafts",
        "pairs",
        "sft",
        "loops",
        "dpo",
        *(["sham-sft", "sham-dpo"] if sham else []),
        "evaluate",
        "report",
    ]
