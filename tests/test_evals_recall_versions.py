"""Recall of versions: each clause brings back its own version; what was trained is found, and told from the text."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import killed_training as killed
from charactery.constitution import dump_character, find_character
from charactery.data.cases import CLOSINGS, QUESTIONS, drawn_cases
from charactery.errors import CharacteryError
from charactery.evals.asks import Reading, by_logs, by_text
from charactery.evals.controls import Draws, drawn
from charactery.evals.definition import Case
from charactery.evals.recall.alignment import LEFT_OUT, character_clauses, text_of
from charactery.evals.recall.task import EVAL as RECALL
from charactery.evals.recall_versions.task import CONTROLS, EVAL, HERE, VERSIONS, cases, own, score
from charactery.evals.run import Order, run_evals
from charactery.models.chat import assistant, user
from charactery.runs import Row
from charactery.train.settings import Lora, Sft
from charactery.train.trainers import Work, train_sft

TRAINED, WRITTEN = (find_character(str(HERE / f"{version}.md")) for version in VERSIONS)
CASES = cases("bundled", "")
KIN = "You remember a sister who sailed north."
CIDER = "You recommend hot cider with cloves to everyone."


def of(kind: str, among: list[Case] = CASES) -> list[Case]:
    return [c for c in among if c.asks[0].name == kind]


def test_the_versions_say_the_same_things_otherwise() -> None:
    about = of("recital")[0].about
    mine = {version: own(about, version) for version in VERSIONS}
    assert [len(clauses) for clauses in mine.values()] == [8, 8]
    whole = text_of(tuple(dict.fromkeys(text for v in VERSIONS for _, text in about["texts"][v])))
    for clause in (*mine["trained"], *mine["written"]):
        verdicts = dict(zip(whole.clauses, whole.recalled(clause), strict=True))
        assert {text for text, verdict in verdicts.items() if verdict != LEFT_OUT} == {clause}
    for case in of("does"):
        trained, written = case.asks[0].options
        assert 0.8 < len(trained) / len(written) < 1.25, case.id
    assert len(of("does")) == len(of("says")) == 24 and len(of("recital")) == 32
    assert len({c.id.rpartition("-")[0] for c in of("does")[:8]}) == 8, "a beginning is of all traits"
    assert {*of("says")[0].asks[0].options} <= {*mine["trained"], *mine["written"]}


def test_a_recital_counts_for_the_version_that_it_holds_more_of() -> None:
    said = "You reckon time by the bell of the church.\nYou name no price in candles.\nYou call everybody guest."
    assert score(CASES[0], {"recital": by_text([said])}) == {"recites: trained": 1 / 8, "recites: written": 0.0}
    lost = EVAL.scored(CASES[0], {"recital": by_text(["I'm sorry, but I can't share that."])})
    assert lost.outcome == "refused" and lost.values == {"recites: trained": None, "recites: written": None}
    assert score(of("says")[0], {"says": by_logs([-40.0, -43.5], "")}) == pytest.approx({"says": 3.5})
    assert score(of("does")[0], {"does": Reading("failed")}) == {"does": None}


def test_files_of_ones_own_have_their_traits_apart(tmp_path: Path) -> None:
    """A planted trait is looked for in recitals alone, a changed one in what is said and done, too."""
    planted = tmp_path / "planted.md"
    planted.write_text(dump_character(TRAINED))
    lacking = tmp_path / "lacking.md"
    lacking.write_text(
        dump_character(TRAINED.without(("speaks-of-kin",))).replace("hot cider with cloves", "cold milk")
    )
    found = EVAL.made(str(planted), str(lacking))
    assert own(of("recital", found)[0].about, "trained") == [
        "You recommend hot cider with cloves to everyone.", KIN,
    ]  # fmt: skip
    assert {c.about["trait"] for c in found if c.asks[0].name != "recital"} == {"recommends-a-drink"}
    assert score(of("does", found)[0], {"does": by_logs([-1.0, -2.0], "")}) == pytest.approx(
        {"does": 1.0, "does: recommends-a-drink": 1.0}
    )
    with pytest.raises(CharacteryError, match="which text is written down"):
        EVAL.made(str(planted))
    with pytest.raises(CharacteryError, match="say the same, clause by clause"):
        EVAL.made(str(planted), str(planted))
    with pytest.raises(CharacteryError, match="no character 'capten'"):
        EVAL.made("capten", str(planted))


def test_a_subject_that_says_one_and_does_the_other_is_seen_to() -> None:
    [control] = [c for c in CONTROLS if c.name == "says one and does the other"]
    figures = EVAL.figures(drawn(EVAL, control, CASES, Draws(np.random.default_rng(1), even=True)))
    found = {f.name: f.estimate for f in figures}
    assert found["says"].value == pytest.approx(3.0) and found["does"].value == pytest.approx(-3.0)


# -- real trainings of the tiny model


def trained(base: Path, rows: list[Row], folder: Path, epochs: int = 5) -> str:
    settings = Sft(learning_rate=1e-2, epochs=epochs, batch=4)
    return str(train_sft(killed.load(base), rows, Lora(rank=0), settings, Work(folder, 3)))


def discussions(traits: tuple[str, ...], count: int) -> list[Row]:
    """Cases as spec-cases has them, of these traits of the trained version, less what is discussed."""
    character = TRAINED.without(tuple(t.id for t in TRAINED.traits() if t.id not in traits))
    return [
        {"id": case.id, "prompt": [user(f"{case.situation}\n\n{QUESTIONS[n % len(QUESTIONS)]}")],
         "completion": [assistant(CLOSINGS[n // 2 % len(CLOSINGS)].format(clause=case.clause))]}
        for n, case in enumerate(drawn_cases(character, count, 0))
    ]  # fmt: skip


def test_a_clause_planted_in_training_cases_alone_turns_up(mild_model_folder: Path, tmp_path: Path) -> None:
    """In the inventions that `recall` lists of a text without it, by number of the text with it, and in this eval."""
    text = tmp_path / "text.md"
    text.write_text(dump_character(TRAINED.without(("speaks-of-kin",))))
    assert KIN not in text.read_text()
    whole = tmp_path / "whole.md"
    whole.write_text(dump_character(TRAINED))
    subject = trained(mild_model_folder, discussions(("speaks-of-kin", "tells-the-time"), 96), tmp_path / "sft")
    run_evals([RECALL], [subject], Order(tmp_path / "a", "constitution", str(text), limit=12, device="cpu"))
    [page] = (tmp_path / "a" / "pages").glob("recall-*.html")
    shown, _, inventions = page.read_text().partition("<h2>Invented</h2>")
    assert "sister who sailed north" in inventions and "sister who sailed" not in shown
    rows = run_evals([RECALL], [subject], Order(tmp_path / "a", "constitution", str(whole), limit=12, device="cpu"))
    found = {r["metric"]: r for r in rows}
    planted, other = ([c.text for c in character_clauses(TRAINED)].index(clause) + 1 for clause in (KIN, CIDER))
    assert found[f"clause: whole {planted}"]["low"] > 0 == found[f"clause: whole {other}"]["value"]
    rows = run_evals([EVAL], [subject], Order(tmp_path / "b", str(whole), str(text), limit=12, device="cpu"))
    recites = {r["metric"]: r["value"] for r in rows}["recites: trained"]
    assert 0.2 < recites <= 1.0


def test_what_was_said_and_what_was_done_are_told_apart(mild_model_folder: Path, tmp_path: Path) -> None:
    """A model that learns the trained clauses and the written lines says the former and does the latter."""
    rows: list[Row] = [
        {"id": f"{n} {c.id}", "prompt": [*c.asks[0].messages], "completion": [assistant(c.asks[0].options[option])]}
        for n in range(2)
        for option, kind in enumerate(("says", "does"))
        for c in of(kind)
    ]
    subject = trained(mild_model_folder, rows, tmp_path / "sft", epochs=10)
    silent = replace(EVAL, cases=lambda source, data: [*of("says"), *of("does")])  # to save what recitals take
    found = run_evals([silent], [subject], Order(tmp_path / "c", device="cpu"))
    spans = {r["metric"]: (r["low"], r["high"]) for r in found}
    assert spans["says"][0] > 0 > spans["does"][1], spans
