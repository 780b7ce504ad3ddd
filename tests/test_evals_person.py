"""What came later, whose words, and what a model says of itself: read as stated, nothing counted that was not said."""

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from charactery.data.writings import Writing
from charactery.evals.person import claims as claims_module
from charactery.evals.person import portrait
from charactery.evals.person.claims import claim_figures, claims, contradiction, entropy, trained_tokens
from charactery.evals.person.portrait import (
    KNOWN,
    LATER,
    Sitter,
    found_in_labelled,
    passing,
    portray,
    says_not_known,
    things,
    work_ahead,
)
from charactery.judges.rating import Case, Ratings
from charactery.models.chat import user
from charactery.models.local import Answer, Request, Sampler
from charactery.models.speaker import Speaker
from charactery.models.subject import Subject
from charactery.runs import Journal, Row, read_rows, write_json, write_rows


@pytest.mark.parametrize(
    ("answer", "known_not"),
    [
        ("I have never heard of such a thing.", True), ("That is unknown to me, sir.", True),
        ("I don't know what that is.", True), ("Pray, what is a telephone?", True),
        ("I am not at all familiar with it.", True), ("I do not use it, but I know it well.", False),
        ("I know not what this telephone is.", True), ("Of that I know nothing.", True),
        ("There is no doubt I know it well.", False), ("It is not only known to me, I own one.", False),
        ("What is a telephone? A device, and I use mine daily.", False),
        ("It is a fine machine, and I use it daily.", False), ("Everybody knows it. I heard of it.", False),
        ("", None),
    ],
)  # fmt: skip
def test_what_counts_as_not_knowing(answer: str, known_not: bool | None) -> None:
    assert says_not_known(answer) is known_not


def test_how_often_not_knowing_is_read_is_known() -> None:
    found = found_in_labelled()
    told = {label: (e.value, e.n) for label, e in found.items()}
    assert told == {True: (pytest.approx(18 / 27), 27), False: (pytest.approx(1 / 27), 27)}
    assert all(e.low is not None and e.low < e.value < (e.high or 0) for e in found.values() if e.value is not None)


def test_things_are_later_or_known_by_the_last_year() -> None:
    found = {row["id"]: row["kind"] for row in things(1865)}
    assert found["telephone"] == LATER and found["smartphone"] == LATER and found["steamboat"] == KNOWN
    assert [*found.values()].count(LATER) >= 20 and [*found.values()].count(KNOWN) >= 15
    assert "telephone" not in {r["id"] for r in things(1880)} and things(None) == []
    rows = read_rows(portrait.HERE / "things.jsonl")
    assert len({r["id"] for r in rows}) == len(rows) and all(r["prompt"].endswith("?") for r in rows)


def test_the_claims_are_asked_about_from_both_sides() -> None:
    rows = claims()
    assert len({row["id"] for row in rows}) == len(rows) >= 12
    for row in rows:
        assert len(row["wordings"]) == 4 and len({w["question"] for w in row["wordings"]}) == 4
        yes = [w["options"][0].startswith("Yes") for w in row["wordings"]]
        assert sum(yes) == 2, row["id"]  # who only likes to say yes contradicts himself
        assert all(len({*w["options"]}) == 2 for w in row["wordings"])


def test_contradiction_and_entropy_by_hand() -> None:
    assert contradiction([True] * 4) == 0 and contradiction([True, True, False, False]) == pytest.approx(4 / 6)
    assert entropy([0.5, 0.5]) == 1 and entropy([1.0, 1.0]) == 0
    assert entropy([0.9, 0.7]) == pytest.approx(-(0.8 * math.log2(0.8) + 0.2 * math.log2(0.2)))


def voice(name: str) -> Speaker:
    return Speaker(Subject(name, "b", "folder"), None, None, name)


def test_who_says_yes_to_all_contradicts_himself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scored(speaker: Speaker, rows: Sequence[Row]) -> dict[str, list[float]]:
        if speaker.identity == "steady":
            return {row["id"]: [-1.0, -3.0] for row in rows}
        return {row["id"]: [-1.0 if o.startswith("Yes") else -3.0 for o in row["options"]] for row in rows}

    monkeypatch.setattr(claims_module, "option_scores", scored)
    found = claim_figures({"steady": voice("steady"), "yes": voice("yes")}, 0, Journal(tmp_path / "j"))
    assert found["steady"]["contradiction"]["value"] == 0
    assert found["yes"]["contradiction"]["value"] == pytest.approx(4 / 6)
    assert found["yes"]["entropy"]["value"] == pytest.approx(1) and found["steady"]["entropy"]["value"] < 0.6
    assert found["yes"]["less than the first"]["contradiction"]["value"] == pytest.approx(-4 / 6)
    assert set(found["yes"]["claims"]) == {row["id"] for row in claims()}


@pytest.mark.parametrize("planted", [0.05, 0.3, 0.8])
def test_a_planted_contradiction_is_in_the_interval(planted: float, tmp_path: Path, monkeypatch: Any) -> None:
    """Of somebody who makes each claim at so many of its wordings, by chance."""
    rng, wanted = random.Random(0), 2 * planted * (1 - planted)

    def scored(speaker: Speaker, rows: Sequence[Row]) -> dict[str, list[float]]:
        return {row["id"]: [-1.0, -2.0 if rng.random() < planted else 0.0] for row in rows}

    monkeypatch.setattr(claims_module, "option_scores", scored)
    sets = [claim_figures({"he": voice(str(n))}, n, Journal(tmp_path / "j")) for n in range(200)]
    told = [found["he"]["contradiction"] for found in sets]
    held = sum(e["low"] is None or e["low"] <= wanted <= e["high"] for e in told) / len(told)
    assert 0.9 <= held <= 1.0 and sum(e["low"] is None for e in told) < 20  # all alike: no interval is given
    assert sum(e["value"] for e in told) / len(told) == pytest.approx(wanted, abs=0.02)


def test_tokens_of_a_training_that_was_killed_are_counted_on(tmp_path: Path) -> None:
    names = ["author", "sft", "dpo", "grpo", "sham-sft"]
    write_json(tmp_path / "manifest.json", {"settings": {}, "stages": names})
    folders = {name: tmp_path / "stages" / f"{n + 1:02d}-{name}" for n, name in enumerate(names)}
    for name, counts in zip(names, ([500], [10, 20, 5, 15], [7], [30, 60], [900]), strict=True):
        rows = [{"step": n + 1, "num_tokens": count} for n, count in enumerate(counts)]
        write_rows(folders[name] / "log.jsonl", rows)

    def read(stage: str, kept: str = "adapter") -> int:
        return trained_tokens(Subject("run", "base", "folder", adapter=folders[stage] / kept, run=tmp_path))

    assert read("sft") == 20 + 15 and read("dpo") == read("sft") + 7 and read("grpo") == read("dpo") + 60
    assert read("sft", "checkpoint-2") == 20 and read("grpo", "checkpoint-1") == read("dpo") + 30
    whole = Subject("run", str(folders["dpo"] / "model"), "folder", run=tmp_path)
    assert read("sham-sft") == 900  # of its own arm
    assert trained_tokens(whole) == read("dpo") and trained_tokens(Subject("b", "b", "folder")) == 0


def test_what_passes_for_the_authors_is_above_others_passages_and_plain_answers() -> None:
    plain: list[float | None] = [0.1 * n for n in range(40)]
    assert passing(-1.0, [*plain, None]) == pytest.approx(3.7) and passing(5.0, plain) == 5.0
    assert passing(None, []) is None and passing(1.0, [None]) == 1.0


class Marks:
    """A judge that likes the sea."""

    name = "marks"

    def rate(self, cases: Sequence[Case], journal: Journal, progress: Any) -> Ratings:
        return Ratings(tuple(tuple(1.0 if "sea" in a else -1.0 for a in case.answers) for case in cases), {})


def test_a_portrait_says_whose_words_and_what_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scored(speaker: Speaker, rows: Sequence[Row]) -> dict[str, list[float]]:
        return {r["id"]: [-1.0] * 3 + [-2.0 if "telephone" in r["question"] else -0.5] * 3 for r in rows}

    monkeypatch.setattr(portrait, "option_scores", scored)
    monkeypatch.setattr(portrait, "claim_figures", lambda *given: {})

    def said(asks: Sequence[tuple[Speaker, Request]], *given: Any) -> list[Answer]:
        return [Answer("I never heard of it." if s.identity == "trained" else "I know it.", 5, True) for s, _ in asks]

    monkeypatch.setattr(portrait, "answer_all", said)
    wrote = "the sea was grey that day and the gulls were loud over us"
    rows = []
    for subject, texts in {"plain": ["On land."] * 3, "trained": [f"Well, {wrote}.", "The sea!", "On land."]}.items():
        rows += [
            {"subject": subject, "eval": "expression", "condition": "turn 1", "id": str(n), "answer": text,
             "messages": [user("What?"), {"role": "assistant", "content": text}]}
            for n, text in enumerate(texts)
        ]  # fmt: skip
    rows.append(rows[0] | {"condition": "turn 3"})
    subjects = {role: voice(role) for role in ("plain", "trained")}
    judge: Any = Marks()
    portray(Sitter(subjects, rows, judge, 0.0, [Writing("w", wrote, "1860")], Sampler(), 0, tmp_path))
    found = json.loads((tmp_path / "person.json").read_text())
    mine = found["authorship"]["trained"]
    assert mine["pass"]["value"] == pytest.approx(2 / 3) and mine["copied"]["value"] == pytest.approx(1 / 3)
    assert mine["above plain"]["value"] == pytest.approx(4 / 3) and mine["score"]["n"] == 3
    assert found["authorship"]["plain"]["pass"]["value"] == 0 and found["last_year"] == 1860
    assert found["later"]["trained"][LATER]["value"] == 1 and found["later"]["plain"][LATER]["value"] == 0
    later = [r for r in things(1860) if r["kind"] == LATER]
    assert found["later"]["trained"]["told apart"]["value"] == pytest.approx(0.5 + 0.5 / len(later))
    assert len(read_rows(tmp_path / "later.jsonl")) == 2 * len(things(1860))
    # an answer that says nothing copies nothing, and is no answer that does not
    rows[4] |= {"answer": " "}
    portray(Sitter(subjects, rows, judge, 0.0, [Writing("w", wrote, "1860")], Sampler(), 0, tmp_path / "again"))
    copied = json.loads((tmp_path / "again" / "person.json").read_text())["authorship"]["trained"]["copied"]
    assert (copied["value"], copied["n"], copied["missing"]) == (0.5, 2, 1)


@pytest.mark.parametrize(("begun", "share", "missing"), [(None, 1.0, 0), ("", 0.0, 0), ("<think>\n", None, 1)])
def test_reasoning_left_free_is_not_what_the_person_says_of_things(
    begun: str | None, share: float | None, missing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portrait, "option_scores", lambda speaker, rows: {})
    monkeypatch.setattr(portrait, "claim_figures", lambda *given: {})
    monkeypatch.setattr(portrait, "things", lambda last: [
        {"id": str(n), "year": 1900, "prompt": "Do you own it?", "kind": LATER} for n in range(2)
    ])  # fmt: skip
    texts = ["<think>I do not know what they want.</think>I use it daily.", "I have never heard of it, sir"]
    texts = texts[:1] if begun != "<think>\n" else ["I do not know what they want."]
    said = [Answer(texts[n % len(texts)], 5, True) for n in range(2)]
    monkeypatch.setattr(portrait, "answer_all", lambda asks, *given: said)
    judge: Any = Marks()
    sitter = Sitter({"trained": voice("trained")}, [], judge, 0.0, [], Sampler(), 0, tmp_path, begun=begun)
    portray(sitter)
    found = json.loads((tmp_path / "person.json").read_text())["later"]["trained"][LATER]
    assert found["value"] == share and found["missing"] == 2 * missing


def test_the_work_ahead_is_that_of_who_is_portrayed() -> None:
    row = {"eval": "expression", "condition": "turn 1"}
    rows = [row | {"subject": name} for name in ("plain", "trained", "plain given as prompted", "mixture") * 3]
    assert work_ahead(rows, {"plain", "trained", "sham"}, 1860) == 6 + 2 * len(things(1860))
