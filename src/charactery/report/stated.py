"""The section on documents about the character, and on discussions of marginal cases."""

from collections.abc import Iterable, Mapping
from typing import Any

from charactery.report.blocks import Block, Folded, Heading, Table, Text
from charactery.report.files import stage_file, stage_json, stage_rows
from charactery.report.numbers import count
from charactery.report.source import Source
from charactery.runs import Row

SHOWN, WORDS = 4, 90  # examples, and words of each


def documents(source: Source, name: str, title: str) -> tuple[Block, ...]:
    """What documents were learnt: how many of each kind, what was set aside and why, and some of them."""
    found: dict[str, Any] | None = stage_json(source.run, name, "counts.json")
    if not found:
        return ()
    kept: dict[str, int] = found["kept"]
    said = (
        f"{found['writer']} wrote {count(found['asked'], 'document')} about the character, each about a passage of the "
        f"constitution; {sum(kept.values()):,} were fit to learn from ({found['words']:,} words). With them stands the "
        f"constitution's own text, in {count(found['passages'], 'part')} and {count(found['constitution'], 'row')} "
        f"({found['constitution_words']:,} words). All of it is learnt as plain text, without the chat template."
    )
    rows = [(_capital(kind), f"{n:,}") for kind, n in sorted(kept.items())]
    rows += _reasons("Set aside", found["set_aside"])
    drawn = [row for row in stage_rows(source.run, name, "sft.jsonl") if row["kind"] == "document"]
    texts = [
        (f"{_capital(row['form'])}, on {_traits(source, row)}", row["completion"][0]["content"])
        for row in _spread(drawn)
    ]
    return (
        Heading(title),
        Text(said),
        Table(("Documents", "How many"), tuple(rows), frozenset({"How many"})),
        *_examples(f"{len(texts)} of the documents", texts),
        *_left(source, name),
    )


def cases(source: Source, name: str, title: str) -> tuple[Block, ...]:
    """What cases were discussed: how many of each trait, what was set aside and why, and some of them."""
    found: dict[str, Any] | None = stage_json(source.run, name, "counts.json")
    if not found:
        return ()
    kept: dict[str, int] = found["kept"]
    said = (
        f"{found['writer']} made up {count(found['asked'], 'situation')} that a trait does not settle by itself, and "
        f"{found['speaker']} discussed each with the trait in view; {sum(kept.values()):,} discussions were fit to "
        f"learn from ({found['words']:,} words). They are learnt without it in view, and each ends with it, in the "
        "constitution's words."
    )
    rows = [(source.trait_title(id), f"{n:,}") for id, n in kept.items()]
    for step, reasons in found["set_aside"].items():
        rows += _reasons(f"{_capital(step)} set aside", reasons)
    drawn = _spread(stage_rows(source.run, name, "sft.jsonl"))
    texts = [(row["prompt"][0]["content"], row["completion"][0]["content"]) for row in drawn]
    return (
        Heading(title),
        Text(said),
        Table(("Cases", "How many"), tuple(rows), frozenset({"How many"})),
        *_examples(f"{len(texts)} of the cases", texts),
        *_left(source, name),
    )


def _reasons(what: str, reasons: Mapping[str, int]) -> list[tuple[str, str]]:
    return [(f"{what}: {reason}", f"{n:,}") for reason, n in reasons.items()]


def _spread(rows: list[Row]) -> list[Row]:
    """Some rows, from the first to the last at equal distances."""
    return rows[:: -(-len(rows) // SHOWN) or 1]


def _examples(summary: str, texts: Iterable[tuple[str, str]]) -> list[Block]:
    blocks: list[Block] = []
    for head, text in texts:
        words = text.split()
        blocks += [Text(head, "small"), Text(" ".join(words[:WORDS]) + (" …" if len(words) > WORDS else ""))]
    return [Folded(summary, tuple(blocks))] if blocks else []


def _left(source: Source, name: str) -> list[Block]:
    path = stage_file(source.run, name, "set_aside.jsonl")
    said = "All that was learnt from is in sft.jsonl, and what was set aside in set_aside.jsonl, in "
    return [Text(f"{said}{path.parent.relative_to(source.run.folder).as_posix()}.", "small")] if path else []


def _traits(source: Source, row: Row) -> str:
    return ", ".join(source.trait_title(id) for id in row["traits"]) or "who it is"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
