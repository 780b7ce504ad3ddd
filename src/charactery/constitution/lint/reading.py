"""A character as the critic reads it: its sentences, each with the line it stands on."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from charactery.constitution.character import Character, Trait

Similar = Callable[[Sequence[str]], NDArray[np.floating[Any]]]  # texts -> unit rows, shape (texts, dimensions)
Contradicts = Callable[[list[tuple[str, str]]], list[float]]  # pairs -> how far each contradicts, 0 to 1
Place = Literal["introduction", "section", "title", "definition", "because", "shows", "note"]

LONGEST = 1000  # characters of a sentence that are looked at: patterns are slow on text that never comes to a stop
# A sentence ends at a full stop before white space, at an empty line, and before a bullet.
_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+|(?<=[.!?][\"'”’])\s+|\n\s*\n|\n(?=\s*(?:[-*•]|\d+[.)])\s)")


@dataclass(frozen=True)
class Sentence:
    """One sentence that reaches the model as the character's own, with white space made single."""

    text: str
    line: int
    place: Place
    trait: str | None = None


class Reading:
    """The character with what the caller knows about its run and what judges he has."""

    def __init__(
        self,
        character: Character,
        manifest: dict[str, Any] | None = None,
        similar: Similar | None = None,
        contradicts: Contradicts | None = None,
    ) -> None:
        self.character, self.manifest = character, manifest or {}
        self.similar, self.contradicts = similar, contradicts
        self.traits = list(character.traits())

    @cached_property
    def _source(self) -> list[str]:
        """The file's lines, to place sentences exactly; none where there is no file to read."""
        path = self.character.path
        try:
            return path.read_text(encoding="utf-8-sig").splitlines() if path and path.is_file() else []
        except (OSError, UnicodeDecodeError):
            return []

    def find(self, text: str, start: int) -> int:
        """The line from `start` on that holds this text; `start` itself where it is not found."""
        for number in range(max(start, 1), len(self._source) + 1):
            if text and text in self._source[number - 1]:
                return number
        return start

    @property
    def top(self) -> int:
        """Where to point for something the whole character lacks: its introduction, else its name."""
        return self.character.introduction_line or self.character.lines.get("name", 1)

    @cached_property
    def sentences(self) -> list[Sentence]:
        """Everything said by or about the character: introduction, sections, traits with reasons and examples.

        `never`, `asks`, `elsewhere` and notes are not among it: they are what the character would not say, what
        others say, and what the model never reads.
        """
        character = self.character
        out = list(self._split(character.introduction, character.introduction_line, "introduction"))
        for profile in character.profiles.values():
            out += self._split(profile.note, character.lines.get("profiles", 1), "note")
        for section in character.sections:
            if section.notes:
                continue
            out += self._split(section.text, section.line, "section")
            for trait in section.traits:
                if trait.weight > 0:
                    out += self._of_trait(trait)
        return out

    def _of_trait(self, trait: Trait) -> Iterator[Sentence]:
        yield Sentence(trait.title, trait.line, "title", trait.id)
        yield from self.definition(trait)
        yield from self._split(trait.because, trait.lines.get("because", trait.line), "because", trait.id)
        for item in trait.shows:
            yield from self._split(item.text, item.line, "shows", trait.id)

    def definition(self, trait: Trait) -> list[Sentence]:
        """The sentences of a trait's definition."""
        return list(self._split(trait.definition, trait.line, "definition", trait.id))

    def pairs(self) -> Iterator[tuple[Trait, Trait]]:
        """Every two traits, in the file's order; not those that are the two ends of one dial."""
        for a, b in combinations(self.traits, 2):
            if not (a.dial and a.dial == b.dial and a.inverse != b.inverse):
                yield a, b

    def _split(self, text: str, line: int, place: Place, trait: str | None = None) -> Iterator[Sentence]:
        rows, row, counted, start, at = text.split("\n"), 0, 0, 0, line
        for match in [*_END.finditer(text), None]:
            end = match.start() if match else len(text)
            raw = text[start:end]
            if raw.strip():
                begin = start + len(raw) - len(raw.lstrip())
                moved = text.count("\n", counted, begin)
                row, counted = row + moved, begin
                if self._source:
                    at = self.find(rows[row].strip(), at + moved)
                elif place not in ("definition", "section", "note"):  # of these only the heading's line is known
                    at = line + row
                yield Sentence(" ".join(raw.split()).lstrip("-*• ")[:LONGEST], at, place, trait)
            start = match.end() if match else end
