"""What a report is made of, before it is HTML or markdown: sections of paragraphs, tables, plots and examples."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from matplotlib.figure import Figure as Drawing


@dataclass(frozen=True)
class Text:
    """A paragraph. Tones: "" ordinary, "small" a remark, "warning" something to be careful with."""

    kind: ClassVar[str] = "text"
    text: str
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells under a head. A row of one cell is a sub-heading. `numeric` names the columns set to the right."""

    kind: ClassVar[str] = "table"
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[str] = frozenset()
    caption: str = ""


@dataclass(frozen=True)
class Plot:
    """A picture that can be drawn at any width (CSS pixels): HTML carries a wide and a narrow one."""

    kind: ClassVar[str] = "plot"
    name: str
    caption: str
    alt: str
    draw: Callable[[int], Drawing]


@dataclass(frozen=True)
class Verdict:
    """One question that was put before the run, and how it came out: "held", "missed" or "not measured"."""

    name: str
    outcome: str
    said: str


@dataclass(frozen=True)
class Verdicts:
    """The list of verdicts."""

    kind: ClassVar[str] = "verdicts"
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Answer:
    """What a subject answered; `in_character` is the judge's verdict, None where there is none."""

    subject: str
    text: str
    in_character: bool | None


@dataclass(frozen=True)
class Example:
    """One prompt and the subjects' answers side by side. `history`: (role, text) of the turns before it."""

    kind: ClassVar[str] = "example"
    prompt: str
    history: tuple[tuple[str, str], ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Code:
    """Text to copy as it stands."""

    kind: ClassVar[str] = "code"
    text: str
    language: str = ""


@dataclass(frozen=True)
class Folded:
    """Blocks behind a summary line that opens and closes without a script."""

    kind: ClassVar[str] = "folded"
    summary: str
    blocks: tuple["Block", ...]


Block = Text | Table | Plot | Verdicts | Example | Heading | Code | Folded


@dataclass(frozen=True)
class Section:
    """A titled part of the report. One without blocks is left out, and named as not measured."""

    id: str
    title: str
    blocks: tuple[Block, ...] = field(default=())


@dataclass(frozen=True)
class Report:
    """A whole report. `verdict` is its headline and the sentence after it; `about` says what was trained."""

    title: str
    summary: str
    about: tuple[str, ...]
    verdict: tuple[str, str]
    sections: tuple[Section, ...]
