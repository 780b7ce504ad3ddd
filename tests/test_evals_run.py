"""Evals on a Subject, from the command to the tables: read as a plain implementation reads, resumable, comparable."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
from inspect_ai import eval as inspect_eval
from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, GenerateConfig, get_model
from typer.testing import CliRunner

from charactery.cli import app
from charactery.data.pairs import read_pairs
from charactery.data.prompts import Prompt
from charactery.errors import BadData, CharacteryError, CharacteryWarning
from charactery.evals.asks import by_shares
from charactery.evals.comparison import Compared, Difference, compare, difference
from charactery.evals.controls import quiet
from charactery.evals.definition import Case
from charactery.evals.duplicates import learnt_texts, near_duplicates
from charactery.evals.registry import find_eval
from charactery.evals.results import (
    ADDED,
    RESULTS,
    SAMPLES,
    add_rows,
    commands,
    estimate_of,
    figure_rows,
    read_table,
    results_of,
    sample_rows,
)
from charactery.evals.run import Order, run_evals
from charactery.evals.says_does.arms import pairs as arm_pairs
from charactery.evals.says_does.task import items as arm_items
from charactery.evals.sycophancy.task import typology
from charactery.evals.tasks import task_of
from charactery.models.chat import assistant
from charactery.models.inspect_provider import subject_model
from charactery.models.local import LocalModel
from charactery.models.speaker import Models
from charactery.report.comparison import _looks, _names, as_text, draw, write_csv, write_latex, write_page
from charactery.runs import Row, write_json, write_rows
from charactery.stats import Estimate
from test_evals_recall_versions import trained
from test_judges_best_of import best_run

DATA = Path(__file__).parents[2] / "shared" / "data"
PEREZ = DATA / "perez2022_sycophancy" / "political_typology.jsonl.gz"
FEW = 16


@pytest.fixture(scope="module")
def results(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory, cache_for_tests: Path) -> Path:
    """A results folder with the tiny model, plain and as the captain, on two evals, in float32."""
    out = tmp_path_factory.mktemp("results")
    subjects = [str(tiny_model_folder), f"{tiny_model_folder}+captain"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARACTERY_CACHE", str(cache_for_tests))
        patch.setattr("charactery.models.local.pick_dtype", lambda device: torch.float32)
        run_evals([find_eval("sycophancy"), find_eval("who")], subjects, Order(out, limit=FEW, device="cpu"))
    return out


def plain_choice(model: LocalModel, text: str, options: tuple[str, ...]) -> list[float]:
    """Log-probabilities of replies the long way: one sequence at a time, by transformers' own forward pass."""
    prompt = model.tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
    )
    context = model.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    out = []
    for option in options:
        reply = model.tokenizer(option, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model.model(torch.tensor([context + reply])).logits[0].float().log_softmax(-1)
        out.append(sum(float(logits[len(context) - 1 + n, token]) for n, token in enumerate(reply)))
    return out


def told(out: Path, subject: str, eval: str) -> dict[str, Any]:
    """The readings in the newest log of a subject, by case."""
    from inspect_ai.log import list_eval_logs, read_eval_log

    logs = [read_eval_log(info) for info in list_eval_logs(str(out / "logs"))]
    mine = next(log for log in logs if log.eval.model == f"charactery/{subject}" and log.eval.task.endswith(eval))
    return {str(s.id): s.store["readings"] for s in mine.samples or []}


def agrees_with_the_plain_way(model: LocalModel, cases: list[Case], readings: dict[str, Any]) -> int:
    """How many choices were compared; each is the same, with log-probabilities to 1e-3."""
    count = 0
    for case in cases:
        for ask in case.asks:
            found = readings[case.id][ask.name]
            wanted = torch.tensor(plain_choice(model, ask.messages[-1]["content"], ask.options)).log_softmax(0)
            assert found["choice"] == int(wanted.argmax())
            assert found["logs"] == pytest.approx(wanted.tolist(), abs=1e-3)
            count += 1
    return count


def test_options_are_scored_as_a_plain_implementation_scores_them(
    results: Path, tiny_model: LocalModel, tiny_model_folder: Path
) -> None:
    for name in ("sycophancy", "who"):
        cases = find_eval(name).made()[:FEW]
        assert agrees_with_the_plain_way(tiny_model, cases, told(results, str(tiny_model_folder), name)) >= FEW


@pytest.mark.skipif(not PEREZ.is_file(), reason="needs the political typology in ../shared/data")
def test_political_typology_is_scored_so_too(
    tiny_model: LocalModel, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charactery.models.local.pick_dtype", lambda device: torch.float32)
    cases = typology(str(DATA))
    assert len(cases) == 500 and len({c.cluster for c in cases}) == 17
    for case in cases:
        alone, told_text = (ask.messages[-1]["content"] for ask in case.asks)
        assert told_text.endswith(alone) and len(told_text) > len(alone) + 100
        assert "<|" not in told_text and alone.endswith("\n\nAnswer:")
    order = Order(tmp_path, "political_typology", str(DATA), limit=12, device="cpu")
    run_evals([find_eval("sycophancy")], [str(tiny_model_folder)], order)
    readings = told(tmp_path, str(tiny_model_folder), "sycophancy")
    fit = [c for c in cases[:12] if readings[c.id]["told"]["outcome"] == "answered"]
    assert len(fit) >= 6 and agrees_with_the_plain_way(tiny_model, fit, readings) == 2 * len(fit)
    lost = next(r["missing"] for r in read_table(tmp_path, RESULTS) if r["metric"] == "matching")
    assert lost == 12 - len(fit)  # longer than the tiny model's context: missing, not nought


@pytest.mark.smollm2
@pytest.mark.skipif(not PEREZ.is_file(), reason="needs the political typology in ../shared/data")
def test_every_question_of_the_political_typology_is_scored_so_on_the_embedded_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All 17, alone and after a biography."""
    monkeypatch.setattr("charactery.models.local.pick_dtype", lambda device: torch.float32)
    cases = [*{case.asks[0].messages[-1]["content"]: case for case in typology(str(DATA))}.values()]
    assert len(cases) == len({case.cluster for case in cases}) == 17
    speaker = Models("cpu").speaker("smollm2")
    [log] = inspect_eval(task_of(find_eval("sycophancy"), cases), model=subject_model(speaker), **quiet(tmp_path))
    readings = {str(sample.id): sample.store["readings"] for sample in log.samples or []}
    assert speaker.model and agrees_with_the_plain_way(speaker.model, cases, readings) == 2 * len(cases)


def test_rows_hold_the_figures_and_how_they_were_read(results: Path, tiny_model_folder: Path) -> None:
    rows = results_of(results, [str(tiny_model_folder)], ["sycophancy"])
    assert {r["metric"] for r in rows} == {"swayed", "pushed away", "matching", "shift", "first letter"}
    assert {(r["scoring"], r["source"], r["version"], r["seed"], r["cases"]) for r in rows} == {
        ("prompt_logprobs", "bundled", 1, 0, FEW)
    }
    values = [s["value"] for s in read_table(results, SAMPLES)
              if s["subject"] == str(tiny_model_folder) and s["metric"] == "matching"]  # fmt: skip
    matching = next(estimate_of(r) for r in rows if r["metric"] == "matching")
    assert len(values) == FEW and matching.value == pytest.approx(sum(values) / FEW)


def test_the_same_again_computes_nothing_and_replaces_its_rows(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Order(tmp_path, limit=4, device="cpu")
    first = run_evals([find_eval("who")], [str(tiny_model_folder)], order)

    def never(*_: Any) -> None:
        raise AssertionError("this was scored before")

    monkeypatch.setattr(LocalModel, "score", never)
    again = run_evals([find_eval("who")], [str(tiny_model_folder)], order)
    assert [{**r, "log": ""} for r in first] == [{**r, "log": ""} for r in again]
    assert len(read_table(tmp_path, RESULTS)) == len(first)


def test_what_a_judge_alone_reads_is_asked_with_a_judge_alone(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, said, asked = str(tiny_model_folder), [], []  # type: ignore[var-annotated]
    generate = LocalModel.generate

    def counted(self: LocalModel, requests: Any, *rest: Any) -> Any:
        asked.extend(requests)
        return generate(self, requests, *rest)

    monkeypatch.setattr(LocalModel, "generate", counted)
    evals = [find_eval("scaffolds")]
    plain = run_evals(evals, [subject], Order(tmp_path, limit=1, device="cpu"), said.append)
    assert asked == [] and "scaffolds: without --judge SUBJECT" in said[0] and "(text) is not asked" in said[0]
    rates = [r for r in plain if not r["metric"].startswith("leans")]  # a mean, of which one case is no figure
    assert [(r["metric"].partition(":")[0], r["n"], r["missing"]) for r in rates] == [("picks", 1, 0), ("writes", 1, 0)]
    judged = run_evals(evals, [subject], Order(tmp_path, limit=1, device="cpu", judge=subject), said.append)
    assert len(asked) == 1 and "judge's kappa" in {r["metric"] for r in judged}
    assert {r["metric"] for r in plain} < {r["metric"] for r in judged}


def test_a_character_in_the_prompt_changes_what_is_read(results: Path, tiny_model_folder: Path) -> None:
    plain, captain = (told(results, f"{tiny_model_folder}{who}", "who") for who in ("", "+captain"))
    assert plain.keys() == captain.keys() and plain != captain


def test_subjects_are_compared_case_by_case(results: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    subjects = [str(tiny_model_folder), f"{tiny_model_folder}+captain"]
    rows = compare(results_of(results, subjects), read_table(results, SAMPLES), subjects)
    shift = next(r for r in rows if r.metric == "shift")
    change = shift.differences[subjects[1]]
    ours, theirs = (shift.estimates[s].value for s in subjects)
    assert ours is not None and theirs is not None and change.estimate.value == pytest.approx(theirs - ours)
    assert change.p is not None and change.p_holm is not None and change.p_holm >= change.p
    text = as_text(rows, subjects)
    assert "sycophancy, read by prompt_logprobs" in text and f"{subjects[1]} less {subjects[0]}" in text
    write_csv(rows, tmp_path / "all.csv")
    lines = (tmp_path / "all.csv").read_text().splitlines()
    assert len(lines) == 1 + sum(len(r.estimates) for r in rows) and lines[0].startswith("eval,source,data,metric")
    write_latex(rows, subjects, tmp_path / "all.tex")
    assert (tmp_path / "all.tex").read_text().count(r"\begin{tabular}") == 2
    write_page(rows, subjects, "charactery eval who", tmp_path / "page")
    page = (tmp_path / "page" / "report.md").read_text()
    assert all(f"## {name}" in page for name in ("sycophancy", "who", "The command")) and "charactery eval who" in page
    assert page.count("who, a profile of each Subject") == 2  # the domains, and the personas
    assert "<svg" in (tmp_path / "page" / "report.html").read_text()
    assert [p.read_bytes()[:4] for p in draw(rows, subjects, tmp_path / "plots")] == [b"\x89PNG"] * 7


def test_two_that_answer_alike_differ_by_nought_with_a_width() -> None:
    """In a rate over items of several cases, where no answer differs; whatever else is a mean."""
    rows: dict[str, Row] = {
        f"{n}": {"value": float(n % 3 == 0), "cluster": str(n // 4), "stratum": "", "unit": "", "balanced": False,
                 "kind": "rate"}
        for n in range(96)
    }  # fmt: skip
    told = difference(rows, rows)
    low, high = told.estimate.low, told.estimate.high
    assert told.estimate.value == 0 and low is not None and high is not None and low < -0.01 and 0.01 < high < 0.1
    assert told.p is None
    half = {key: {**row, "kind": "share", "value": row["value"] / 2} for key, row in rows.items()}
    change = difference(half, {key: {**row, "value": row["value"] + 0.1} for key, row in half.items()})
    assert change.estimate.value == pytest.approx(0.1) and change.estimate.method.startswith("paired shares")


def test_a_page_marks_what_is_as_without_the_behaviour(tmp_path: Path) -> None:
    estimates = {"coin": Estimate(0.5, 0.4, 0.6, 50), "mirror": Estimate(0.8, 0.7, 0.9, 50)}
    row = Compared("sycophancy", "bundled", "", "matching", "", "rate", estimates, {})
    write_page([row], ["coin", "mirror"], "charactery eval sycophancy", tmp_path)
    told, line, _ = [x for x in (tmp_path / "report.md").read_text().splitlines() if x.startswith("| matching")]
    assert "that match the user's view" in told  # what the figures are
    assert [cell.rstrip().endswith("°") for cell in line.split("|")[2:4]] == [True, False]


def test_a_page_marks_what_a_coin_would_do(tmp_path: Path) -> None:
    tosses, turns = Estimate(0.47, 0.34, 0.60, 50), Estimate(0.23, 0.14, 0.35, 50)
    none, sure = Estimate(0.02, 0.0, 0.1, 50), Estimate(0.9, 0.8, 0.95, 50)
    metrics = {
        ("says-does", "agrees"): (tosses, sure), ("self-consistency", "contradicts"): (tosses, none),
        ("sycophancy", "swayed"): (turns, sure), ("sycophancy", "pushed away"): (turns, none),
        ("sycophancy-sides", "swayed: pick"): (turns, turns), ("sycophancy-sides", "pushed away: pick"): (none, turns),
    }  # fmt: skip
    rows = [
        Compared(eval, "bundled", "", metric, "", "rate", dict(zip(("a", "b"), told, strict=True)), {})
        for (eval, metric), told in metrics.items()
    ]
    write_page(rows, ["a", "b"], "charactery eval all", tmp_path)
    text = (tmp_path / "report.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("| ") and "]" in line]  # with intervals
    lines = {line.split(" |")[0][2:]: line.split("|")[2:4] for line in reversed(table)}
    marks = {name: [cell.rpartition("]")[2].strip() for cell in cells] for name, cells in lines.items()}
    assert marks["agrees"] == ["†", ""] and marks["contradicts"] == ["†", "°"]
    assert marks["swayed"] == ["†", ""]  # as often as it leaves the user's view, or far more often
    assert marks["pushed away"] == ["", "°"] and marks["swayed: pick"] == ["", "†"]
    assert "tosses a coin at every question (of swayed, as often as pushed away)" in text


def test_a_page_says_what_no_judge_has_read(tmp_path: Path) -> None:
    estimates = {"a": Estimate(0.5, 0.4, 0.6, 50)}
    rows = [Compared(eval, "bundled", "", metric, "", "rate", estimates, {})
            for eval, metric in (("tension", "found"), ("who", "says"), ("took", "shown"))]  # fmt: skip
    write_page(rows, ["a"], "charactery eval all", tmp_path)
    text = (tmp_path / "report.md").read_text()
    said = [line for line in text.splitlines() if line.startswith("Not measured, as no judge")]
    assert said == ["Not measured, as no judge read the answers: says so, says so without cause."]


def test_a_page_has_main_figures_first_and_says_what_is_declined(tmp_path: Path) -> None:
    why = "declined: the judge's kappa has the lower bound 0.20, under 0.4"
    sure, none = Estimate(0.5, 0.4, 0.6, 50), Estimate(None, None, None, 0, method=why)
    metrics = ["recites: captain", *(f"kept: {n}" for n in range(20)), "looping"]
    change = {
        "recites: captain": {"b": Difference(Estimate(0.2, 0.1, 0.3, 50), 0.001, 0.02)},
        "kept: 0": {"b": Difference(Estimate(0.1, -0.1, 0.3, 50), 0.001, 0.02)},  # by one of two, and so not clear
    }
    rows = [
        Compared("recall", "bundled", "", metric, "", "rate", {"a": sure, "b": none if metric == "looping" else sure},
                 change.get(metric, {}))
        for metric in metrics
    ]  # fmt: skip
    write_page(rows, ["a", "b"], "charactery eval recall", tmp_path)
    page = (tmp_path / "report.md").read_text()
    assert page.index("## What is clear") < page.index("| recall | recites: captain | b | 0.20 [0.10, 0.30] | 0.02 |")
    assert "1 of 2 are clear of nought" in page and "| recall | kept: 0 |" not in page
    assert page.index("\n| recites: captain |") < page.index("| looping | 0.50") < page.index("By part: 20 figures")
    assert page.index("By part: 20 figures") < page.index("| kept: 0 |")
    [line] = [line for line in page.splitlines() if line.startswith("| looping | 0.50")]
    assert line.split("|")[3].strip() == "declined" and f"{why.capitalize()}: looping of b." in page


def rates(metric: str, values: dict[str, list[int]], method: str = "Wilson") -> tuple[list[Row], list[Row]]:
    """Rows of results and samples of a rate in independent cases, by subject."""
    common = {"eval": "tension", "source": "bundled", "data": "", "seed": 0, "version": 1, "judge": "j", "kind": "rate",
              "metric": metric, "unit": ""}  # fmt: skip
    told = Estimate(None, None, None, 0, method=method) if method.startswith("declined") else Estimate(0.5, 0.4, 0.6, 9)
    results = [{**common, "subject": subject, **told.as_dict()} for subject in values]
    samples = [
        {**common, "subject": subject, "id": str(n), "cluster": str(n), "stratum": "", "value": value,
         "balanced": False}
        for subject, mine in values.items() for n, value in enumerate(mine)
    ]  # fmt: skip
    return results, samples


def test_what_is_declined_has_no_difference_and_no_place_in_the_family(tmp_path: Path) -> None:
    why = "declined: the judge's kappa has the lower bound 0.20, under 0.4"
    apart = {"a": [0] * 30, "b": [1] * 30}
    free, judged = rates("found", apart), rates("says so", apart, why)
    rows = compare([*free[0], *judged[0]], [*free[1], *judged[1]], ["a", "b"])
    by_metric = {row.metric: row for row in rows}
    assert by_metric["says so"].differences == {}
    told = by_metric["found"].differences["b"]
    assert told.p is not None and told.p_holm == told.p < 0.001  # a family of one
    write_page(rows, ["a", "b"], "charactery eval tension", tmp_path)
    page = (tmp_path / "report.md").read_text()
    assert "| tension | found | b |" in page and "| tension | says so |" not in page
    mixed = rates("says so", apart, why)[0][:1] + rates("says so", apart)[0][1:]  # one of the two is enough
    assert compare(mixed, judged[1], ["a", "b"])[0].differences == {}


def test_the_rate_of_a_claim_compares_over_its_wordings_in_a_family_of_claims() -> None:
    eval = find_eval("self-consistency")
    cases = [case for case in eval.made() if case.cluster in ("self-01", "self-02")]
    yes, no = by_shares((0.9, 0.1), "prompt_logprobs"), by_shares((0.1, 0.9), "prompt_logprobs")
    results: list[Row] = []
    samples: list[Row] = []
    for subject in ("steady", "turns"):
        scored = [  # the second contradicts what it said of the first claim, whatever the wording
            eval.scored(case, {"plain": yes, "again": no if case.about["denies"] else yes} if subject == "steady"
                        or case.cluster != "self-01" else {"plain": yes, "again": yes if case.about["denies"] else no})
            for case in cases
        ]  # fmt: skip
        common = {"source": "bundled", "data": "", "subject": subject, "seed": 0, "judge": ""}
        results += figure_rows(eval, eval.figures(scored), common)
        samples += sample_rows(eval, scored, common)
    told = {row.metric: row.differences["turns"] for row in compare(results, samples, ["steady", "turns"])}
    first, second = told["claim: self-01"], told["claim: self-02"]
    assert (first.estimate.value, first.estimate.n) == (1, len(cases) // 2) and first.estimate.low is not None
    assert first.estimate.low > 0.3 and first.p is not None and first.p < 0.05 and first.p_holm == first.p
    assert (second.estimate.value, second.p) == (0, None) and second.estimate.high is not None
    assert second.estimate.high > 0.1
    assert told["contradicts"].estimate.value == 0.5


def test_an_eval_may_read_its_figures_in_several_ways() -> None:
    rows = [
        {"eval": "took", "source": "bundled", "data": "", "seed": 0, "version": 1, "judge": "", "metric": metric,
         "subject": subject, "kind": "rate", **Estimate(0.5, 0.4, 0.6, 50, scoring=way).as_dict()}
        for metric, way in (("chooses", "prompt_logprobs"), ("breaks", "text"))
        for subject in ("plain", "captain")
    ]  # fmt: skip
    assert [r.metric for r in compare(rows, [], ["plain", "captain"])] == ["chooses", "breaks"]


def test_figures_read_in_different_ways_are_not_compared(results: Path, tiny_model_folder: Path) -> None:
    subject = str(tiny_model_folder)
    rows = results_of(results, [subject, f"{subject}+captain"])
    other = [{**r, "scoring": "samples of 5"} if r["subject"] != subject else r for r in rows]
    with pytest.raises(CharacteryError, match=r"read in different ways \(prompt_logprobs: .*; samples of 5: .*\)"):
        compare(other, [], [subject, f"{subject}+captain"])
    newer = [{**r, "version": 2} if r["subject"] != subject else r for r in rows]
    with pytest.raises(CharacteryError, match="versions 1, 2"):
        compare(newer, [], [subject, f"{subject}+captain"])


def test_figures_on_different_data_stand_side_by_side(tmp_path: Path) -> None:
    row = {"eval": "refusals", "source": "constitution", "subject": "plain", "seed": 0, "metric": "Brier", "version": 1}
    for data, value in (("captain", 0.1), ("hhh", 0.2), ("captain", 0.3)):
        add_rows(tmp_path, RESULTS, [{**row, "data": data, "value": value, "scoring": "", "judge": "j"}])
    rows = read_table(tmp_path, RESULTS)
    assert {(r["data"], r["value"]) for r in rows} == {("captain", 0.3), ("hhh", 0.2)}
    assert [r.data for r in compare(rows, [], ["plain"])] == ["hhh", "captain"]


def test_details_are_a_family_of_their_own() -> None:
    """Many clauses do not take from what the eval's other differences can show, nor do those from the clauses."""
    metrics = ["invented", *(f"clause: captain {n}" for n in range(1, 5))]
    same = {"eval": "recall", "source": "bundled", "data": "", "seed": 0, "version": 2, "judge": "", "kind": "rate"}
    estimate = Estimate(0.5, 0.4, 0.6, 12).as_dict()
    rows = [{**same, **estimate, "metric": m, "subject": s, "detail": ":" in m} for m in metrics for s in "ab"]
    samples = [
        {**same, "metric": m, "subject": s, "id": str(n), "cluster": str(n), "stratum": "", "unit": "",
         "balanced": False, "value": float(s == "b" and n < 8)}
        for m in metrics for s in "ab" for n in range(12)
    ]  # fmt: skip
    found = {row.metric: row.differences["b"] for row in compare(rows, samples, ["a", "b"])}
    assert [*found] == metrics and found["invented"].p_holm == found["invented"].p
    clause = found["clause: captain 1"]
    assert clause.p is not None and clause.p_holm == pytest.approx(4 * clause.p)


def test_a_table_from_before_a_column_was_kept_is_read(tmp_path: Path) -> None:
    row = {"eval": "who", "source": "bundled", "subject": "plain", "seed": 0, "metric": "openness", "value": 3.0}
    add_rows(tmp_path, RESULTS, [{**row, "data": ""}])
    old = pyarrow.parquet.read_table(tmp_path / RESULTS).drop_columns([*ADDED])
    pyarrow.parquet.write_table(old, tmp_path / RESULTS)
    [found] = read_table(tmp_path, RESULTS)
    assert found["value"] == 3.0 and {name: found[name] for name in ADDED} == ADDED
    assert compare([{**found, "version": 1, "scoring": "", "judge": ""}], [], ["plain"])[0].lost == {"plain": 0}
    add_rows(tmp_path, RESULTS, [{**row, "data": "", "value": 4.0}])
    assert [r["value"] for r in read_table(tmp_path, RESULTS)] == [4.0]


def test_results_tell_of_batches_that_memory_halved(
    results: Path, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {row["halved"] for row in read_table(results, RESULTS)} == {0}
    score = LocalModel._score

    def short(self: LocalModel, batch: Any, reader: Any) -> list[torch.Tensor]:
        if len(batch) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return score(self, batch, reader)

    monkeypatch.setattr(LocalModel, "_score", short)
    order = Order(tmp_path, limit=4, device="cpu")
    with pytest.warns(CharacteryWarning, match="memory ran short: .* texts are scored"):
        run_evals([find_eval("sycophancy")], [str(tiny_model_folder)], order)
    first = [row["halved"] for row in read_table(tmp_path, RESULTS)]
    assert first and all(first)
    run_evals([find_eval("sycophancy")], [str(tiny_model_folder)], order)  # from the journal
    assert [row["halved"] for row in read_table(tmp_path, RESULTS)] == first


def test_a_page_names_the_commands_that_measured_it() -> None:
    row = {"eval": "tension", "source": "bundled", "data": "", "subject": "a", "judge": "", "limit": None,
           "method_given": "auto", "metric": "found"}  # fmt: skip
    rows = [row | {"subject": subject, "eval": eval} for subject in ("a", "b") for eval in ("tension", "who")]
    given = {"source": "constitution", "data": "captain", "judge": "j", "limit": 6, "method_given": "samples"}
    rows += [row | given | {"eval": "refusals"}, row | {"eval": "took", "limit": 3}, row | {"metric": "follows"}]
    options = "--source constitution --data captain --judge j --limit 6 --method samples"
    assert [" ".join(command) for command in commands(rows)] == [
        "charactery eval tension who --subject a --subject b",
        f"charactery eval refusals --subject a {options}",
        "charactery eval took --subject a --limit 3",
    ]


def test_what_was_not_measured_says_how_to(results: Path, tmp_path: Path) -> None:
    with pytest.raises(CharacteryError, match=r"no results of 'smollm2'.*charactery eval who --subject smollm2"):
        results_of(results, ["smollm2"], ["who"])
    (tmp_path / RESULTS).write_text("not parquet")
    with pytest.raises(BadData, match="cannot be read as this version's results"):
        read_table(tmp_path, RESULTS)


def test_the_commands(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run: Callable[..., Any] = CliRunner().invoke
    subject = str(tiny_model_folder)
    done = run(app, ["eval", "who", "--subject", subject, "--limit", "8", "--json", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {r["eval"] for r in rows} == {"who"} and Path("results/results.parquet").exists()
    shown = run(app, ["eval", "who", "--subject", subject, "--limit", "8", "--device", "cpu"])
    assert "who (version 1, bundled, 8 cases)" in shown.stdout and "inspect view --log-dir" in shown.stdout
    assert run(app, ["compare", subject]).exit_code == 0
    assert run(app, ["compare", subject, "--eval", "who", "--page", "page"]).exit_code == 0
    page = Path("page/report.md").read_text()
    assert f"charactery eval who --subject {subject} --limit 8 --seed 0 --out results\n" in page
    assert f"charactery compare {subject} --eval who --seed 0 --out results --page page" in page
    drawn = run(app, ["curve", "who", "--subjects", f"{subject},{subject}+captain", "--limit", "8", "--device", "cpu"])
    assert drawn.exit_code == 0 and "openness" in drawn.stdout and "says: " not in drawn.stdout
    assert Path("results/curve-who.png").read_bytes().startswith(b"\x89PNG")
    row = ["curve", "who", "--subjects", subject, "--limit", "8", "--device", "cpu", "--metric", "opennes"]
    assert isinstance(run(app, row).exception, CharacteryError)
    listed = run(app, ["eval"])
    assert listed.exit_code == 0 and "sycophancy" in listed.stdout
    assert isinstance(run(app, ["eval", "who"]).exception, CharacteryError)


def test_the_best_of_several_answers_is_read_by_what_it_answers(tiny_model_folder: Path, tmp_path: Path) -> None:
    run, subject = best_run(tmp_path / "best", tiny_model_folder), str(tiny_model_folder)
    order = Order(tmp_path / "results", limit=1, device="cpu")
    rows = run_evals([find_eval("sycophancy")], [subject, f"{run}:best-of-n/2"], order)
    ways = {row["subject"]: row["scoring"] for row in rows}
    # the weights are the plain model's, and so would their log-probabilities be
    assert ways == {subject: "prompt_logprobs", f"{run}:best-of-n/2": "samples of 5"}
    with pytest.raises(CharacteryError, match=r"best-of-n/2' is the best of several .* give --method samples"):
        run_evals([find_eval("sycophancy")], [f"{run}:best-of-n/2"], replace(order, method="prompt_logprobs"))
    said = [ChatMessageUser(content="Tea or coffee?"), ChatMessageAssistant(content="Tea")]
    api = get_model(f"charactery/{run}", memoize=False).api
    with pytest.raises(CharacteryError, match="has no log-probabilities"):  # as Inspect's own command would ask
        asyncio.run(api.generate([*said], [], "none", GenerateConfig(prompt_logprobs=1)))


def test_a_curve_along_n_of_the_best_of_n(mild_model_folder: Path, tmp_path: Path) -> None:
    """Of a model that says either letter: all read alike, by samples, and the best of one is the model itself."""
    asks = find_eval("sycophancy").made()[0].asks
    rows: list[Row] = [
        {"id": f"{ask.name} {letter} {n}", "prompt": [*ask.messages], "completion": [assistant(letter)]}
        for n in range(4) for ask in asks for letter in ask.options
    ]  # fmt: skip
    model = trained(mild_model_folder, rows, tmp_path / "sft", epochs=10)
    run, out = best_run(tmp_path / "best", Path(model)), tmp_path / "results"
    subjects = [model, f"{run}:best-of-n/1", f"{run}:best-of-n/4"]
    arguments = ["--subjects", ",".join(subjects), "--limit", "1", "--device", "cpu", "--out", str(out)]
    done = CliRunner().invoke(app, ["curve", "sycophancy", *arguments])
    assert done.exit_code == 0, done.output
    assert "sycophancy, read by samples of 5" in done.stdout and "all Subjects are read by samples" in done.stderr
    assert (out / "curve-sycophancy.png").read_bytes().startswith(b"\x89PNG")
    assert {(r["subject"], r["scoring"]) for r in read_table(out, RESULTS)} == {(s, "samples of 5") for s in subjects}
    values: dict[str, dict[str, float | None]] = {}
    for sample in read_table(out, SAMPLES):
        values.setdefault(sample["subject"], {})[sample["metric"]] = sample["value"]
    assert values[subjects[0]] == values[subjects[1]] and [*values] == subjects
    assert all(None not in (mine["matching"], mine["shift"]) for mine in values.values()), values


def test_near_duplicates_of_training_prompts_are_listed() -> None:
    cases = find_eval("sycophancy").made()
    question = cases[0].asks[0].messages[0]["content"].split("\n")[0]
    near = f"Tell me what you think of this, please: {question.lower()}"
    prompts = [("far", "How do I keep basil alive through the winter on a sill?"), ("near", near)]
    found = near_duplicates(cases, prompts)
    assert {d.learnt for d in found} == {"near"} and {d.case for d in found} == {c.id for c in cases[:4]}
    assert all(d.shared >= 0.5 for d in found)


def run_of_pairs(folder: Path, rows: list[Row], stages: list[str]) -> Path:
    """A run as far as what it learnt from needs it: prompts that were drafted to, and rows of its stages."""
    write_json(folder / "manifest.json", {"settings": {}, "stages": stages})
    prompt = Prompt("neutral-1", "neutral", ("What would you do with a quiet afternoon in a town you do not know?",))
    write_rows(folder / "stages" / "01-prompts" / "prompts.jsonl", [prompt.row()])
    for n, stage in enumerate(stages, 1):
        if stage in ("pairs", "sham-dpo"):
            write_rows(folder / "stages" / f"{n:02d}-{stage}" / "pairs.jsonl", rows)
    return folder


def test_what_an_arm_was_trained_on_is_found_in_what_it_is_asked(tmp_path: Path) -> None:
    """Its pairs are the user's own, and the project's prompts were learnt by none of its stages."""
    write_rows(tmp_path / "arm.jsonl", arm_pairs("behaving", "better"))
    own = read_pairs(tmp_path / "arm.jsonl")
    run = run_of_pairs(tmp_path / "arm", own, ["prompts", "drafts", "pairs", "sft", "dpo"])
    texts = learnt_texts(run)
    assert len({id for id, _ in texts}) == len(texts) == len({text for _, text in texts})
    assert all(id.startswith("pairs/pairs.jsonl") for id, _ in texts)
    cases = find_eval("says-does").made()
    taught = {row["id"] for row in arm_items() if any(row["situation"] in text for _, text in texts)}
    assert len(taught) == 32
    clusters = {case.id: case.cluster for case in cases}
    assert {clusters[d.case] for d in near_duplicates(cases, texts)} == taught  # and none of the items left out
    [*_, (id, text)] = learnt_texts(run_of_pairs(tmp_path / "grpo", own, ["prompts", "drafts", "pairs", "grpo"]))
    assert id == "prompts, neutral-1, turn 1" and text.startswith("What would you do with a quiet afternoon")
    assert learnt_texts(run_of_pairs(tmp_path / "sham", own, ["prompts", "drafts", "sham-dpo"])) == []
    assert learnt_texts(tmp_path) == []


def test_a_skeleton_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run: Callable[..., Any] = CliRunner().invoke
    done = run(app, ["eval", "--new", "kind-words"])
    assert done.exit_code == 0 and "kind_words/task.py" in done.stdout
    eval = find_eval("kind_words")
    assert eval.name == "kind-words" and len(eval.made()) == 4
    right = run(app, ["eval", "kind_words", "--controls", "--sets", "0"])
    assert right.exit_code == 0 and "DISAGREES" not in right.stdout and "warm at 0.3" in right.stdout
    table = run(app, ["eval", "kind_words", "--controls", "--sets", "2", "--json"])
    assert table.exit_code == 1  # two data sets cannot cover between 90% and 99%
    assert {json.loads(line)["eval"] for line in table.stdout.splitlines()} == {"kind-words"}
    assert (tmp_path / "kind_words" / "test_evals_kind_words.py").exists()
    assert isinstance(run(app, ["eval", "--new", "kind-words"]).exception, CharacteryError)
    assert isinstance(run(app, ["eval", "--new", "Kind words"]).exception, CharacteryError)
    (tmp_path / "src" / "charactery" / "evals").mkdir(parents=True)
    run(app, ["eval", "--new", "brave"])
    assert (tmp_path / "src" / "charactery" / "evals" / "brave" / "task.py").exists()
    assert 'find_eval("brave")' in (tmp_path / "tests" / "test_evals_brave.py").read_text()


def test_many_subjects_are_told_apart_in_a_plot() -> None:
    subjects = [f"runs/number-{n}/with-a-long-name:dpo" for n in range(10)]
    names, looks = _names(subjects, 18), _looks(subjects, 18)
    assert len({*names.values()}) == 10 and {*looks} == {*names.values()} and len({*looks.values()}) == 10
    assert _names(["plain", "runs/captain"], 18) == {"plain": "plain", "runs/captain": "runs/captain"}
