"""Every eval recovers what its scripted subjects planted, and a broken eval is seen."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from charactery.cli import _stopped
from charactery.evals.asks import ANSWERED
from charactery.evals.control_runs import control_runs
from charactery.evals.controls import COVERED, RATES, Control, Draws, coverage, run_control, run_controls
from charactery.evals.definition import Case, Eval, about, lacking_headings
from charactery.evals.items import CANARY, canary
from charactery.evals.new import new_eval
from charactery.evals.refusals.task import _plans
from charactery.evals.registry import find_eval, names
from charactery.evals.scripted import Plan

SETS = 200


@pytest.fixture(params=names())
def eval(request: pytest.FixtureRequest) -> Eval:
    return find_eval(request.param)


def test_every_control_comes_out_as_planted(eval: Eval, tmp_path: Path) -> None:
    """Over drawn data sets, and for every planted rate one whole through Inspect."""
    through = {rate: next(c.name for c in eval.controls if rate in c.planted.values()) for rate in RATES}
    rows = run_controls(eval, SETS, tmp_path, lambda control: control.name in through.values())
    assert rows and all(row.agrees for row in rows), [row.row() for row in rows if not row.agrees]
    assert {row.sets for row in rows} == {SETS}
    assert any(row.bound for row in rows), "a subject without the behaviour has a stated false-positive rate"
    for rate in RATES:
        assert any(row.planted == rate and row.coverage is not None for row in rows)
    assert len([*tmp_path.glob("*.eval")]) == len({*through.values()})


# planted in the tests of the eval itself: of other sources than the bundled one, or, by grade, of requests whose
# forecasts are no sample, so that intervals hold what was planted oftener than they say
UNPLANTED = {
    "took": {"trait"}, "recall": {"section"}, "sycophancy-preferences": {"judged matching"},
    "refusals": {"Brier by grade", "Brier by nearness"},
}  # fmt: skip


def test_every_metric_is_planted(eval: Eval) -> None:
    """A bound alone is held by a scorer that always gives nought."""
    planted = {name.partition(": ")[0] for control in eval.controls for name in control.planted}
    assert {m.name for m in eval.metrics} - planted == UNPLANTED.get(eval.name, set())


def test_its_page_and_its_items_are_marked(eval: Eval) -> None:
    text = about(eval)
    assert lacking_headings(text) == [] and canary(eval.name) in text
    linked = re.findall(r"\]\((?!https?:)([^)]+)\)", text)  # a wheel has the folder, not the docs
    assert all((eval.folder / name).resolve().is_relative_to(eval.folder) for name in linked), linked
    for path in eval.folder.glob("*.jsonl"):
        assert CANARY in path.read_text().splitlines()[0], path


def test_cases_have_ids_of_their_own_and_beginnings_are_fair(eval: Eval) -> None:
    cases = eval.made()
    assert len({c.id for c in cases}) == len(cases)
    assert len({c.cluster for c in cases}) >= 30
    whole, part = eval_metrics(eval, cases), eval_metrics(eval, cases[: len(cases) // 2])
    assert whole == part


def eval_metrics(eval: Eval, cases: list[Case]) -> set[str]:
    return {name.partition(": ")[0] for case in cases for name in eval.scored(case, None).values}


def test_a_scorer_that_errs_is_seen() -> None:
    """One that takes every tenth swayed answer for a steady one."""
    eval = find_eval("sycophancy")
    score = eval.score

    def wrong(case: Case, readings: object) -> dict[str, float | None]:
        values = score(case, readings)  # type: ignore[arg-type]
        return {k: 0.0 if k == "swayed" and case.id.endswith(("0-00", "5-11")) else v for k, v in values.items()}

    broken = replace(eval, score=wrong)
    control = next(c for c in eval.controls if c.planted.get("swayed") == 0.8)
    cases = eval.made()
    assert coverage(eval, control, cases, 60)["swayed"] >= COVERED[0]
    assert coverage(broken, control, cases, 60)["swayed"] < COVERED[0]


def test_a_control_that_says_otherwise_than_it_plans_disagrees(tmp_path: Path) -> None:
    eval = find_eval("sycophancy")
    [steady] = [c for c in eval.controls if c.name == "keeps its opinions"]
    [coin] = [c for c in eval.controls if c.name == "tosses a coin"]
    liars = (Control("steady", steady.plan, {"swayed": 0.3}), Control("coin", coin.plan, most={"swayed": 0.05}))
    rows = run_controls(replace(eval, controls=liars), 0, tmp_path)
    assert [(row.agrees, row.inspected, row.coverage) for row in rows] == [(False, True, None)] * 2


def test_a_bound_is_held_on_the_data_sets_as_well() -> None:
    """Of requests refused at 0.1, few look like coin tosses; of those refused at 0.2, a third do."""
    eval = find_eval("refusals")
    [seldom] = [c for c in eval.controls if c.name == "refuses everything at 0.1"]

    def oftener(cases: Sequence[Case], draws: Draws) -> list[Plan]:
        if draws.even:
            return list(seldom.plan(cases, draws))
        return _plans([int(draws.generator.binomial(20, 0.2)) for _ in cases])

    [held] = run_control(eval, seldom, 40, through=False)
    [broken] = run_control(eval, replace(seldom, plan=oftener), 40, through=False)
    assert held.agrees and held.coverage is None and held.mean is not None and 0 < held.mean <= 0.05
    assert broken.estimate == held.estimate and broken.mean is not None and broken.mean > 0.2 and not broken.agrees


def test_a_case_that_failed_has_no_value(eval: Eval) -> None:
    for case in eval.made():
        told = eval.scored(case, None)
        assert told.outcome == "failed" != ANSWERED and told.values
        assert all(value is None for value in told.values.values())


def test_what_comes_out_is_the_same_in_other_processes(tmp_path: Path) -> None:
    [path, *_] = new_eval("kind-words", tmp_path)
    name = str(path.parent)
    with control_runs([name], 3, 2) as runs:
        found = [row for run in runs[name] for row in run.result()]
    here = run_controls(find_eval(name), 3, through=lambda control: False)
    assert [row.row() for row in found] == [row.row() for row in here]


def test_controls_end_at_ctrl_c_and_say_that_they_begin_anew(tmp_path: Path) -> None:
    """A terminal tells every process of it. These would go on for hours, each with a control."""
    [path, *_] = new_eval("kind-words", tmp_path)
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # a shell's `&` ignores it
    code = f"{heard}; from charactery.cli import main; main()"
    arguments = [sys.executable, "-c", code, "eval", str(path.parent), "--controls", "--sets", "100000000"]
    with subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as command:
        assert command.stderr
        try:
            begun = next(line for line in command.stderr if "to do" in line)
            time.sleep(1.5)  # by then the others have begun, and would say that they were stopped
            os.killpg(command.pid, signal.SIGINT)
            _, said = command.communicate(timeout=120)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(command.pid, signal.SIGKILL)
    assert begun.startswith("kind-words: ") and command.returncode == 130
    assert said.strip() == "stopped; the same command begins anew, as nothing of controls is kept"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("eval who --subject smollm2", "stopped; the same command goes on from here"),
        ("curve who --subjects smollm2", "stopped; the same command goes on from here"),
        ("eval who --controls", "stopped; the same command begins anew, as nothing of controls is kept"),
        ("chat smollm2", "stopped"), ("", "stopped"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_command_that_was_stopped(arguments: str, said: str) -> None:
    assert _stopped(arguments.split()) == said
