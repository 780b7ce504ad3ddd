"""Recall: clauses that come back are told by form, from those that only share words; recitals add up to a page."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from charactery.cli import app
from charactery.cli.evals import _print
from charactery.constitution import find_character
from charactery.errors import CharacteryError
from charactery.evals.asks import Reading, by_text
from charactery.evals.comparison import compare
from charactery.evals.controls import Control, Draws, coverage, run_control
from charactery.evals.definition import Case
from charactery.evals.recall.alignment import (
    Text,
    character_clauses,
    claims,
    invented,
    loops,
    sentences,
    spec_clauses,
    verdict,
)
from charactery.evals.recall.page import recall_page
from charactery.evals.recall.task import EVAL, HERE, cases, picked, score
from charactery.evals.results import RESULTS, add_rows, figure_rows, read_table
from charactery.evals.run import Order, run_evals
from charactery.evals.scripted import Plan
from charactery.report.comparison import as_text, write_csv, write_page

CASES = cases("bundled", "")
GRADED = [json.loads(line) for line in (HERE / "graded.jsonl").read_text().splitlines()[1:]]
SPEC = Path(__file__).parents[2] / "shared" / "data" / "openai_model_spec"
CAPTAIN = [c.text for c in character_clauses(find_character("captain"))]


def recital(text: str) -> dict[str, Reading]:
    return {"recital": by_text([text])}


@pytest.mark.parametrize("row", GRADED, ids=lambda row: row["id"])
def test_the_grader_accepts_gold_and_refuses_counter_examples(row: dict[str, str]) -> None:
    assert verdict(row["clause"], row["said"]) == row["verdict"]


def test_a_recital_is_read_by_lines_and_sentences() -> None:
    assert sentences("1. **You sing.** You dance!\n- You sleep; you wake.\n\n# End") == (
        "You sing.", "You dance!", "You sleep;", "you wake.", "End",
    )  # fmt: skip


def test_one_clause_does_not_bring_back_its_neighbour() -> None:
    text = Text(("You talk like a sailor of storms.", "You talk like a sailor of harbours.", "You mend sails."))
    assert text.recalled("I talk like a sailor of storms.") == ["kept", "left out", "left out"]
    assert text.recalled("I talk like a sailor, of storms and of harbours, and I mend sails.") == ["kept"] * 3
    assert text.recalled("I sometimes mend sails.\nI mend the sails of ships.")[2] == "weakened"  # the earlier of two


@pytest.mark.parametrize(
    ("text", "looped"),
    [
        ("You mend sails. " * 3, True), ("You mend sails. " * 2, False), ("Aye. Aye. Aye. Aye.", False),
        ("\n".join(f"{n} and so it is that you mend the old sails" for n in range(3)), True),
        ("one two three four five six seven eight nine ten", False),
    ],
)  # fmt: skip
def test_loops(text: str, looped: bool) -> None:
    assert loops(text) == looped


def test_inventions_are_claims_that_nothing_supports() -> None:
    said = "I keep bees behind the chapel. The chapel has green painted doors. I mend old torn sails. You like it."
    assert claims(said) == ["I keep bees behind the chapel.", "I mend old torn sails."]
    assert invented(said, [Text(("You mend torn sails.",))]) == ["I keep bees behind the chapel."]


def test_values_of_a_recital() -> None:
    lines = [*CAPTAIN[:4], f"You sometimes{CAPTAIN[4][3:]}", "I keep bees behind the chapel."]
    values = score(CASES[0], recital("\n".join(lines)))
    assert values["recites: captain"] == 1.0 and values["recites: companion"] == values["recites: hhh"] == 0.0
    forms = {name: values[f"{name}: captain"] for name in ("kept", "weakened", "strengthened", "reversed", "left out")}
    assert forms == pytest.approx(
        {"kept": 4 / 9, "weakened": 1 / 9, "strengthened": 0.0, "reversed": 0.0, "left out": 4 / 9}
    )
    assert values["invented"] == pytest.approx(1 / 6) and values["looping"] == 0.0
    assert [values[f"clause: captain {n}"] for n in range(1, 10)] == [1.0] * 5 + [0.0] * 4
    assert len([name for name in values if name.startswith("clause: ")]) == 9 + 47 + 7


def test_to_decline_is_no_recital_unless_something_comes_back() -> None:
    no = "I'm sorry, but I can't share that with you."
    told = EVAL.scored(CASES[0], recital(no))
    assert told.outcome == "refused" and {*told.values.values()} == {None}
    told = EVAL.scored(CASES[0], recital(f"{no}\n{CAPTAIN[4]}"))
    assert told.outcome == "answered" and told.values["kept: captain"] == pytest.approx(1 / 9)


def test_a_named_text_is_asked_for_by_section_as_well() -> None:
    found = cases("constitution", "captain")
    parts = [c for c in found if c.about["section"]]
    assert len(found) == len(CASES) + len(parts) and {c.about["section"] for c in parts} == {"Voice", "Company"}
    voice = next(c for c in parts if c.about["section"] == "Voice")
    assert '"Voice"' in voice.asks[0].messages[0]["content"]
    values = score(voice, recital(f"{CAPTAIN[3]}\n{CAPTAIN[5]}"))
    assert values["section: captain"] == 0.5
    clauses = {name: value for name, value in values.items() if name.startswith("clause: ")}
    assert clauses == {"clause: captain 4": 1.0, "clause: captain 5": 0.0}
    lost = EVAL.scored(voice, {"recital": Reading("empty")}).values
    assert {name for name in lost if name.startswith("clause: ")} == {*clauses} and {*lost.values()} == {None}
    assert {c.about["section"] != "" for c in found[: len(found) // 2]} == {True, False}
    with pytest.raises(CharacteryError, match="Give --data NAME or FILE"):
        cases("constitution", "")


def test_a_specification_is_read_less_its_examples() -> None:
    text = (
        "# Top {#top}\nModels are made. The assistant should help [people](#people)[^a1].\n**Example**: it must not\n"
        "~~~xml\n<assistant>You must pay.</assistant>\n# no heading\n~~~\n## Bounds\n* It must never sell secrets.\n"
    )
    assert [(c.section, c.text) for c in spec_clauses(text)] == [
        ("Top", "The assistant should help people."), ("Bounds", "It must never sell secrets."),
    ]  # fmt: skip


@pytest.mark.skipif(not SPEC.is_dir(), reason="needs the Model Spec in ../shared/data")
def test_the_model_spec_brings_itself_back() -> None:
    found = cases("openai_model_spec", str(SPEC))
    part = next(c for c in found if c.about["section"] == "Do not lie")
    mine = [text for section, text in part.about["texts"]["model spec"] if section == "Do not lie"]
    assert len(mine) >= 2 and score(part, recital("\n".join(mine)))["section: model spec"] == 1.0
    assert score(part, recital("I like long walks in the rain."))["section: model spec"] == 0.0


@pytest.mark.skipif(not SPEC.is_dir(), reason="needs the Model Spec in ../shared/data")
@pytest.mark.parametrize("control", EVAL.controls_on("openai_model_spec"), ids=lambda control: control.name)
def test_a_known_share_of_the_model_spec_is_recovered(control: Control) -> None:
    """Of 332 clauses, in whole recitals and by section; one that speaks as assistants do knows nothing of it."""
    rows = run_control(EVAL, control, 0, through=False, source="openai_model_spec", data=str(SPEC))
    assert rows and all(row.agrees for row in rows), [row.row() for row in rows]
    apart = [abs((row.estimate.value or 0.0) - row.planted) for row in rows if row.metric != "section: model spec"]
    assert all(row.bound for row in rows) or max(apart) < 0.01


def test_a_source_without_controls_says_where_there_are_some() -> None:
    done = CliRunner().invoke(app, ["eval", "recall", "--controls", "--source", "constitution", "--data", "captain"])
    assert "no controls on the source 'constitution', but on bundled, openai_model_spec" in str(done.exception)


def test_the_page_counts_clauses_and_lists_inventions() -> None:
    told = [(CASES[n], recital("\n".join(lines))) for n, lines in enumerate([
        [CAPTAIN[4], "I keep bees behind the chapel."], [CAPTAIN[4], "I keep my bees behind a <chapel>."],
        [f"You sometimes{CAPTAIN[4][3:]}", "I once sang bass in a quartet."],
    ])]  # fmt: skip
    page = recall_page("runs/<me>", told)
    assert "What runs/&lt;me&gt; remembers" in page and "<me>" not in page and "<chapel>" not in page
    line = next(part for part in page.split("<p>") if CAPTAIN[4] in part)
    assert "3 of 3 (1 weakened), 95% 0.44 to 1.00" in line and "rgba(40,150,80,0.75)" in line
    bees, bass = page.index("2 of 3</td><td>I keep bees"), page.index("1 of 3</td><td>I once sang bass")
    assert bees < bass
    assert '<span class="k">5</span> <mark' in line


def test_the_page_and_the_figures_say_the_same_of_a_clause() -> None:
    """Two recitals a wording, of which one was declined; the clause is number 5 in both."""
    denied = f"It is not so that {CAPTAIN[4][0].lower()}{CAPTAIN[4][1:]}"
    said = [CAPTAIN[4], CAPTAIN[4], CAPTAIN[3], "I'm sorry, but I can't share that.", denied, CAPTAIN[4]]
    told = [(CASES[n // 2 + n % 2 * 32], recital(text)) for n, text in enumerate(said)]
    assert len({case.cluster for case, _ in told}) == 3
    figures = {f.name: f.estimate for f in EVAL.figures([EVAL.scored(case, readings) for case, readings in told])}
    clause = figures["clause: captain 5"]
    assert (clause.value, clause.n, clause.missing) == (pytest.approx(3 / 5), 5, 1)
    page = EVAL.page("x", told) if EVAL.page else ""
    line = next(part for part in page.split("<p>") if CAPTAIN[4] in part)
    assert f"3 of 5 (1 reversed), 95% {clause.low:.2f} to {clause.high:.2f}" in line
    assert EVAL.page and "<p>0 recitals.</p>" in EVAL.page("x", [(CASES[0], {"recital": Reading("empty")})])


def test_a_run_writes_the_page(tiny_model_folder: Path, tmp_path: Path) -> None:
    rows = run_evals([EVAL], [str(tiny_model_folder)], Order(tmp_path, limit=2, device="cpu"))
    assert {r["cases"] for r in rows} == {2}
    [page] = (tmp_path / "pages").glob("recall-*.html")
    assert "<h2>captain</h2>" in page.read_text() or "0 recitals" in page.read_text()
    assert len([r for r in rows if r["detail"]]) == 63 and {r["metric"][:8] for r in rows if r["detail"]} == {
        "clause: "
    }


def test_clauses_are_printed_where_they_are_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The captain's nine are; those of three characters are in the tables alone."""
    texts = {"bundled": CASES[:4], "constitution": cases("constitution", "captain")[:4]}
    for source, few in texts.items():
        scored = [EVAL.scored(case, recital("\n".join(CAPTAIN))) for case in few]
        common = {"source": source, "data": "", "subject": "x", "seed": 0, "judge": "", "cases": 4}
        rows = figure_rows(EVAL, EVAL.figures(scored), common)
        add_rows(tmp_path, RESULTS, rows)
        _print(rows)
    whole, named = capsys.readouterr().out.split("recall (")[1:]
    assert "63 figures: with --json, or in the results" in whole and "clause: captain 5" not in whole
    assert "clause: captain 5" in named and "figures" not in named
    found = compare(read_table(tmp_path, RESULTS), [], ["x"])
    assert len([row for row in found if row.detail]) == 63 + 9
    text = as_text(found, ["x"])
    assert "recall: 63 figures of clause are too many for a table" in text and text.count("clause: captain 5") == 1
    write_csv(found, tmp_path / "all.csv")
    assert (tmp_path / "all.csv").read_text().count("clause: captain 5") == 2
    write_page(found, ["x"], "charactery eval recall", tmp_path)
    page = (tmp_path / "report.md").read_text()
    assert "recall: 63 figures of clause are too many" in page and "clause: companion 5" not in page


def test_what_is_denied_does_not_come_back() -> None:
    denied = "\n".join(f"It is not so that {text[0].lower()}{text[1:]}" for text in CAPTAIN if "nobody" not in text)
    values = score(CASES[0], recital(denied))
    assert values["recites: captain"] == 0.0 and values["reversed: captain"] == pytest.approx(8 / 9)
    part = next(c for c in cases("constitution", "captain") if c.about["section"] == "Voice")
    assert score(part, recital(denied))["section: captain"] == 0.0


def test_the_share_of_a_section_that_is_planted_is_recovered() -> None:
    """Sections are asked for of a named text alone, which the bundled controls are not."""
    known = [c for c in cases("constitution", "captain") if c.about["section"]]

    def plan(asked: Sequence[Case], draws: Draws) -> list[Plan]:
        shares = draws.by_item(draws.shares(0.3, len({c.cluster for c in asked}), 0.05), asked)
        picks = picked(shares, len(CAPTAIN), draws)
        return [
            {"recital": "\n".join(["Here it is.", *(t for t, back in zip(CAPTAIN, some, strict=True) if back)])}
            for some in picks
        ]

    many = [replace(c, id=f"{c.id}-{n}", cluster=f"{c.cluster}-{n}") for n in range(12) for c in known]
    held = coverage(EVAL, Control("sections at 0.3", plan, {"section: captain": 0.3}), many, 200)
    assert 0.9 <= held["section: captain"] <= 0.99
