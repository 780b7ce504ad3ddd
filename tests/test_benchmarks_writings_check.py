"""Precision and recall of the check of writings, from labels of texts that were drawn from strata."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # where `benchmarks` lies

from benchmarks.writings_check import LABELS, STRATA, LabelledText, figures

from charactery.runs import read_rows
from charactery.stats import wilson

# 4 of 40 suspects and 2 of 20 others were read: each stands for ten.
READ = [
    LabelledText("a", "suspects", "caption"), LabelledText("b", "suspects", "own"),
    LabelledText("c", "suspects", "other hand"),
    LabelledText("d", "suspects", "own"), LabelledText("e", "rest", "quotation"), LabelledText("f", "rest", "own"),
]  # fmt: skip
KINDS = {"a": {"caption", "duplicate"}, "b": {"duplicate"}, "c": {"other hand"}, "d": {"quotation", "other hand"}}


def test_precision_leaves_out_what_is_only_double() -> None:
    given = figures(READ, KINDS, {"suspects": 40, "rest": 20})
    assert (given["precision"].value, given["precision"].n) == (pytest.approx(2 / 3), 3)
    assert (given["precision"].low, given["precision"].high) == pytest.approx(wilson(2, 3))
    by_kind = {name.removeprefix("precision, "): f.value for name, f in given.items() if "," in name}
    assert by_kind == {"caption": 1.0, "other hand": pytest.approx(0.5), "quotation": 0.0}


def test_recall_weighs_strata_by_what_they_hold() -> None:
    assert figures(READ, KINDS, {"suspects": 40, "rest": 20})["recall"].value == pytest.approx(2 / 3)
    of_many = figures(READ, KINDS, {"suspects": 40, "rest": 180})["recall"]
    assert of_many.value == pytest.approx(20 / (20 + 90)) and of_many.n == 3
    assert of_many.low is not None and of_many.high is not None and 0 <= of_many.low < of_many.value < of_many.high <= 1
    newly = figures(READ, KINDS | {"e": {"quotation"}}, {"suspects": 40, "rest": 180})
    assert newly["recall"].value == 1.0
    assert newly["precision"].value == pytest.approx((20 + 90) / (30 + 90))  # e stands for 90


def test_nothing_found_and_nothing_doubted() -> None:
    given = figures([LabelledText("f", "rest", "own")], {}, {"rest": 9})
    assert given["precision"].value is None and given["recall"].value is None


def test_the_labels() -> None:
    rows = read_rows(LABELS)
    assert len({row["line"] for row in rows}) == len(rows) == 300  # no text of one sample is in the other
    assert {row["label"] for row in rows} == {"own", "caption", "quotation", "other hand", "caption+other hand"}
    assert {(row["sample"], row["stratum"]) for row in rows} == {(n, one) for n, held in STRATA.items() for one in held}
