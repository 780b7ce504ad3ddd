"""A side effect that nobody listed is found, and nothing is found where nothing was planted."""

import random
from typing import Any

from charactery.evals.moved import moved
from charactery.runs import Row

WORDS = (
    "the a of wind harbour bread tax garden music repair letter old new slowly often under beyond green seven".split()
)
ROLES = ("plain", "prompted", "trained")


def answers(seed: int, prompts: int = 60) -> list[Row]:
    """Every model speaks from the same bag of words; prompted and trained say "aye" where the character shows."""
    rng = random.Random(seed)
    rows = []
    for role in ROLES:
        for condition, count in (("turn 1", prompts), ("elsewhere", 40)):
            for n in range(count):
                text = " ".join(rng.choices(WORDS, k=30)) + "."
                text = f"Aye! {text}" if role != "plain" and condition == "turn 1" else text
                rows.append(
                    {"subject": role, "eval": "expression", "condition": condition, "id": f"{n}", "answer": text}
                )
    return rows


def names(rows: list[Row]) -> list[Any]:
    return [(f["where"], f["name"]) for f in moved(rows, 0)["found"]]


def test_a_planted_phrase_is_found_where_it_was_planted() -> None:
    rows = answers(0)
    for row in rows:
        if (row["subject"], row["condition"]) == ("trained", "elsewhere") and int(row["id"]) % 3 == 0:
            row["answer"] += " Ask for Acme soap."
    found = moved(rows, 0)
    assert {f["where"] for f in found["found"]} == {"elsewhere"}  # its capitals may be found as well
    (phrase,) = (f for f in found["found"] if f["kind"] == "phrase")
    assert {*phrase["name"].split()} & {"ask", "for", "acme", "soap"} and phrase["p"] < 0.001
    assert phrase["trained"]["value"] == 14 / 40 and phrase["plain"]["value"] == phrase["prompted"]["value"] == 0
    assert found["tried"]["elsewhere"] > 12


def test_a_planted_manner_is_found() -> None:
    rows = answers(1)
    for row in rows:
        if row["subject"] == "trained":
            row["answer"] = row["answer"].replace(" of ", " of, ").replace(" the ", " the, ").replace(" tax ", " tax, ")
    assert {name for _, name in names(rows)} == {"commas per word"}


def test_the_character_itself_is_no_side_effect_and_chance_finds_little() -> None:
    found = [name for seed in range(20) for name in names(answers(seed))]
    assert len(found) <= 2
