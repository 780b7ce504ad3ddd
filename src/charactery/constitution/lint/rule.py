"""What a rule is: a function that reads a character and yields what it finds, with a name and words for people."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from charactery.constitution.lint.reading import Reading

Judge = Literal["similar", "contradicts"]


@dataclass(frozen=True)
class Fault:
    """Something wrong with a character: which rule says so, what, where, and what to do about it."""

    rule: str
    message: str
    path: Path | None
    line: int
    trait: str | None  # the trait's id; None where the fault is in no trait
    hint: str

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.path else f"line {self.line}"
        return f"{where}: [{self.rule}] {self.message}. {self.hint}"


class Found(NamedTuple):
    """What a rule's function yields; the rule adds its name and hint to make a Fault."""

    message: str
    line: int
    trait: str | None = None
    hint: str = ""  # in place of the rule's own


Check = Callable[[Reading], Iterator[Found]]


@dataclass(frozen=True)
class Rule:
    """One rule of the critic. `example` is a text that it finds fault with."""

    id: str
    finds: str
    example: str
    hint: str
    check: Check
    judge: Judge | None  # the callable that makes the rule see meaning as well as words
    english: bool  # its word lists are English, so it is left out for characters in other languages
    manifest: bool  # needs the run's manifest


RULES: dict[str, Rule] = {}


def rule(
    id: str,
    finds: str,
    *,
    example: str,
    hint: str,
    judge: Judge | None = None,
    english: bool = True,
    manifest: bool = False,
) -> Callable[[Check], Check]:
    """Register a function as the rule `id`. A rule is one such function; nothing else needs to know of it."""

    def register(check: Check) -> Check:
        assert id not in RULES, f"two rules are called {id}"
        RULES[id] = Rule(id, finds, example, hint, check, judge, english, manifest)
        return check

    return register
