"""Figures from judged samples: bits per byte pool texts by their bytes; likelihoods are paired by prompt."""

from types import SimpleNamespace
from typing import Any

import pytest

from charactery.evals.measures import Measured, _cost, _likelihood, figures, verdicts
from charactery.judges.classifier import BESIDE_OTHERS, OTHERS, SHUFFLED
from charactery.models.chat import user
from charactery.runs import Row
from charactery.stats import Estimate, mean, nothing

NO_JUDGE: Any = None


def gathered(found: list[tuple[Any, ...]]) -> Any:
    def add(task: str, metric: str, estimate: Any, subject: str = "", condition: str = "", trait: str = "") -> None:
        found.append(((task, metric, subject, condition, trait), estimate))

    return add


def text(subject: str, id: str, content: str, value: float, condition: str = "prose: news") -> Row:
    messages = [{"role": "user", "content": content}]
    return {"subject": subject, "eval": "cost", "condition": condition, "id": id, "value": value, "answer": "",
            "messages": messages}  # fmt: skip


def test_bits_per_byte_weigh_texts_by_their_bytes() -> None:
    short, long = "Heading", "ü" * 1000  # 7 bytes and 2000
    rows = [
        text("plain", "a", short, 8.0), text("plain", "b", long, 1.0),
        text("trained", "a", short, 80.0), text("trained", "b", long, 1.1),
    ]  # fmt: skip
    found: list[tuple[Any, ...]] = []
    _cost(Measured(rows, [], NO_JUDGE, ("plain", "trained")), gathered(found), 0)
    by_key = dict(found)
    plain = by_key["cost", "bits per byte", "plain", "prose", ""]
    assert plain.value == pytest.approx((7 * 8 + 2000 * 1) / 2007) and plain.unit == "bits/byte" and plain.n == 2
    ratio = by_key["cost", "bits per byte ratio", "trained", "prose", ""]
    assert ratio.value == pytest.approx((7 * 80 + 2000 * 1.1) / (7 * 8 + 2000 * 1))
    assert by_key["cost", "bits per byte", "plain", "prose: news", ""] == plain


def test_likelihoods_are_paired_by_prompt_in_each_condition() -> None:
    margins = [
        {"subject": s, "condition": c, "trait": "", "id": id, "value": base + offset}
        for s, offset in (("plain", 0.0), ("prompted", 0.5), ("trained", 0.3))
        for c, ids in (("turn 1", "abc"), ("turn 3", "xyz"))
        for id, base in zip(ids if s != "trained" else reversed(ids), (1.0, 5.0, 9.0) if s != "trained" else (9, 5, 1),
                            strict=True)
    ]  # fmt: skip
    found: list[tuple[Any, ...]] = []
    _likelihood(Measured([], margins, NO_JUDGE, ("plain", "prompted", "trained")), gathered(found), 0)
    by_key = dict(found)
    for condition in ("turn 1", "turn 3"):
        less_plain = by_key["expression", "likelihood difference from plain", "trained", condition, ""]
        less_prompted = by_key["expression", "likelihood difference from prompted", "trained", condition, ""]
        assert less_plain.value == pytest.approx(0.3) and less_prompted.value == pytest.approx(-0.2)
        assert less_plain.low is less_prompted.high is None  # each pair alike: by other pairs they would differ


def test_what_is_all_alike_and_has_no_interval_holds_its_bound() -> None:
    told = mean([1.0] * 8)
    rows = [
        {"eval": "expression", "metric": "ratio to prompted", "subject": "trained", "condition": "turn 1", "trait": "",
         "estimate": told.as_dict()}
    ]  # fmt: skip
    held = {v["name"]: v["held"] for v in verdicts(rows)}
    assert told.low is None and held["expression at least 0.8 of prompted"] is True
    assert held["lower end of that ratio above 0.65"] is True


def test_repetition_is_over_held_out_answers_by_prompt() -> None:
    loop, fresh = "aye lad aye lad aye lad aye", "one two three four five six seven"

    def said(subject: str, id: str, condition: str, answer: str) -> Row:
        return {"subject": subject, "eval": "expression", "condition": condition, "id": id, "value": 1.0,
                "answer": answer, "messages": []}  # fmt: skip

    rows = [
        said("plain", "a", "turn 1", loop), said("plain", "a/terse", "foreign: terse", fresh),
        said("plain", "b", "turn 1", fresh), said("plain", "c", "turn 3", loop), said("plain", "d", "elsewhere", loop),
        said("trained", "a", "turn 1", fresh), said("trained", "a/terse", "foreign: terse", fresh),
        said("trained", "b", "turn 1", loop), said("trained", "c", "turn 3", ""),
        said("trained", "d", "elsewhere", loop),
    ]  # fmt: skip
    found: list[tuple[Any, ...]] = []
    _cost(Measured(rows, [], NO_JUDGE, ("plain", "trained")), gathered(found), 0)
    by_key = dict(found)
    every = by_key["cost", "repetition", "plain", "held-out", ""]
    assert every.value == pytest.approx((0.25 + 0 + 0.5) / 3) and every.n == 3, "a prompt weighs as one"
    assert by_key["cost", "repetition", "plain", "turn 1", ""].value == pytest.approx(0.25)
    ratio = by_key["cost", "repetition ratio", "trained", "held-out", ""]
    assert (ratio.n, ratio.missing) == (2, 1) and ratio.value == pytest.approx(0.5 / 0.25)
    assert by_key["cost", "repetition ratio", "trained", "turn 1", ""].value == pytest.approx(1.0)


@pytest.mark.parametrize(("value", "held"), [(1.4, True), (1.6, False), (None, None)])
def test_verdicts_find_the_figures_they_judge(value: float | None, held: bool | None) -> None:
    def row(task: str, metric: str, condition: str, value: float | None) -> Row:
        low = None if value is None else value - 0.05
        estimate = Estimate(value, low, value and value + 0.05, 60, 0, "bootstrap").as_dict()
        return {"eval": task, "metric": metric, "subject": "trained", "condition": condition, "trait": "",
                "estimate": estimate}  # fmt: skip

    said = {
        v["name"]: v["held"]
        for v in verdicts([
            row("expression", "ratio to prompted", "turn 1", value),
            row("expression", "difference from plain", "turn 1", value and value - 1.5),
            row("expression", f"difference from {OTHERS}", "turn 1", value and value - 1.5),
            row("expression", "likelihood difference from plain", "turn 1", value and value - 1.5),
            row("cost", "bits per byte ratio", "prose", value and value - 0.4),
            row("cost", "bits per byte ratio", "chat frame", value and value - 0.25),
            row("cost", "repetition ratio", "held-out", value),
        ])
    }  # fmt: skip
    assert said.pop("expression at least 0.8 of prompted") is said.pop("lower end of that ratio above 0.65")
    for clear in ("expression clear of plain", f"expression clear of {OTHERS}", "likelihood clear of plain"):
        assert said.pop(clear) is (None if held is None else not held)
    assert said == {
        "expression clear of sham": None, "bits per byte on prose at most 1.1 times plain": held,
        "bits per byte in the chat frame at most 1.25 times plain": held,
        "repetition at most 1.5 times plain": held, "a 50:50 mixture recovered": None,
    }  # fmt: skip


# -- what a run is judged by, from answers whose figures are known


def answered(subject: str, condition: str, values: str) -> list[Row]:
    """A row a character: 1 in character, 0 not, . without a verdict."""
    score = {"1": 1.0, "0": 0.0, ".": None}
    return [
        {"subject": subject, "eval": "expression", "condition": condition, "id": f"{condition} {n}",
         "value": score[v], "answer": "Aye.", "messages": []}
        for n, v in enumerate(values)
    ]  # fmt: skip


def told(rows: list[Row]) -> dict[tuple[str, str, str, str], Estimate]:
    judge: Any = SimpleNamespace(auc={"plain": nothing(), OTHERS: nothing()}, length_auc=nothing())
    found, _ = figures(Measured(rows, [], judge, ("plain", "prompted", "trained")), 0)
    return {
        (f["eval"], f["metric"], f["subject"], f["condition"]): Estimate(**f["estimate"])
        for f in found if f["eval"] in ("expression", "elsewhere", "judge", "controls")
    }  # fmt: skip


def test_figures_say_what_the_answers_say() -> None:
    rows = [
        *answered("plain", "turn 1", "0000010000"), *answered("prompted", "turn 1", "1111111100"),
        *answered("trained", "turn 1", "11111100.0"), *answered(OTHERS, "turn 1", "1000000000"),
        *answered("plain", "elsewhere", "0000"), *answered("prompted", "elsewhere", "1110"),
        *answered("trained", "elsewhere", "1000"), *answered("plain given as prompted", "turn 1", "1100000000"),
        *answered("prompted given as trained", "turn 1", "1111111110"), *answered("mixture", "turn 1", "1111010000"),
    ]  # fmt: skip
    found = told(rows)
    values = {
        ("expression", "rate", "plain", "turn 1"): 0.1,
        ("expression", "rate", "trained", "turn 1"): 6 / 9,
        ("expression", "ratio to prompted", "trained", "turn 1"): 6 / 8,
        ("expression", "difference from plain", "trained", "turn 1"): 5 / 9,
        ("expression", f"difference from {OTHERS}", "trained", "turn 1"): 5 / 9,
        ("elsewhere", "rate", "trained", "elsewhere"): 0.25,
        ("elsewhere", "difference from plain", "trained", "elsewhere"): 0.25,
        ("elsewhere", "difference from prompted", "trained", "elsewhere"): -0.5,
        ("judge", "false-positive rate", "", ""): 0.2,
        ("controls", "rate", OTHERS, "turn 1"): 0.1,
        ("controls", "difference from plain", "plain given as prompted", "turn 1"): 0.1,
        ("controls", "difference from prompted", "prompted given as trained", "turn 1"): 0.1,
        ("controls", "share recovered", "mixture", "turn 1"): (0.5 - 0.1) / (0.8 - 0.1),
    }  # fmt: skip
    assert {key: found[key].value for key in values} == pytest.approx(values)
    assert found["expression", "rate", "trained", "turn 1"].missing == 1


def test_the_likelihood_judges_controls_say_what_passes() -> None:
    margins = {
        "plain": [-0.2, -0.1, 0.0, None], "prompted": [0.3, 0.2, 0.4, 0.1], "trained": [0.1, 0.1, 0.1, 0.1],
        OTHERS: [-0.3, 0.25, -0.1], BESIDE_OTHERS: [0.1, 0.3, 0.2], SHUFFLED: [0.1, 0.3, -0.1, None],
    }  # fmt: skip
    rows = [
        {"subject": subject, "condition": "turn 1", "trait": "", "id": str(n), "value": value}
        for subject, values in margins.items() for n, value in enumerate(values)
    ]  # fmt: skip
    judge: Any = SimpleNamespace(auc={"plain": nothing()}, length_auc=nothing())
    found, _ = figures(Measured([], rows, judge, ("plain", "prompted", "trained")), 0)
    told = {f["metric"]: Estimate(**f["estimate"]) for f in found if f["eval"] == "judge"}
    assert told["likelihood auc"].value == 1.0
    assert told[f"likelihood auc against {OTHERS}"].value == pytest.approx(7 / 9)
    assert told[f"likelihood rate of {OTHERS}"].value == pytest.approx(1 / 3)
    passed = told[f"likelihood rate, {SHUFFLED}"]
    assert passed.value == pytest.approx(2 / 3) and passed.missing == 1
    likelier = told[f"above {SHUFFLED}"]
    assert likelier.value == pytest.approx(2 / 3) and (likelier.n, likelier.missing) == (3, 1)
    assert not any(f["subject"] in (OTHERS, BESIDE_OTHERS, SHUFFLED) for f in found if f["eval"] == "expression")


def test_cost_is_compared_with_plain_and_with_prompted_on_the_same_texts() -> None:
    def row(subject: str, task: str, condition: str, n: int, value: float | None, answer: str = "") -> Row:
        return {
            "subject": subject, "eval": task, "condition": condition, "id": f"{condition} {n}", "value": value,
            "answer": answer, "messages": [user("x" * 10)],
        }  # fmt: skip

    bits = {"plain": 1.0, "prompted": 2.0, "trained": 3.0}
    rows = [row(s, "cost", "chat frame", n, value + n / 10) for s, value in bits.items() for n in range(4)]
    rows += [row(s, "cost", "prose: news", 0, None if s == "prompted" else 1.0) for s in bits]
    rows += [row(s, "expression", "turn 1", n, 1.0, "la " * int(6 * v)) for s, v in bits.items() for n in range(4)]
    right = {"plain": "1111", "prompted": "1100", "trained": "1000"}
    rows += [row(s, "multiple_choice", "facts", n, float(v)) for s, vs in right.items() for n, v in enumerate(vs)]
    judge: Any = SimpleNamespace(auc={"plain": nothing()}, length_auc=nothing())
    found, _ = figures(Measured(rows, [], judge, (*bits,)), 0)
    values = {(f["metric"], f["subject"], f["condition"]): f["estimate"]["value"] for f in found}
    assert values["bits per byte ratio to prompted", "trained", "chat frame"] == pytest.approx(12.6 / 8.6)
    assert values["length ratio to prompted", "trained", "turn 1"] == pytest.approx(1.5)
    assert values["length ratio", "trained", "turn 1"] == pytest.approx(3)
    assert values["difference from prompted", "trained", "all"] == pytest.approx(-0.25)
    assert values["difference from plain", "trained", "all"] == pytest.approx(-0.75)
    assert ("bits per byte ratio to prompted", "trained", "prose") not in values  # nobody prompted reads raw prose
    assert not any("to prompted" in metric for metric, subject, _ in values if subject == "prompted")


def test_a_mixture_that_could_be_anything_is_not_recovered() -> None:
    def held(low: float, high: float) -> bool | None:
        wide = Estimate(0.5, low, high, 60).as_dict()
        row = {"eval": "controls", "metric": "share recovered", "subject": "mixture", "condition": "turn 1"}
        return next(v["held"] for v in verdicts([row | {"trait": "", "estimate": wide}]) if "mixture" in v["name"])

    assert held(0.3, 0.7) is True and held(0.6, 0.9) is False and held(-2.5, 4.0) is False
    assert held(0.39, 1.0) is False
