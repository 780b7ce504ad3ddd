"""The section on side effects: what of the trained model's answers is neither the plain model's nor the character's."""

from typing import Any

from charactery.report.blocks import Block, Table, Text
from charactery.report.figures import read_estimate
from charactery.report.files import stage_file, stage_json
from charactery.report.numbers import count, number, short_interval
from charactery.report.source import Source

ROLES = ("plain", "prompted", "trained")


def moved(source: Source) -> tuple[Block, ...]:
    """Phrases and manners that came with training and that nobody had to list."""
    path = stage_file(source.run, "evaluate", "moved.json")
    kept: dict[str, Any] | None = stage_json(source.run, "evaluate", "moved.json")
    if not kept or path is None or not kept.get("tried"):
        return ()
    tried = " and ".join(f"{n:,} in {where} answers" for where, n in kept["tried"].items())
    said = (
        f"Phrases of one to three words and counts of style were tried, {tried}. Listed is where the trained model is "
    )
    said += "apart from both the plain and the prompted one: that came with training, and not with the character. The "
    said += "level is 5% over all that was tried in one place (Holm)."
    if not kept["found"]:
        return Text(said), Text("Nothing was found.")
    rows = []
    for row in kept["found"]:
        phrase = row["kind"] == "phrase"
        values = (short_interval(read_estimate(row[role], path), percent=phrase) for role in ROLES)
        name = f"\u201c{row['name']}\u201d" if phrase else row["name"]
        rows.append((name, row["where"], *values, number(row["p"])))
    head = ("Phrase (share of answers) or count", "Where", *(role.capitalize() for role in ROLES), "p")
    found = f"{count(len(rows), 'difference')} found."
    return Text(said), Text(found), Table(head, tuple(rows), frozenset(head[2:]))
