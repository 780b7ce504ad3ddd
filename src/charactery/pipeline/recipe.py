"""A recipe: everything that decides what a run is, in plain numbers."""

from dataclasses import asdict, dataclass, field

from charactery.data.prompts import Sizes
from charactery.runs import Row
from charactery.train.settings import Dpo, Lora, Sft


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn in the evals."""

    max_tokens: int = 96
    temperature: float = 0.7


@dataclass(frozen=True)
class Recipe:
    """Distil the character: SFT on its answers, then DPO on pairs with and without it, and on self-play."""

    sizes: Sizes = field(default_factory=Sizes)
    sampler: Sampling = field(default_factory=Sampling)
    lora: Lora = field(default_factory=Lora)
    sft: Sft = field(default_factory=Sft)
    dpo: Dpo = field(default_factory=Dpo)
    match_lengths: bool = False
    # Drafts are drawn from the model's distribution as it is. What is learnt at 0.7 and drawn at 0.7 is sharpened
    # twice, and that, we suspect, is why a small model then repeats itself.
    draft_temperature: float = 1.0
    draws: int = 3  # drafts of the character to each prompt, of which the one most in character is learnt from
    told: int = 48  # tokens of an earlier turn's answer in a training conversation: read each time, and never learnt
    contrast: int = 16  # drafted pairs of character against plain; more of them give loops and damage
    self_play: int = 100  # pairs of what was learnt from against the fine-tuned model's own answer, at most
    self_play_temperature: float = 0.3  # cold, so that the loops it falls into are among what is rejected
    batch: int = 128  # answers generated together; part of the recipe, since texts depend on it

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
        "self-play",
        "dpo",
        *(["sham-sft", "sham-dpo"] if sham else []),
        "evaluate",
        "report",
    ]
