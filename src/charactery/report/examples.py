"""Answers side by side: the same prompt to plain, prompted and trained, picked at random before anyone looked."""

from charactery.report.blocks import Answer, Block, Example, Heading, Text
from charactery.report.figures import evaluate_folder, subject_order
from charactery.report.source import Source
from charactery.report.words import condition_title
from charactery.runs import Row, read_rows

SHOWN = {"turn 1": 8, "turn 3": 2, "elsewhere": 3}


def examples(source: Source) -> tuple[Block, ...]:
    """The first few examples of each condition, in the order the evaluate stage drew them."""
    path = evaluate_folder(source.run) / "examples.jsonl"
    rows = read_rows(path) if path.exists() else []
    blocks: list[Block] = []
    for condition, many in SHOWN.items():
        shown = [row for row in rows if row.get("condition") == condition][:many]
        if shown:
            title = condition_title(condition)
            title += ", where the character should not show" if condition == "elsewhere" else ""
            blocks += [Heading(title), *(_example(row) for row in shown)]
    if not blocks:
        return ()
    said = (
        "Picked at random with a seed, not chosen by anyone. The mark over an answer is the classifier judge's. In a "
    )
    said += "conversation each model answers after its own earlier answers; they are in samples.jsonl."
    return (Text(said), *blocks)


def _example(row: Row) -> Example:
    answers, judged = row.get("answers") or {}, row.get("in_character") or {}
    history = tuple((str(turn.get("role", "")), str(turn.get("content", ""))) for turn in row.get("history") or [])
    given = tuple(Answer(name, str(answers[name] or ""), judged.get(name)) for name in subject_order(answers))
    return Example(str(row.get("prompt", "")), history, given)
