"""What stands beside a character's text as it is written: faults, dials, and what a model, judge or person reads."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from charactery.constitution import Character, Trait, document, parse_character, rubric, system_prompt
from charactery.constitution.lint import Fault, lint
from charactery.constitution.render import dial_words
from charactery.errors import BadCharacter, CharacteryError
from charactery.share.differences import Parts, differences

READERS = {"prompt": "What the model reads", "rubric": "What a judge reads", "document": "What a person reads"}
RENDERS = {"prompt": system_prompt, "rubric": rubric, "document": document}


@dataclass(frozen=True)
class DialView:
    """A dial: its ends, where it stands, and what each trait that turns with it says there."""

    name: str
    low: str
    high: str
    value: float
    says: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Look:
    """A text looked at. Where it is no character, `broken` says why; `text` is in pieces, what dials changed marked."""

    broken: BadCharacter | None = None
    name: str = ""
    faults: tuple[Fault, ...] = ()
    not_run: tuple[tuple[str, str], ...] = ()
    dials: tuple[DialView, ...] = ()
    profiles: tuple[str, ...] = ()
    text: Parts = field(default_factory=list)
    trains: bool = False  # whether there is anything to train on: traits, or a person's texts

    @property
    def turned(self) -> tuple[str, ...]:
        """The dials as `--dial` takes them."""
        return tuple(f"{dial.name}={dial.value:g}" for dial in self.dials)


def look(text: str, turned: dict[str, float], profile: str, reader: str, mix: float | None) -> Look:
    """Look at a text, its dials turned and deployed under a profile, both as far as it has them."""
    if reader not in RENDERS:
        raise CharacteryError(f"there is no reader {reader!r}; there are {', '.join(RENDERS)}")
    try:
        character = parse_character(text)
    except BadCharacter as error:
        return Look(broken=error)
    report = lint(character)
    set_to = character.deployed(profile) if profile in character.profiles else character
    set_to = set_to.turned({name: value for name, value in turned.items() if name in character.dials})
    render = RENDERS[reader]
    as_written, now = render(character, mix), render(set_to, mix)
    parts = differences([as_written, now])[1] if now != as_written else [(now, False)]
    dials = tuple(_dial(set_to, name) for name in character.dials)
    return Look(
        None, character.name, report.faults, tuple(run for run in report.not_run if run[0] != "manifest"), dials,
        tuple(character.profiles), parts, bool(character.writings or [*set_to.traits()]),
    )  # fmt: skip


def _dial(character: Character, name: str) -> DialView:
    dial = character.dials[name]
    says = tuple((trait.title, _says(character, trait)) for trait in character.traits() if trait.dial == name)
    return DialView(name, dial.low, dial.high, character.settings.get(name, dial.default), says)


def _says(character: Character, trait: Trait) -> str:
    """What a trait adds at its dial's position, and how many of its examples are for that end."""
    shown, all_ = character.items(trait, "shows"), trait.shows
    count = sum(item.end is not None and item.text in shown for item in all_)
    examples = f" {count} of its examples {'is' if count == 1 else 'are'} for this end alone." if count else ""
    return (dial_words(character, trait) or "as it is written.") + examples


def positions(names: Sequence[str], values: Sequence[str]) -> dict[str, float]:
    """Dials by name. Raises CharacteryError for a value that is no number from 0 to 1."""
    if len(names) != len(values):
        raise CharacteryError("the dials came without their names; load the page anew")
    out = {}
    for name, value in zip(names, values, strict=True):
        try:
            out[name] = float(value)
        except ValueError:
            out[name] = -1.0
        if not 0 <= out[name] <= 1:
            raise CharacteryError(f"dial {name[:80]} is {value[:20]!r}; give a number from 0 to 1")
    return out
