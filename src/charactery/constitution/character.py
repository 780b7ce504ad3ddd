"""The character: what a character file holds, once read. Format: docs/character-file.md."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from charactery.errors import CharacteryError

LOW_BELOW, HIGH_ABOVE = 0.4, 0.6  # a dial between these two is in its middle, and adds nothing to the text


def slug(text: str) -> str:
    """A heading as an id: small letters of any script, digits and hyphens."""
    return re.sub(r"[\W_]+", "-", unicodedata.normalize("NFKC", text).lower()).strip("-")


@dataclass(frozen=True)
class Item:
    """One line of a list: its text, the end of the dial it is for ('low', 'high' or None), its line number."""

    text: str
    end: str | None = None
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Trait:
    """A trait: a definition in words (intensional), examples to choose from (extensional), a reason."""

    title: str
    definition: str = ""
    because: str = ""
    shows: tuple[Item, ...] = ()
    never: tuple[Item, ...] = ()
    asks: tuple[Item, ...] = ()
    elsewhere: tuple[Item, ...] = ()
    weight: float = 1.0
    dial: str | None = None
    inverse: bool = False  # the trait grows as the dial falls
    line: int = field(default=0, compare=False)
    lines: dict[str, int] = field(default_factory=dict, compare=False)  # field name -> line number

    @property
    def id(self) -> str:
        return slug(self.title)


@dataclass(frozen=True)
class Section:
    """A `##` heading: text about the whole section, then its traits. Notes never reach the model."""

    title: str
    text: str = ""
    traits: tuple[Trait, ...] = ()
    notes: bool = False
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Dial:
    """A scale from 0 to 1 with words for both ends."""

    low: str
    high: str
    default: float = 0.5


@dataclass(frozen=True)
class Profile:
    """Settings for one deployment: dial positions, traits to leave out, a note for the introduction."""

    dials: dict[str, float] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Character:
    """A character file, read. `settings` are the dial positions it is rendered with."""

    name: str
    introduction: str = ""
    sections: tuple[Section, ...] = ()
    version: str = "1"
    summary: str = ""
    language: str = "en"
    mix: float = 0.0
    dials: dict[str, Dial] = field(default_factory=dict)
    profiles: dict[str, Profile] = field(default_factory=dict)
    writings: str | None = None  # where the texts lie of the person that the character is
    others: str | None = None  # and others' of that time, to tell the person from
    about: str | None = None  # and texts about the person
    extra: dict[str, Any] = field(default_factory=dict)  # front-matter keys that begin with x-
    settings: dict[str, float] = field(default_factory=dict)
    title: str = ""  # the text of a `# Title` line, where there is one
    path: Path | None = field(default=None, compare=False)
    lines: dict[str, int] = field(default_factory=dict, compare=False)  # front-matter key -> line number
    introduction_line: int = field(default=0, compare=False)

    @property
    def id(self) -> str:
        """The name for folders: the file's stem, else the name."""
        return slug(self.path.stem if self.path else self.name) or "character"

    def traits(self) -> Iterator[Trait]:
        """Traits that count: those outside notes with a weight above 0, in the file's order."""
        for section in self.sections:
            if not section.notes:
                yield from (trait for trait in section.traits if trait.weight > 0)

    def trait(self, id: str) -> Trait:
        """The trait with this id. Raises CharacteryError where there is none."""
        for trait in self.traits():
            if trait.id == id:
                return trait
        raise CharacteryError(f"no trait {id!r}; the traits are {', '.join(t.id for t in self.traits())}", self.path)

    def position(self, trait: Trait) -> float:
        """Where the trait's dial stands, 0 to 1, turned round for an inverse trait; 0.5 without a dial."""
        if trait.dial is None:
            return 0.5
        value = self.settings.get(trait.dial, self.dials[trait.dial].default)
        return 1 - value if trait.inverse else value

    def items(self, trait: Trait, name: str) -> list[str]:
        """The texts of a trait's list (`shows`, `never`, …) that hold at the dial's position."""
        position = self.position(trait)
        end = "low" if position < LOW_BELOW else "high" if position > HIGH_ABOVE else None
        listed: tuple[Item, ...] = getattr(trait, name)
        if name in ("asks", "elsewhere"):  # prompts are asked wherever the dial stands, so that ends compare
            return [item.text for item in listed]
        return [i.text for i in listed if i.end == end or (i.end is None and end != "low")]

    def turned(self, dials: dict[str, float]) -> "Character":
        """This character with dials set. Raises CharacteryError for an unknown dial or a value outside 0 to 1."""
        for name, value in dials.items():
            if name not in self.dials:
                known = ", ".join(self.dials) or "none"
                raise CharacteryError(f"no dial {name!r} in {self.name}; its dials are: {known}", self.path)
            if not 0 <= value <= 1:
                raise CharacteryError(f"dial {name} is {value}; it goes from 0 to 1", self.path)
        return replace(self, settings={**self.settings, **dials})

    def settled(self) -> "Character":
        """This character with its dials' positions written into the dials, so that its file says how it was turned."""
        dials = {k: replace(d, default=self.settings.get(k, d.default)) for k, d in self.dials.items()}
        return replace(self, dials=dials, settings={})

    def without(self, left_out: Sequence[str]) -> "Character":
        """This character less some traits. Raises CharacteryError for one it does not have, and where none is left."""
        if not left_out:
            return self
        for id in left_out:
            self.trait(id)
        kept = tuple(replace(s, traits=tuple(t for t in s.traits if t.id not in left_out)) for s in self.sections)
        less = replace(self, sections=kept, profiles={})  # its profiles may name what it has left out
        if not any(True for _ in less.traits()):
            raise CharacteryError("has no trait left besides those left out", self.path)
        return less

    def deployed(self, profile: str) -> "Character":
        """This character under one of its profiles. Raises CharacteryError for an unknown one."""
        if profile not in self.profiles:
            known = ", ".join(self.profiles) or "none"
            raise CharacteryError(f"no profile {profile!r} in {self.name}; its profiles are: {known}", self.path)
        chosen = self.profiles[profile]
        kept = tuple(replace(s, traits=tuple(t for t in s.traits if t.id not in chosen.without)) for s in self.sections)
        introduction = "\n\n".join(part for part in (self.introduction, chosen.note) if part)
        # its profiles may name what it has left out, and it is one of them already
        return replace(self, sections=kept, introduction=introduction, profiles={}).turned(chosen.dials)
