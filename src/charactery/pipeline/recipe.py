"""A recipe: everything that decides what a run is, in plain numbers. Those that ship are `recipes/*.toml`.

A recipe's file holds what differs from the defaults below. Every run begins with `prompts` and `drafts`, and ends with
`evaluate` and `report`; between them come the recipe's own stages, some of them in rounds.
"""

import json
import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from charactery.data.prompts import Sizes
from charactery.errors import BadData, CharacteryError
from charactery.models.subject import BEST_OF, MOST_OF
from charactery.runs import Row, read_utf8
from charactery.runs import stage_kind as kind
from charactery.train.settings import FULL_RATE, LOSSES, OPTIMIZERS, Dpo, Grpo, Lora, Sft

HERE = Path(__file__).parent.parent / "recipes"
DEFAULT = "distill+dpo"
PERSON = "person"  # the default for a character with writings
# What a stage cannot do without: one of these before it.
NEEDS: dict[str, tuple[str, ...]] = {
    "pairs": (),
    "revisions": ("pairs",),
    "reflections": (),
    "documents": (),
    "cases": (),
    "writings": (),
    "author": ("writings",),
    "others": ("author",),
    "authorship": ("others",),
    "sft": ("pairs", "reflections", "documents", "cases", "writings", "samples"),
    "self-play": ("sft",),
    "samples": (),
    "dpo": ("pairs", "self-play", "samples", "revisions"),
    "grpo": (),
    BEST_OF: (),
}
TRAINS = ("sft", "dpo", "grpo")
MAKES = (*TRAINS, BEST_OF)  # what a run can end in: an adapter, or a way to answer without one
JUDGED = ("samples", "revisions", "grpo", BEST_OF)
ONCE = ("writings", "author", "others", "authorship")
AUTHORSHIP = "authorship"  # a judge, and the stage that says how far it can be trusted
# Options that only some stages look at, with the place in a recipe's file: one stage of each group must be there.
USED_BY: dict[str, tuple[str, tuple[tuple[str, ...], ...]]] = {
    "--judge": ("judge", (JUDGED,)),
    "--lora-rank": ("lora.rank", (TRAINS,)),
    "--optimizer": ("sft.optimizer", (TRAINS,)),  # given to all trainers at once, as is the order
    "--order": ("sft.order", (("sft", "dpo"),)),
    "--sft-rate": ("sft.learning_rate", (("sft",),)),
    "--sft-epochs": ("sft.epochs", (("sft",),)),
    "--stop-at-loss": ("sft.stop_at_loss", (("sft",),)),
    "--dpo-rate": ("dpo.learning_rate", (("dpo",),)),
    "--dpo-epochs": ("dpo.epochs", (("dpo",),)),
    "--dpo-beta": ("dpo.beta", (("dpo",),)),
    "--loss": ("dpo.loss", (("dpo",),)),
    "--nll": ("dpo.nll", (("dpo",),)),
    "--kl": ("dpo.kl", (("dpo",),)),
    "--match-lengths": ("match_lengths", (("pairs", "dpo"),)),
    "--contrast": ("contrast", (("pairs",), ("dpo",))),
    "--self-play": ("self_play", (("self-play",),)),
    "--self-play-temperature": ("self_play_temperature", (("self-play",),)),
    "--grpo-rate": ("grpo.learning_rate", (("grpo",),)),
    "--grpo-steps": ("grpo.steps", (("grpo",),)),
    "--grpo-beta": ("grpo.beta", (("grpo",),)),
    "--best-of": ("best_of.n", ((BEST_OF,),)),
}
MAKES_PAIRS = ("self-play", "samples", "revisions")  # for the next `dpo` alone; those of `pairs` are for all of them
STATES = ("documents", "cases")  # what was made of these since the last `sft` is learnt together
MOST_ROUNDS = 20
# The least that each number may be; rates and epochs, which must be above 0, are the order's to check.
LEAST = {
    "documents.count": 4, "documents.tokens": 32, "documents.verbatim": 0, "documents.temperature": 0,
    "cases.count": 4, "cases.tokens": 32, "cases.temperature": 0,
    "sizes.train": 24, "sizes.held_out": 8, "sizes.held_out_conversations": 2, "sizes.elsewhere": 0, "sizes.tasks": 0,
    "sampler.max_tokens": 4, "sampler.temperature": 0, "lora.rank": 0, "lora.alpha": 1, "sft.batch": 1,
    "sft.together": 1, "sft.warmup": 0, "sft.stop_at_loss": 0, "dpo.nll": 0, "dpo.kl": 0,
    "dpo.batch": 1, "dpo.together": 1, "dpo.warmup": 0, "samples.prompts": 1,
    "samples.each": 2, "samples.temperature": 0, "reflections.each": 0, "reflections.conversations": 0,
    "reflections.turns": 1, "reflections.tokens": 0, "reflections.temperature": 0,
    "writings.passages": 8, "writings.judged": 8, "writings.words": 20,
    "writings.about": 0, "writings.held_out": 0.01, "writings.tested": 8, "writings.shown": 0, "authors.batch": 1,
    "authors.together": 1, "authors.warmup": 0, "draft_temperature": 0, "draws": 1, "told": 1, "contrast": 0,
    "self_play": 0, "self_play_temperature": 0, "batch": 1, "rounds": 1, "grpo.steps": 1, "grpo.prompts": 1,
    "grpo.each": 2, "grpo.together": 1, "grpo.max_tokens": 4, "grpo.warmup": 0, "best_of.n": 1, "best_of.most": 1,
    "best_of.temperature": 0.1,
}  # fmt: skip


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn in the evals."""

    max_tokens: int = 96
    temperature: float = 0.7


@dataclass(frozen=True)
class Documents:
    """Documents about the character: how many, how long at most, and how much of its constitution's own text.

    `verbatim` is rows of that text to each document; `without` names traits that no document is to state.
    """

    count: int = 128
    tokens: int = 224
    verbatim: float = 0.33
    temperature: float = 0.7  # warmer, a small model loses the thread over so long a text
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cases:
    """Discussions of marginal cases: how many, and how long at most; `without` names traits that none is about."""

    count: int = 120
    tokens: int = 160
    temperature: float = 0.7
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Samples:
    """The model's own answers that a judge compares: to how many prompts, how many to each, how warm.

    `least` is the rating below which SFT learns none of them.
    """

    prompts: int = 64
    each: int = 4
    temperature: float = 1.0
    least: float = 0.0


@dataclass(frozen=True)
class Reflections:
    """What the model says of itself: answers to each question, conversations with itself and their turns.

    `tokens` is how many of them are learnt, at most; 0 is all. `plain` is for comparison: as many prompts that are not
    about the model, answered by the plain one. With `text` what was said is learnt as text, without what was asked and
    without the chat format, in which it would teach the plain assistant back as well.
    """

    each: int = 6
    conversations: int = 32
    turns: int = 4
    tokens: int = 0
    temperature: float = 1.0
    plain: bool = False
    text: bool = False


@dataclass(frozen=True)
class BestOf:
    """Of how many answers the best is given, and the answers to each held-out prompt that a curve by n is made from."""

    n: int = 4
    most: int = 16
    temperature: float = 1.0  # of that curve; elsewhere whoever asks says how warm

    @property
    def sizes(self) -> tuple[int, ...]:
        """The n of the curve: 1, 2, 4, … up to the most, and n itself."""
        return tuple(sorted({self.n, *(2**k for k in range(self.most.bit_length()))}))


@dataclass(frozen=True)
class Writings:
    """A person's passages: how many are learnt from, of how many words; what the judge of authorship is tested on.

    `judged` is how many of either side that judge learns from, whatever `passages` is, so that it is the same judge by
    which runs of fewer and more passages are compared. `held_out` is the share of documents that nothing learns from,
    `tested` their passages a side, at most, and `shown` the passages that the judge reads before an answer. Of texts
    about the person, where there are any, `about` passages are learnt to each of the person's own. Where the character
    has the trait `persona`, what it shows is learnt as answers to what it asks.
    """

    passages: int = 160
    judged: int = 160
    words: int = 90
    held_out: float = 0.25
    tested: int = 80
    shown: int = 2
    about: float = 0.25
    persona: str = "knows-it-is-a-persona"


@dataclass(frozen=True)
class Recipe:
    """What a run does, and with what. As it stands: distil the character, then set it against what it is not."""

    name: str = DEFAULT
    about: str = ""
    source: str = ""  # where the method was described
    stages: tuple[str | tuple[str, ...], ...] = ("pairs", "sft", "self-play", "dpo")  # a group is done in rounds
    rounds: int = 1
    judge: str = "likelihood"  # who compares answers: "likelihood", "authorship", or a Subject
    sizes: Sizes = field(default_factory=Sizes)
    sampler: Sampling = field(default_factory=Sampling)
    lora: Lora = field(default_factory=Lora)
    sft: Sft = field(default_factory=Sft)
    dpo: Dpo = field(default_factory=Dpo)
    grpo: Grpo = field(default_factory=Grpo)
    best_of: BestOf = field(default_factory=BestOf)
    samples: Samples = field(default_factory=Samples)
    reflections: Reflections = field(default_factory=Reflections)
    documents: Documents = field(default_factory=Documents)
    cases: Cases = field(default_factory=Cases)
    writings: Writings = field(default_factory=Writings)
    authors: Sft = field(default_factory=lambda: Sft(epochs=2.0))  # the two language models of the authorship judge
    match_lengths: bool = False
    # Drafts are drawn from the model's distribution as it is. What is learnt at 0.7 and drawn at 0.7 is sharpened
    # twice, and that, we suspect, is why a small model then repeats itself.
    draft_temperature: float = 1.0
    draws: int = 3  # drafts of the character to each prompt, of which the one most in character is learnt from
    told: int = 48  # tokens of an earlier turn's answer in a training conversation: read each time, and never learnt
    contrast: int = 16  # drafted pairs of character against plain; more of them give loops and damage
    self_play: int = 100  # pairs of what was learnt from against the fine-tuned model's own answer, at most
    self_play_temperature: float = 0.3  # cold, so that the loops it falls into are among what is rejected
    batch: int = 256  # answers generated together, or half as many; part of the recipe, since texts depend on it

    @property
    def masks_reasoning(self) -> bool:
        """Whether answers are learnt from and judged without the reasoning in them."""
        return any(settings.mask_reasoning for settings in (self.sft, self.dpo, self.grpo))

    @property
    def validates(self) -> bool:
        """Whether answers are kept apart from training, for a loss to stop SFT at."""
        return bool(self.sft.stop_at_loss) and "sft" in map(kind, self.own_stages)

    def row(self) -> Row:
        """As the manifest holds it."""
        row: Row = json.loads(json.dumps(asdict(self)))  # lists, as they are read again
        return row

    @property
    def own_stages(self) -> tuple[str, ...]:
        """The stages between drafts and evals, rounds told apart: `samples.r1`, `dpo.r1`, `samples.r2`, …"""
        out: list[str] = []
        for entry in self.stages:
            if isinstance(entry, str):
                out.append(entry)
            else:
                out += [f"{name}.r{n + 1}" for n in range(self.rounds) for name in entry]
        return tuple(out)

    @property
    def trained(self) -> str:
        """The stage that made what answers in the end: an adapter's, or the one that chooses."""
        return next(name for name in reversed(self.own_stages) if kind(name) in MAKES)

    def before(self, stage: str, kinds: Sequence[str]) -> list[str]:
        """The stages of these kinds before one, in order; before none, all."""
        names = self.own_stages
        end = names.index(stage) if stage in names else len(names)
        return [name for name in names[:end] if kind(name) in kinds]

    def start(self, stage: str) -> str | None:
        """The training stage that one goes on from; None for the base."""
        return next(reversed(self.before(stage, TRAINS)), None)

    def learnt(self, stage: str) -> list[str]:
        """Whose answers an `sft` stage learns from: what was made last before it, documents and cases together."""
        sources = ("pairs", "revisions", "reflections", "writings", "samples", *STATES)
        made = self.before(stage, sources)
        last = next(reversed(self.before(stage, ("sft",))), None)
        fresh = made[len(self.before(last, sources)) if last else 0 :]
        together = [name for name in fresh if kind(name) in STATES]
        return together if made[-1] in together else made[-1:]

    def compared(self, stage: str) -> list[str]:
        """Whose pairs a `dpo` stage learns from: those drafted, and what was made since the last one."""
        last = next(reversed(self.before(stage, ("dpo",))), None)
        fresh = self.before(stage, MAKES_PAIRS)
        old = self.before(last, MAKES_PAIRS) if last else []
        return [*self.before(stage, ("pairs",)), *fresh[len(old) :]]

    def check(self) -> None:
        """Raises CharacteryError for stages that do not make a whole, and numbers that nothing can be done with."""
        row = self.row()
        for path, least in LEAST.items():
            table, _, key = path.rpartition(".")
            value = (row[table] if table else row)[key]
            if not least <= value < math.inf:  # nan is neither
                raise CharacteryError(f"{f'[{table}] ' if table else ''}`{key}` is {value:g}; give at least {least:g}")
        if not math.isfinite(self.samples.least):
            raise CharacteryError(f"[samples] `least` is {self.samples.least:g}; give a number")
        names = self.own_stages
        for name in names:
            if kind(name) not in NEEDS:
                raise CharacteryError(f"there is no stage {kind(name)!r}; stages are {', '.join(NEEDS)}")
            wanted = NEEDS[kind(name)]
            if wanted and not self.before(name, wanted):
                raise CharacteryError(f"the stage {name!r} needs one of these before it: {', '.join(wanted)}")
        if twice := next((name for n, name in enumerate(names) if name in names[:n]), None):
            raise CharacteryError(
                f"the stage {twice!r} is there twice; put what is to be repeated in [ ], with `rounds`"
            )
        for settings in (self.sft, self.dpo, self.grpo, self.authors):
            if settings.optimizer not in OPTIMIZERS:
                raise CharacteryError(f"`optimizer` is {settings.optimizer!r}; give one of {', '.join(OPTIMIZERS)}")
        if self.authors.stop_at_loss:
            raise CharacteryError("[authors] has no `stop_at_loss`: what stops at a loss is what learns the character")
        self._check_loss()
        made = {kind(name) for name in names} & {*MAKES}
        if not made:
            raise CharacteryError(
                f"nothing is trained; stages that train are {', '.join(TRAINS)}, and {BEST_OF} does without"
            )
        if BEST_OF in made and (len(made) > 1 or self.rounds > 1):
            raise CharacteryError(f"{BEST_OF!r} chooses among the plain model's answers: nothing is trained beside it")
        if BEST_OF in made and self.judge == AUTHORSHIP:
            raise CharacteryError(
                f"{BEST_OF!r} chooses by the judge `likelihood` or a Subject, and not by {AUTHORSHIP!r}"
            )
        if max(self.best_of.sizes) > MOST_OF:
            raise CharacteryError(f"`best_of` is of up to {max(self.best_of.sizes)} answers; give at most {MOST_OF}")
        for name in names:
            if name != kind(name) and kind(name) in ONCE:
                raise CharacteryError(f"the stage {kind(name)!r} is done once, and cannot be in rounds")
            if self.judge == AUTHORSHIP and kind(name) in JUDGED and not self.before(name, (AUTHORSHIP,)):
                raise CharacteryError(f"`judge` is {AUTHORSHIP!r}, and {name!r} has no stage {AUTHORSHIP!r} before it")
        if not self.writings.held_out <= 0.5:
            raise CharacteryError(f"[writings] `held_out` is {self.writings.held_out:g}; give at most 0.5")
        if self.rounds > MOST_ROUNDS:
            raise CharacteryError(f"`rounds` is {self.rounds}; give at most {MOST_ROUNDS}")

    def _check_loss(self) -> None:
        dpo = self.dpo
        if dpo.loss not in LOSSES:
            raise CharacteryError(f"`loss` is {dpo.loss!r}; give one of {', '.join(LOSSES)}")
        if dpo.loss not in ("dpo", "ipo") and (dpo.nll or dpo.kl):
            raise CharacteryError(f"`loss` is {dpo.loss!r}, and `nll` and `kl` are weights beside dpo and ipo alone")
        if dpo.loss == "orpo" and dpo.mask_reasoning:
            raise CharacteryError("`mask_reasoning` goes with dpo, ipo and kto: TRL's orpo makes its own labels")
        if dpo.loss == "kto" and min(dpo.together, dpo.batch) < 2:
            raise CharacteryError("`loss` is kto, whose baseline needs 2 or more pairs in memory: raise `together`")


def stages(recipe: Recipe, sham: bool) -> list[str]:
    """The stages of a run, in order."""
    own = recipe.own_stages
    judge = ["judge"] if {*map(kind, own)} & {*JUDGED} and recipe.judge != AUTHORSHIP else []
    person = ["person"] if AUTHORSHIP in map(kind, own) else []
    shams = [f"sham-{name}" for name in TRAINS if name in map(kind, own)] if sham else []
    validation = ["validation"] if recipe.validates else []
    return ["prompts", "drafts", *validation, *judge, *own, *shams, "evaluate", *person, "report"]


def recipes() -> list[Recipe]:
    """Those that ship, by name."""
    return [read_recipe(path) for path in sorted(HERE.glob("*.toml"))]


def find_recipe(given: str) -> Recipe:
    """A recipe by its name or its file's path. Raises CharacteryError where there is none, or it is wrong."""
    if given.endswith(".toml") or "/" in given:
        return read_recipe(Path(given))
    path = HERE / f"{given}.toml"
    if not path.exists():
        names = ", ".join(sorted(p.stem for p in HERE.glob("*.toml")))
        raise CharacteryError(f"there is no recipe {given!r}; there are {names}, or give a .toml file's path")
    return read_recipe(path)


def read_recipe(path: Path) -> Recipe:
    """A recipe from its file. Raises BadData with the line."""
    text = read_utf8(path)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise BadData(f"is not TOML: {error}", path, int(line[1]) if line else None) from None
    recipe: Recipe = _filled(Recipe(name=path.stem, stages=()), table, path, text)
    recipe = _by_rule(recipe, Lora().rank, [t for t in TRAINS if "learning_rate" in table.get(t, {})])
    if not recipe.stages:
        raise BadData('needs `stages`, a list such as ["pairs", "sft"]', path)
    try:
        recipe.check()
    except CharacteryError as error:
        named = re.search(r"`(\w+)`", str(error))  # the setting at fault, or else the list of stages
        place = _line(text, named[1]) if named else None
        raise BadData(str(error), path, place or _line(text, "stages")) from None
    return recipe


def with_options(recipe: Recipe, given: dict[str, Any]) -> Recipe:
    """The recipe with these values in place of its own, None left out; tables as in its file.

    How long an answer may be is said to all that draw answers, online training too. Raises CharacteryError for a value
    that none of its stages would look at.
    """
    there = {*map(kind, recipe.own_stages)}
    for option, (place, groups) in USED_BY.items():
        table, _, key = place.rpartition(".")
        value = ((given.get(table) or {}) if table else given).get(key)
        missing = next((users for users in groups if not there & {*users}), None)
        if missing and value is not None and (value or option == "--lora-rank"):  # whose 0 is all weights
            said = f"{option} was given, and the recipe {recipe.name} has no stage {' or '.join(missing)}"
            raise CharacteryError(f"{said}, so nothing would look at it; leave it out, or take another recipe")
    out = {}
    for key, value in given.items():
        if isinstance(value, dict):
            out[key] = replace(getattr(recipe, key), **{k: v for k, v in value.items() if v is not None})
        elif value is not None:
            out[key] = value
    longest = (given.get("sampler") or {}).get("max_tokens")
    if longest is not None and "grpo" in there:
        out["grpo"] = replace(out.get("grpo", recipe.grpo), max_tokens=longest)
    fixed = [t for t in TRAINS if (given.get(t) or {}).get("learning_rate") is not None]
    return _by_rule(replace(recipe, **out), recipe.lora.rank, fixed)


def _by_rule(recipe: Recipe, rank: int, fixed: Sequence[str]) -> Recipe:
    """The recipe, its learning rates, which suit an adapter of this rank, made to suit its own; those `fixed` stay."""
    if bool(rank) == bool(recipe.lora.rank):
        return recipe
    factor = 1 / FULL_RATE if recipe.lora.rank else FULL_RATE
    rates = {t: getattr(recipe, t).learning_rate * factor for t in TRAINS if t not in fixed}
    return replace(recipe, **{t: replace(getattr(recipe, t), learning_rate=rate) for t, rate in rates.items()})


def _filled(value: Any, table: dict[str, Any], path: Path, text: str) -> Any:
    """A data class with a table's values in place of its own, each of the type that is there."""
    known = {f.name for f in fields(value)} - {"name"}
    out = {}
    for key, given in table.items():
        line = _line(text, key)
        if key not in known:
            raise BadData(f"knows no {key!r} here; there are {', '.join(sorted(known))}", path, line)
        old = getattr(value, key)
        if is_dataclass(old):
            if not isinstance(given, dict):
                raise BadData(f"{key!r} is a table: write [{key}] and its values below it", path, line)
            out[key] = _filled(old, given, path, text)
        elif key == "stages":
            out[key] = _stages(given, path, line)
        elif isinstance(old, tuple):
            if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
                raise BadData(f'{key!r} is a list of names, such as ["a-trait"]', path, line)
            out[key] = tuple(given)
        elif isinstance(old, float) and isinstance(given, int | float) and not isinstance(given, bool):
            out[key] = float(given)
        elif type(given) is type(old):
            out[key] = given
        else:
            raise BadData(f"{key!r} is {given!r}, and should be like {old!r}", path, line)
    return replace(value, **out)


def _stages(given: Any, path: Path, line: int | None) -> tuple[str | tuple[str, ...], ...]:
    entries = [tuple(entry) if isinstance(entry, list) else entry for entry in given] if isinstance(given, list) else []
    flat = [name for entry in entries for name in (entry if isinstance(entry, tuple) else (entry,))]
    if not flat or not all(isinstance(name, str) for name in flat):
        raise BadData('`stages` is a list of names, such as ["pairs", "sft", ["samples", "dpo"]]', path, line)
    return tuple(entries)


def _line(text: str, key: str) -> int | None:
    """Where a key stands, as near as can be said without a parser that keeps lines."""
    found = re.search(rf"^\s*(?:\[\s*)?{re.escape(key)}\b", text, re.MULTILINE)
    return text.count("\n", 0, found.start() + len(found[0]) - len(found[0].lstrip())) + 1 if found else None
