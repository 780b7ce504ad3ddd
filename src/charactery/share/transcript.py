"""A branch of a talk, or answers side by side, as one file for somebody else, with what it takes to draw them again.

The HTML file holds everything it shows: no script, no request, and a policy in it that allows none.
"""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from textwrap import shorten
from typing import Any

import jinja2

from charactery import __version__
from charactery.conversations import Mark, Node, Prompt, Store
from charactery.conversations.beside import marks_of
from charactery.errors import CharacteryError
from charactery.runs import Row
from charactery.share.differences import differences
from charactery.share.markup import markup, markup_beside

# What may be left out, and how a person would say it
LEAVABLE = {
    "names": "who answered (and with it how)", "recipe": "how answers were drawn", "prompts": "the exact prompts",
    "marks": "bookmarks, notes and tags", "times": "when it was said",
}  # fmt: skip
ENDED = {None: "half an answer", "stopped": "stopped", "length": "cut off", "error": "broken off"}


@dataclass(frozen=True)
class Recipe:
    """How an answer was drawn: `weights` is the hash of exactly what answered, `made_of` the hashes of its parts.

    `prefill` is the part of its text that was given.
    """

    subject: str
    weights: str
    made_of: Row
    sampler: Row
    prefill: str
    seed: int | None
    prompt: Prompt | None


@dataclass(frozen=True)
class Said:
    """A turn as it is shown to others. `marks` are the notes, tags and bookmarks on it; `recipe` is an answer's.

    Of an answer beside others `parts` are its text in pieces, those marked that the others do not have.
    """

    role: str
    name: str
    text: str
    ended: str
    time: str
    marks: tuple[str, ...]
    recipe: Recipe | None
    parts: tuple[tuple[str, bool], ...] = ()


@dataclass(frozen=True)
class Transcript:
    """A way through a talk, and answers to its last turn side by side, if it is a comparison."""

    title: str
    turns: tuple[Said, ...]
    columns: tuple[Said, ...]

    @property
    def recipe(self) -> str:
        """All of it for a program, as JSON; "" where recipes are left out."""
        if not any(said.recipe for said in (*self.turns, *self.columns)):
            return ""
        rows = {"turns": [_row(said) for said in self.turns], "columns": [_row(said) for said in self.columns]}
        return json.dumps({"charactery": __version__, **rows}, ensure_ascii=False, indent=1)


def transcript(store: Store, at: str, of: Sequence[str] = (), without: Collection[str] = ()) -> Transcript:
    """The way to a turn, with the answers `of` to it side by side, and without what LEAVABLE names."""
    if unknown := set(without) - LEAVABLE.keys():
        raise CharacteryError(f"{min(unknown)!r} cannot be left out; what can be: {', '.join(LEAVABLE)}")
    path = store.path(at)
    conversation = store.conversation_of(at)
    if conversation is None:
        raise CharacteryError(f"has no turn {at!r}", store.place)
    columns = [store.node(id) for id in of]
    if any(node.parent != at for node in columns):
        raise CharacteryError("what is laid side by side are answers to the same turn")
    marks: dict[str, list[Mark]] = {}
    for mark in [] if "marks" in without else marks_of(store, conversation):
        marks.setdefault(mark.node, []).append(mark)
    begins = next((node.text for node in path if node.role == "user"), "")
    letters = {node.id: f"answer {chr(ord('A') + n)}" for n, node in enumerate(columns)}
    told = [_said(node, marks.get(node.id, []), without, letters.get(node.id, "answer")) for node in (*path, *columns)]
    title = store.title(conversation) or shorten(begins, 60, placeholder="…") or "A talk"
    parts = differences([node.text for node in columns]) if columns else []
    beside = [replace(said, parts=tuple(p)) for said, p in zip(told[len(path) :], parts, strict=True)]
    return Transcript(title, tuple(told[: len(path)]), tuple(beside))


def _said(node: Node, marks: Sequence[Mark], without: Collection[str], nameless: str) -> Said:
    named, recipe = "names" not in without, None
    if node.seed is not None and named and "recipe" not in without:
        sampler = dict(node.sampler or {})
        made_of, prefill = sampler.pop("model", {}), sampler.pop("prefill", "")
        prompt = None if "prompts" in without else node.prompt
        recipe = Recipe(_name(node.subject), node.weights, made_of, sampler, prefill, node.seed, prompt)
    who = (_name(node.subject) if named else nameless) or nameless if node.role == "assistant" else node.role
    time = "" if "times" in without or not node.time else f"{datetime.fromtimestamp(node.time, UTC):%Y-%m-%d %H:%M} UTC"
    beside = tuple(f"{mark.kind}: {mark.text}" if mark.text else mark.kind for mark in marks)
    return Said(node.role, who, node.text, ENDED.get(node.ending, ""), time, beside, recipe)


def _name(subject: str) -> str:
    """A Subject as others may see it: of a file or folder somewhere on this machine, the last part."""
    return re.sub(r"(?<![\w:/.])(?:~|\.\.?|[A-Za-z]:)?[/\\](?:[^/\\+@#:]*[/\\])*(?=[^/\\])", "", subject)


def _row(said: Said) -> Row:
    row: Row = {"role": said.role, "name": said.name, "text": said.text}
    if said.recipe is None:
        return row
    recipe: dict[str, Any] = {**vars(said.recipe)}
    recipe["prompt"] = said.recipe.prompt and vars(said.recipe.prompt)
    return row | recipe


def as_html(shared: Transcript) -> str:
    """One file that opens anywhere, in dark and light, without a network."""
    pages = jinja2.Environment(
        loader=jinja2.PackageLoader("charactery.share"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    pages.filters["markup"] = markup
    beside = markup_beside([said.text for said in shared.columns]) if shared.columns else []
    return pages.get_template("transcript.html").render(shared=shared, beside=beside)


def as_markdown(shared: Transcript) -> str:
    """The same as text to paste; of how answers were drawn a line each, without the prompts."""
    lines = [f"# {shared.title}", ""]
    for said in (*shared.turns, *shared.columns):
        about = ", ".join(filter(None, [said.ended, said.time]))
        lines += [f"**{said.name}**{f' ({about})' if about else ''}", "", said.text, ""]
        lines += [f"> {mark}\n" for mark in said.marks]
    drawn = [(said.name, said.recipe) for said in (*shared.turns, *shared.columns) if said.recipe]
    if drawn:
        lines += [f"Drawn by Charactery {__version__}:", ""]
    for name, recipe in drawn:
        how = {**recipe.sampler, **recipe.made_of}
        how |= {"begun with": repr(recipe.prefill)} if recipe.prefill else {}
        parts = [f"weights {recipe.weights}", *(f"{key} {value}" for key, value in how.items()), f"seed {recipe.seed}"]
        lines.append(f"- {name}: {', '.join(parts)}")
    return "\n".join(lines).rstrip() + "\n"
