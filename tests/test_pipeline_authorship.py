"""The authorship judge in training: as the filter of what SFT learns (`person-filter`), and as the reward of GRPO."""

import json
from pathlib import Path

import pytest

from charactery.judges.authorship import ByAuthorship, library
from charactery.models.sentences import SentenceEncoder
from charactery.models.speaker import Models
from charactery.models.subject import parse_subject
from charactery.pipeline.person import SIDES
from charactery.runs import Row, read_rows
from charactery.stats import mean
from run_fixtures import A_PERSON, FEW, assert_same, begun_again, of_recipe, smaller, stage, survives

LEAST = 0.0  # as the recipe has it: among so few letters it leaves out some prompts, and not all
NEAR = 0.02  # nats a token: what is read beside other answers is padded otherwise
# The recipe `person`, but for what follows SFT.
ONLINE = smaller("person", A_PERSON | {"grpo": {"steps": 3, "prompts": 2, "each": 4}}).replace(
    '"samples", "dpo"', '"grpo"'
)


@pytest.fixture(scope="session")
def rewarded_run(talking_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    return of_recipe(ONLINE, "rewarded", talking_cache, tmp_path_factory, True, *FEW)


def rated_again(run: Path, name: str) -> list[tuple[float | None, float]]:
    """Of each answer of a stage, the rating that it had, and that of the two models which the run's letters made."""
    encode, base = SentenceEncoder(), Models("cpu").base(parse_subject("smollm2"))
    author, others = (
        library(stage(run, side) / "adapter", read_rows(stage(run, "writings") / f"{side}.jsonl"), encode)
        for side in SIDES
    )
    asked = {d["id"]: d["messages"][-1]["content"] for d in read_rows(stage(run, "drafts") / "drafts.jsonl")}
    rows = [row for row in read_rows(stage(run, name) / "samples.jsonl") if row["text"].strip()]
    scores = ByAuthorship(base, author, others, encode, 1).scores([(asked[row["id"]], row["text"]) for row in rows])
    return [(row["rating"], score) for row, score in zip(rows, scores, strict=True) if score is not None]


def best_of_each(rows: list[Row], least: float) -> dict[str, str]:
    """By prompt, the answer rated highest of those that are fit to be learnt from and rated `least` or more."""
    fit = [row for row in rows if not row["fault"] and row["rating"] is not None and row["rating"] >= least]
    return {row["id"]: row["text"] for row in sorted(fit, key=lambda row: (row["rating"], -row["n"]))}


def test_sft_learns_the_answers_that_the_judge_rates_best(
    filter_run: tuple[Path, list[str]], talking_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARACTERY_CACHE", str(talking_cache))
    run, _ = filter_run
    names = [p.name.partition("-")[2] for p in sorted((run / "stages").iterdir())]
    assert names == [
        "prompts", "drafts", "writings", "author", "others", "authorship", "sft", "samples.r1", "sft.r1", "samples.r2",
        "sft.r2", "evaluate", "person", "report",
    ]  # fmt: skip
    for made, trained, before in (("samples.r1", "sft.r1", "sft"), ("samples.r2", "sft.r2", "sft.r1")):
        rows, learnt = (read_rows(stage(run, made) / f"{name}.jsonl") for name in ("samples", "sft"))
        best = best_of_each(rows, LEAST)
        assert {row["id"]: row["completion"][0]["content"] for row in learnt} == best
        assert {row["subject"] for row in learnt} == {f"run:{before}"}
        assert 4 <= len(best) < len(best_of_each(rows, -10.0)), "some prompts have no answer that is good enough"
        assert len(read_rows(stage(run, trained) / "log.jsonl")) == len(learnt) // min(8, len(learnt))
        assert all(was == pytest.approx(now, abs=NEAR) for was, now in rated_again(run, made))
    said = (run / "report.md").read_text()
    assert f"rated 0 or more: {len(best)} answers" in said and "against the worst" not in said
    assert json.loads((run / "manifest.json").read_text())["trained"] == "sft.r2"


def test_killed_among_what_it_filters_the_same_command_finishes(
    filter_run: tuple[Path, list[str]], talking_cache: Path, tmp_path: Path
) -> None:
    run, arguments = filter_run
    again = begun_again(run, "samples.r1", tmp_path)
    kills = [
        ("charactery.data.samples:fault", 1, "before"),  # the answers are there, the ratings are not
        ("charactery.train.trainers:_Progress.on_save", 2, "before"),
    ]
    survives(talking_cache, [*arguments, "--out", str(again)], again, kills)
    files = ("samples.r2", "samples.jsonl"), ("sft.r2", "adapter/adapter_model.safetensors")
    assert_same(again, run, *files, ("evaluate", "figures.json"), ("person", "person.json"))


def test_online_its_rating_is_the_reward(
    rewarded_run: tuple[Path, list[str]], talking_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARACTERY_CACHE", str(talking_cache))
    run, _ = rewarded_run
    counts = json.loads((stage(run, "grpo") / "counts.json").read_text())
    rows, log = read_rows(stage(run, "grpo") / "samples.jsonl"), read_rows(stage(run, "grpo") / "log.jsonl")
    assert counts["judge"] == "authorship" and len(rows) == 3 * 2 * 4 and len(log) == 3
    for n, entry in enumerate(log, 1):
        ratings = [row["rating"] for row in rows if row["step"] == n]
        assert entry["reward"] == pytest.approx(mean([r for r in ratings if r is not None]).value, abs=1e-4)
    assert all(was == pytest.approx(now, abs=NEAR) for was, now in rated_again(run, "grpo"))
    assert "Online answers" in (run / "report.md").read_text()
