"""What a run was asked for, and whether it can be done."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from charactery.constitution import Character
from charactery.data.pairs import read_pairs
from charactery.data.passages import ABOUT, AUTHOR, OTHERS
from charactery.data.prompts import Sizes
from charactery.data.writings import Writing, exclusions_beside, kept, read_writings
from charactery.errors import BadData, CharacteryError
from charactery.judges.rating import LIKELIHOOD
from charactery.models.local import derive_seed, pick_device
from charactery.models.subject import BEST_OF, parse_subject
from charactery.pipeline.recipe import AUTHORSHIP, TRAINS, Recipe
from charactery.runs import read_manifest, stage_kind
from charactery.train.optimizers import check_optimizer
from charactery.train.settings import FIELDS, MORE_FIELDS, ORDERS, share

LEAST_PAIRS = 4


@dataclass(frozen=True)
class Order:
    """What `train` was asked for."""

    character: Character
    out: Path
    model: str = "smollm2"
    teacher: str | None = None
    prompts: Path | None = None
    pairs: Path | None = None
    seed: int = 0
    sham: bool = False
    recipe: Recipe = field(default_factory=Recipe)
    device: str = "auto"
    report_to: str = "none"
    writings: Path | None = None
    others: Path | None = None
    about: Path | None = None
    reuse: tuple[Path, ...] = ()  # runs whose stages and answers are taken where they would be the same
    command: tuple[str, ...] = ()

    def seed_of(self, stage: str) -> int:
        """The seed of a stage: the run's, or in rounds one of its own, so that no round draws what another drew."""
        return self.seed if stage == stage_kind(stage) else derive_seed(self.seed, stage) % 2**32  # as numpy takes it

    @property
    def draws(self) -> int:
        """Drafts to each prompt: one where the user's own pairs are what is learnt from."""
        return 1 if self.pairs else self.recipe.draws

    @property
    def sizes(self) -> Sizes:
        """How many prompts of each kind: no tasks where the user's own pairs are what is learnt from."""
        return replace(self.recipe.sizes, tasks=0) if self.pairs else self.recipe.sizes

    @property
    def reads_writings(self) -> bool:
        """Whether the recipe learns from a person's texts."""
        return any(stage_kind(name) == "writings" for name in self.recipe.own_stages)

    @property
    def reads_about(self) -> bool:
        """Whether it learns from texts about the person, too."""
        return bool(self.about or self.character.about) and self.recipe.writings.about > 0

    def texts(self) -> dict[str, list[Writing]]:
        """The author's texts, the others' and, if any are named, those about the author, less those that their lists
        leave out. Raises BadData where named ones are not there."""
        named = {
            AUTHOR: (self.writings, self.character.writings, "writings"),
            OTHERS: (self.others, self.character.others, "others"),
        }
        if self.reads_about:
            named[ABOUT] = (self.about, self.character.about, "about")
        found = {}
        for side, (given, in_file, name) in named.items():
            path = given or self._named(in_file, name)
            if not path.exists():
                raise BadData(
                    f"there is nothing here, and {self.character.name} is to be learnt from it. Charactery brings no "
                    f"texts: docs/person.md says where they are to be had and in what form. Put them there, or give "
                    f"--{name} PATH",
                    path,
                )
            found[side] = kept(read_writings(path), exclusions_beside(path))
        return found

    def _named(self, in_file: str | None, name: str) -> Path:
        """Where the character's file says that texts lie: from the folder one is in, or else from the file's."""
        if in_file is None:
            whose = "what the person wrote" if name == "writings" else "what others of that time wrote"
            raise BadData(
                f"the recipe {self.recipe.name} needs {whose}: name it with `{name}:` in the character's settings, or "
                f"give --{name} PATH. See docs/person.md",
                self.character.path,
            )
        beside = self.character.path.parent / in_file if self.character.path else Path(in_file)
        return beside if not Path(in_file).exists() and beside.exists() else Path(in_file)

    def check(self) -> None:
        """Raises CharacteryError for what would only come to light hours later: a training step with nothing to do, a
        logger or device that is not here."""
        self._check_numbers()
        self.recipe.check()
        for run in self.reuse:
            read_manifest(run)
        self._check_stages()
        if not (self.reads_writings or any(True for _ in self.character.traits())):
            raise CharacteryError(
                "has no traits (### headings under ## sections); there is nothing to ask about", self.character.path
            )
        if self.reads_writings:
            self.texts()
        elif self.writings or self.others or self.about:
            raise CharacteryError(
                f"--writings, --others and --about are for recipes that learn from texts, and {self.recipe.name} has "
                "no stage `writings`; --recipe person has"
            )
        if self.recipe.judge not in (LIKELIHOOD, AUTHORSHIP):
            parse_subject(self.recipe.judge)
        self._check_training()
        check_loggers(self.report_to)
        pick_device(self.device)

    def _check_numbers(self) -> None:
        """Those that a recipe leaves to be checked here."""
        recipe = self.recipe
        for name, value in (
            ("--sft-rate", recipe.sft.learning_rate), ("--sft-epochs", recipe.sft.epochs),
            ("--dpo-rate", recipe.dpo.learning_rate), ("--dpo-epochs", recipe.dpo.epochs),
            ("--dpo-beta", recipe.dpo.beta), ("--grpo-rate", recipe.grpo.learning_rate),
            ("--grpo-beta", recipe.grpo.beta),
            ("[authors] `learning_rate`", recipe.authors.learning_rate),
            ("[authors] `epochs`", recipe.authors.epochs),
        ):  # fmt: skip
            if not 0 < value < math.inf:
                raise CharacteryError(f"{name} is {value:g}; give a number above 0")
        pairs_of_sham = self.sham and "dpo" in map(stage_kind, recipe.own_stages)
        if pairs_of_sham and recipe.draft_temperature == 0:
            raise CharacteryError("--sham compares two plain drafts, and at --draft-temperature 0 they are the same")
        if self.pairs and len(read_pairs(self.pairs)) < LEAST_PAIRS:
            raise BadData(f"has fewer than {LEAST_PAIRS} pairs; that is too little to train on", self.pairs)

    def _check_stages(self) -> None:
        """What each is to work with."""
        recipe = self.recipe
        own = {stage_kind(name) for name in recipe.own_stages}
        given = self.pairs or recipe.contrast or recipe.sizes.tasks if "pairs" in own else False
        played = recipe.self_play if "self-play" in own else 0
        if "dpo" in own and not (given or played or own & {"samples", "revisions"}):
            raise CharacteryError("DPO would have no pairs; give one of --self-play, --tasks, --contrast and --pairs")
        if self.sham and BEST_OF in own:
            raise CharacteryError(f"--sham is a training on nothing, and {BEST_OF} does not train")
        learns = [n for name in recipe.before("", ("sft",)) for n in recipe.learnt(name)]
        learns += [n for name in recipe.before("", ("dpo",)) for n in recipe.compared(name)]
        if self.pairs and "pairs" not in learns:
            raise CharacteryError(f"--pairs was given, and nothing in the recipe {recipe.name} learns from them")
        if (of := own & {"cases", "revisions"}) and not any(True for _ in self.character.traits()):
            raise CharacteryError(f"has no traits, and `{min(of)}` are about traits", self.character.path)
        for left_out in (recipe.documents.without, recipe.cases.without):
            self.character.without(left_out)

    def _check_training(self) -> None:
        """How it learns, and whether the processes there are can share a step."""
        recipe = self.recipe
        own = {stage_kind(name) for name in recipe.own_stages}
        settings = {trainer: getattr(recipe, trainer) for trainer in TRAINS if trainer in own}
        if "author" in own:
            settings["authors"] = recipe.authors
        for trainer, told in settings.items():
            check_optimizer(told.optimizer)
            if trainer == "grpo":
                share(told.prompts)
                continue
            share(told.batch)
            fields = _fields(recipe, trainer)
            if told.order not in (*ORDERS, *(f"by:{name}" for name in fields)):
                raise CharacteryError(
                    f"{'[authors] `order`' if trainer == 'authors' else '--order'} is {told.order!r}; give one of "
                    f"{', '.join(ORDERS)}, or by:FIELD. What {trainer} learns from has the fields {', '.join(fields)}"
                )
        if "grpo" in own and not recipe.lora.rank:
            raise CharacteryError("grpo trains an adapter: give --lora-rank a number")


def _fields(recipe: Recipe, trainer: str) -> tuple[str, ...]:
    """What the rows have that every stage of this trainer learns from, or some of them in each."""
    if trainer == "authors":
        return (*FIELDS["sft"], *MORE_FIELDS["sft"]["writings"])
    made, more = recipe.compared if trainer == "dpo" else recipe.learnt, MORE_FIELDS[trainer]
    of_stages = [
        {field for source in made(name) for field in more.get(stage_kind(source), ())}
        for name in recipe.before("", (trainer,))
    ]
    return (*FIELDS[trainer], *sorted(set.intersection(*of_stages) if of_stages else ()))


def check_loggers(report_to: str) -> None:
    """Raises CharacteryError for a logger that TRL would not find, before anything is run."""
    from transformers.integrations import get_available_reporting_integrations

    here = get_available_reporting_integrations()
    if report_to not in ("none", "all", *here):
        there = f"; installed are: {', '.join(here)}" if here else ", and no other is"
        raise CharacteryError(f"the logger {report_to!r} (--report-to) is not installed{there}")
