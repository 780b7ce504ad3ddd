"""Subjects side by side: which differences are tested and in which family, and what the page says of them."""

from pathlib import Path

import pytest

from charactery.evals.asks import by_shares
from charactery.evals.comparison import Compared, Difference, compare, difference
from charactery.evals.registry import find_eval
from charactery.evals.results import RESULTS, add_rows, commands, figure_rows, read_table, sample_rows
from charactery.report.comparison import _looks, _names, write_page
from charactery.runs import Row
from charactery.stats import Estimate


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


def test_an_eval_may_read_its_figures_in_several_ways() -> None:
    rows = [
        {"eval": "took", "source": "bundled", "data": "", "seed": 0, "version": 1, "judge": "", "metric": metric,
         "subject": subject, "kind": "rate", **Estimate(0.5, 0.4, 0.6, 50, scoring=way).as_dict()}
        for metric, way in (("chooses", "prompt_logprobs"), ("breaks", "text"))
        for subject in ("plain", "captain")
    ]  # fmt: skip
    assert [r.metric for r in compare(rows, [], ["plain", "captain"])] == ["chooses", "breaks"]


def test_figures_on_different_data_stand_side_by_side(tmp_path: Path) -> None:
    row = {"eval": "refusals", "source": "constitution", "subject": "plain", "seed": 0, "metric": "Brier", "version": 1}
    for data, value in (("captain", 0.1), ("hhh", 0.2), ("captain", 0.3)):
        add_rows(tmp_path, RESULTS, [{**row, "data": data, "value": value, "scoring": "", "judge": "j"}])
    rows = read_table(tmp_path, RESULTS)
    assert {(r["data"], r["value"]) for r in rows} == {("captain", 0.3), ("hhh", 0.2)}
    assert [r.data for r in compare(rows, [], ["plain"])] == ["hhh", "captain"]


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


def test_many_subjects_are_told_apart_in_a_plot() -> None:
    subjects = [f"runs/number-{n}/with-a-long-name:dpo" for n in range(10)]
    names, looks = _names(subjects, 18), _looks(subjects, 18)
    assert len({*names.values()}) == 10 and {*looks} == {*names.values()} and len({*looks.values()}) == 10
    assert _names(["plain", "runs/captain"], 18) == {"plain": "plain", "runs/captain": "runs/captain"}
