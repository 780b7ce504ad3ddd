"""How far a judge can be trusted, asked on the command line: stopped, it goes on."""

import json
from pathlib import Path

import pytest

from charactery.judges.labelled import HERE, chance_corrected, labelled_pairs
from charactery.runs import read_rows, write_rows
from run_fixtures import ASSASSIN, charactery


@pytest.mark.parametrize("judge", ["likelihood", "smollm2"])
def test_a_judge_that_was_killed_is_asked_for_nothing_twice(judge: str, talking_cache: Path, tmp_path: Path) -> None:
    command = ["judge", judge, "--limit", "18", "--json", "--out"]  # of two characters
    whole = charactery(talking_cache, *command, str(tmp_path / "whole"))
    out = tmp_path / "killed"
    killed = charactery(
        talking_cache, "charactery.runs:Journal.add", "2", "before", *command, str(out), code=ASSASSIN
    )  # fmt: skip
    assert killed.returncode == -9 and not killed.stdout, killed.stderr
    [journal] = out.glob("*/batches.jsonl")
    before = journal.read_bytes()
    resumed = charactery(talking_cache, *command, str(out))
    assert resumed.returncode == 0, resumed.stderr
    assert before and journal.read_bytes().startswith(before)
    one, other = (json.loads(done.stdout) for done in (whole, resumed))
    assert {**one, "seconds": 0} == {**other, "seconds": 0} and one["pairs"] == 18
    again = journal.read_bytes()
    assert charactery(talking_cache, *command, str(out)).returncode == 0 and journal.read_bytes() == again


def test_a_judge_is_tested_on_the_users_own_pairs(talking_cache: Path, tmp_path: Path) -> None:
    rows = read_rows(HERE / "pairs.jsonl")[:8]
    write_rows(tmp_path / "same.jsonl", rows)
    command = ["judge", "likelihood", "--json", "--out", str(tmp_path / "judged")]
    shipped = json.loads(charactery(talking_cache, *command, "--limit", "8").stdout)
    done = charactery(talking_cache, *command, "--pairs", str(tmp_path / "same.jsonl"))
    assert done.returncode == 0, done.stderr
    mine = json.loads(done.stdout)
    assert mine.pop("file") == str(tmp_path / "same.jsonl")
    assert {**mine, "seconds": 0} == {**shipped, "seconds": 0} and mine["pairs"] == 8

    long = [{k: row[k] for k in ("prompt", "better", "worse", "character")} for row in rows]
    for row in long:
        row["better"] += " And so it went on, hour by hour, until the whole of the night watch had gone below to sleep."
    write_rows(tmp_path / "long.jsonl", long)
    told = charactery(talking_cache, *command[:2], *command[3:], "--pairs", str(tmp_path / "long.jsonl"))
    assert told.returncode == 0 and "by length alone            1 [" in told.stdout, told.stdout + told.stderr
    assert len([*(tmp_path / "judged").iterdir()]) == 3, "seconds are of each set by itself"
    assert "length gives the better answer away" in told.stdout and "likelihood: 8 pairs" in told.stdout
    assert "kappa" in told.stdout and "easy" not in told.stdout, "what a pair does not say is no group"

    write_rows(tmp_path / "long.jsonl", [long[0], long[1] | {"character": "captian"}])
    wrong = charactery(talking_cache, *command, "--pairs", str(tmp_path / "long.jsonl"))
    assert wrong.returncode == 2 and not wrong.stdout and "Traceback" not in wrong.stderr
    assert f"{tmp_path / 'long.jsonl'}:2: " in wrong.stderr and "Did you mean captain?" in wrong.stderr


def test_chance_is_taken_off() -> None:
    pairs = labelled_pairs()[:40]
    assert chance_corrected(pairs, [True] * 40).value == 1.0 and chance_corrected(pairs, [False] * 40).value == -1.0
    first = chance_corrected(pairs, [n % 2 == 0 for n in range(40)]).value  # always the answer that is shown first
    assert first == pytest.approx(0, abs=0.01)
    some = chance_corrected(pairs, [None] * 10 + [True] * 30)
    assert (some.value, some.n, some.missing) == (1.0, 30, 10)
