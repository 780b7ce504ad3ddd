"""What the speed table is made of: passes in turn, the fastest setting of the peer, and outputs that must be alike."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from charactery.models.local import LocalModel
from charactery.runs import write_json, write_rows

sys.path.insert(0, str(Path(__file__).parents[1]))  # where `benchmarks` lies

from benchmarks.speed import figures
from benchmarks.speed.measure import Pass, Row, measured
from benchmarks.speed.score_rows import close, scoring
from benchmarks.speed.train_rows import beside

LIMITS = {"bfloat16 operations/s": 100.0, "bytes/s": 10.0}


def fake(peers: dict[str, float], calls: list[str], **others: Any) -> Row:
    """Ours does 12 in 2 s; each peer does 12 in so many seconds, or is broken at 0."""

    def passes(name: str, seconds: float) -> Callable[[], Pass]:
        def work() -> Pass:
            calls.append(name)
            if not seconds:
                raise RuntimeError("no such setting")
            return Pass(name, 12.0, seconds)

        return work

    return Row(**{
        "name": "row", "work": "", "peer": "peer", "unit": "rows", "target": 2.0, "ours": passes("ours", 2.0),
        "peers": {name: passes(name, seconds) for name, seconds in peers.items()},
        "compare": lambda a, b: (f"{a} beside {b}", True), "operations": lambda done: 10 * done.amount,
        "arithmetic": "", **others,
    })  # fmt: skip


def test_ours_is_set_against_the_fastest_setting_of_the_peer_in_turn() -> None:
    calls: list[str] = []
    found = measured(fake({"slow": 9.0, "broken": 0.0, "fast": 5.0}, calls), 3, limits_now=lambda: LIMITS)
    assert calls == ["slow", "broken", "fast", "slow", "fast", "ours", *["ours", "fast"] * 3]
    assert found["best"] == "fast" and found["ratio"] == {"median": 2.5, "low": 2.5, "high": 2.5}
    assert (found["ours"], found["peer"], found["unit"]) == (6.0, 12 / 5, "rows/s")
    assert found["sweep"] == {"slow": 12 / 9, "fast": 12 / 5, "broken": "RuntimeError: no such setting"}
    assert found["bound_seconds"] == 1.2 and found["bound_share"] == 0.6  # 120 operations at 100 a second, in 2 s
    assert found["outputs"] == "ours beside fast" and found["alike"] is True
    assert len(found["seconds"]["peer"]) == 3
    assert len(measured(fake({"one": 5.0}, []), 3, None, lambda: LIMITS, within=0)["seconds"]["peer"]) == 1
    by_memory = measured(fake({"one": 5.0}, [], bytes_read=lambda done: 15.0), 1, limits_now=lambda: LIMITS)
    assert by_memory["bound_seconds"] == 1.5


def test_the_ratio_is_of_rates_and_the_ceiling_the_better_of_two_looks() -> None:
    row = replace(fake({"one": 5.0}, []), ours=lambda: Pass("ours", 24.0, 2.0))
    limits = iter([{name: share * value for name, value in LIMITS.items()} for share in (2, 1)])
    found = measured(row, 1, limits_now=lambda: next(limits))
    assert found["ratio"]["median"] == (24 / 2) / (12 / 5) and found["bound_seconds"] == 240 / 200


def test_what_an_earlier_sweep_found_is_taken_unless_it_hangs_on_the_size() -> None:
    for sized, tried in ((False, []), (True, ["slow", "fast"] * 2)):
        calls: list[str] = []
        measured(fake({"slow": 9.0, "fast": 5.0}, calls, sized=sized), 1, "slow", lambda: LIMITS)
        assert calls == [*tried, "ours", "ours", "fast" if sized else "slow"]


def test_a_setting_is_swept_by_a_part_of_the_work_where_the_whole_takes_long() -> None:
    calls: list[str] = []
    whole = fake({"slow": 9.0, "fast": 5.0}, calls)
    part = fake({"a part, slowly": 3.0, "a part, fast": 2.0}, calls)
    row = replace(whole, trials=dict(zip(whole.peers, part.peers.values(), strict=True)))
    found = measured(row, 1, limits_now=lambda: LIMITS)
    assert calls == [*["a part, slowly", "a part, fast"] * 2, "ours", "ours", "fast"]
    assert found["sweep"] == {"slow": 4.0, "fast": 6.0} and found["peer"] == 12 / 5


def test_outputs_that_are_not_alike_are_said_to_be_so() -> None:
    differ = fake({"one": 5.0}, [], compare=lambda a, b: ("apart", False))
    assert measured(differ, 1, limits_now=lambda: LIMITS)["alike"] is False
    assert close(4)([-2.0, -3.0], [-2.1, -3.2])[1] and not close(4)([-2.0, -3.0], [-2.1, -4.0])[1]
    assert beside(0.1)([2.0, 1.0], [2.1, 0.95])[1] and not beside(0.1)([2.0, 1.0], [2.0, 1.2])[1]
    assert not beside(0.2)([0.693, 0.693], [0.693, 0.586])[1], "what learnt nothing is not like what did"
    assert beside(0.1)([2.0, 1.0], [1.5])[1] and not beside(0.1)([2.0, 1.0], [1.4])[1]


def test_a_pass_reads_again_what_the_one_before_began_with(
    tiny_model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer reads a constitution in every pass; so does ours, though its decoder would still know it."""
    context = list(range(5, 35))
    pairs = [([*context, n], [n + 1]) for n in (40, 50, 60)]
    row = scoring(tiny_model, pairs, len(pairs), lambda: pairs)
    first = row["ours"]()
    decoder = tiny_model._bare.thing
    assert decoder is not None and decoder._shared[0] == tuple(context)
    read: list[int] = []
    reads = type(decoder)._through

    def watched(self: Any, *given: Any) -> Any:
        read.append(1)
        return reads(self, *given)

    monkeypatch.setattr(type(decoder), "_through", watched)
    tiny_model.score(pairs)
    known = len(read)
    assert row["ours"]().output == first.output and len(read) == 2 * known + 1


def test_figures_of_two_readings_are_held_together(tmp_path: Path) -> None:
    """Of the same adapter, by ours and by the plain one: inside, overlapping or apart, and how far pair by pair."""
    run = tmp_path / "run"
    write_json(run / "manifest.json", {"settings": {}, "stages": [], "command": "charactery train captain"})

    def estimate(value: float | None, half: float) -> dict[str, Any]:
        ends = {"low": None, "high": None} if value is None else {"low": value - half, "high": value + half}
        return {"value": value, **ends, "n": 8, "missing": 0, "method": "", "unit": "", "scoring": ""}

    def figure(metric: str, told: dict[str, Any]) -> dict[str, Any]:
        return {"eval": "cost", "metric": metric, "subject": "trained", "condition": "", "trait": "", "estimate": told}

    values = {"ours": (0.5, 0.5, 0.5, 1.0, None), "plain": (0.55, 0.65, 0.9, 1.01, 0.4)}
    for side, (inside, overlap, apart, single, unknown) in values.items():
        folder = tmp_path / side
        write_json(folder / "figures.json", [
            figure("inside", estimate(inside, 0.1)), figure("overlap", estimate(overlap, 0.1)),
            figure("apart", estimate(apart, 0.1)), figure("single", estimate(single, 0.0)),
            figure("unknown", estimate(unknown, 0.1)),
        ])  # fmt: skip
        write_json(folder / "took.json", {"seconds": 1, "threads": 1, "every": 1})
        lift = 0.5 if side == "plain" else 0.0
        write_rows(folder / "samples.jsonl", [
            {"eval": "expression", "subject": "trained", "condition": "turn 1", "id": str(n), "value": n % 3 / 4}
            for n in range(12)
        ])  # fmt: skip
        write_rows(folder / "margins.jsonl", [
            {"trait": "", "subject": "trained", "condition": "turn 1", "id": str(n), "value": n / 40 + more}
            for n, more in enumerate([lift, lift * 10 / 9] * 6)
        ])  # fmt: skip
    text = figures.page(run, tmp_path)
    assert "Of 3 figures with an interval on both sides, 1 of the plain values (33%)" in text
    assert "intervals of 2 (66.7%) overlap" in text
    assert "1 figures, of one text or all alike, have none; they differ by 0.0100 at most" in text
    assert "Of 2 differences pair by pair, the intervals of 1 (50%) hold 0" in text
    assert "The others, ours less plain: likelihood trained turn 1: -0.52" in text
    rows = {
        line.split(" | ")[1]: line.rstrip("| ").split(" | ")[-1] for line in text.splitlines() if "| cost |" in line
    }
    assert rows == {"inside": "inside", "overlap": "overlap", "apart": "apart", "single": "no interval",
                    "unknown": "not measured on both sides"}  # fmt: skip
