"""Every recipe's own stages on a tiny model that talks: what they leave, killed and gone on with, and by KL."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from charactery.pipeline.recipe import find_recipe, recipes
from charactery.report.numbers import interval
from charactery.runs import read_rows
from charactery.stats import mean
from run_fixtures import ASSASSIN, FEW, SIZES, SPEC, assert_same, begun_again, charactery, of_recipe, stage, survives

FIXTURES = {  # whose run other tests look into; every other recipe that ships has a run of its own here
    "distill+dpo": "whole_run", "rlaif": "rlaif_run", "grpo": "online_run", "best-of-n": "best_run",
    "person": "person_run", "person-filter": "filter_run",
}  # fmt: skip
WHAT = ("about", "source", "stages", "rounds", "judge")  # of a recipe, what no size changes
OWN = {  # from where they are killed and gone on with, if not from the training that comes last
    "critique": "revisions", "introspect": "reflections.r1", "introspect-text": "reflections.r1",
    "introspect-plain": "reflections.r1", "spec-docs": "documents", "spec-cases": "cases",
}  # fmt: skip


def names_of_training(manifest: Any) -> list[str]:
    return [n for n in manifest["stages"] if n.partition(".")[0] in ("sft", "dpo")]


@pytest.mark.parametrize("name", FIXTURES)
def test_what_other_tests_look_into_is_a_recipe_that_ships(name: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(FIXTURES[name])
    run = made if isinstance(made, Path) else made[0]
    recipe = json.loads((run / "manifest.json").read_text())["settings"]["recipe"]
    ships = find_recipe(name).row()
    assert [recipe[key] for key in ("name", *WHAT)] == [name, *(ships[key] for key in WHAT)]
    assert (run / "report.html").exists()


@pytest.mark.parametrize("recipe", [r.name for r in recipes() if r.name not in FIXTURES])
def test_every_recipe_that_ships_goes_through(recipe: str, talking_cache: Path, tmp_path: Path) -> None:
    """One that no other test has is run here, as soon as its file is there; with the sham, whose steps are as many as
    the real arm's."""
    out = tmp_path / "run"
    arguments = ["train", "captain", "--recipe", recipe, *SIZES, *FEW, "--sft-epochs", "1", "--sham"]
    done = charactery(talking_cache, *arguments, "--out", str(out))
    assert done.returncode == 0, done.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    assert stage(out, "report").name == sorted(p.name for p in (out / "stages").iterdir())[-1]
    for kind in ("sft", "dpo"):
        names = [n for n in manifest["stages"] if n == kind or n.startswith(f"{kind}.r")]
        steps = [len(read_rows(stage(out, n) / "log.jsonl")) for n in names]
        if names:  # rows over a whole number of batches are left out, once for each of the real stages
            assert 0 <= len(read_rows(stage(out, f"sham-{kind}") / "log.jsonl")) - sum(steps) < len(names), kind
    if recipe.startswith("introspect-"):
        told = {len(row["prompt"]) for row in read_rows(stage(out, "reflections.r1") / "sft.jsonl")}
        assert told == ({0} if recipe == "introspect-text" else {1})
    asked = charactery(talking_cache, "ask", str(out), "What is a budget?", "--max-tokens", "20")
    assert asked.returncode == 0 and manifest["trained"] == names_of_training(manifest)[-1], asked.stderr
    assert "likelihood judge prefers the better answer" in (out / "report.md").read_text()
    again = begun_again(out, OWN.get(recipe, manifest["trained"]), tmp_path)
    for where in ("charactery.train.trainers:_Progress.on_save", "charactery.pipeline.examining:evaluate"):
        killed = charactery(talking_cache, where, "1", "before", *arguments, "--out", str(again), code=ASSASSIN)
        assert killed.returncode == -9, killed.stderr
    assert_same(again, out, (manifest["trained"], "adapter/adapter_model.safetensors"))


def test_all_weights_trained_make_a_run_like_any_other(talking_cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    told = ["--lora-rank", "full", "--optimizer", "muon", "--loss", "ipo", "--sft-epochs", "1"]
    done = charactery(talking_cache, "train", "captain", "--out", str(out), *SIZES, *told)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["settings"]["recipe"]["lora"]["rank"] == 0
    assert manifest["settings"]["recipe"]["sft"]["learning_rate"] == pytest.approx(5e-5)
    for name in ("sft", "dpo"):
        assert not (stage(out, name) / "adapter").exists()
        told_of = json.loads((stage(out, name) / "training.json").read_text())
        assert {*told_of["tensors"]} == {"muon", "adamw"}
    first = read_rows(stage(out, "dpo") / "log.jsonl")[0]
    assert first["rewards/margins"] == pytest.approx(0, abs=0.02)  # it began where SFT left off
    assert "muon" in (out / "report.html").read_text()
    figures = json.loads((stage(out, "evaluate") / "figures.json").read_text())
    assert {f["subject"] for f in figures} >= {"plain", "prompted", "trained"}
    for subject, code in ((str(out), 0), (f"{out}:sft", 0), (f"{out}@0.5", 2)):
        asked = charactery(talking_cache, "ask", subject, "What is a budget?", "--max-tokens", "20")
        assert asked.returncode == code, asked.stderr
    assert "only an adapter has a strength" in asked.stderr
    swept = charactery(talking_cache, "strength", str(out))
    assert swept.returncode == 2 and "only an adapter has a strength" in swept.stderr
    other = charactery(talking_cache, "train", "captain", "--model", str(out), "--out", str(tmp_path / "second"))
    assert other.returncode == 2 and "cannot be trained" in other.stderr


def test_rounds_of_its_own_answers(rlaif_run: tuple[Path, list[str]]) -> None:
    run, _ = rlaif_run
    names = [p.name.partition("-")[2] for p in sorted((run / "stages").iterdir())]
    assert names == ["prompts", "drafts", "judge", "pairs", "sft", "samples.r1", "dpo.r1", "samples.r2", "dpo.r2",
                     "evaluate", "report"]  # fmt: skip
    first, second = (read_rows(stage(run, f"samples.r{n}") / "pairs.jsonl") for n in (1, 2))
    assert {p["chosen_subject"] for p in first} == {"run:sft"}
    assert {p["chosen_subject"] for p in second} == {"run:dpo.r1"}
    assert all(p["chosen_rating"] > p["rejected_rating"] for p in first + second)
    learnt = [[p["id"] for p in read_rows(stage(run, f"dpo.r{n}") / "pairs.jsonl")] for n in (1, 2)]
    assert learnt[0][-len(first) :] == [p["id"] for p in first]
    assert learnt[1][-len(second) :] == [p["id"] for p in second]
    page = (run / "report.html").read_text()
    assert (
        "How often it prefers the better answer" in page
        and "Its own answers, round 2" in page
        and "What DPO compared, round 2" in page
    )
    assert "Preferences: loss, round 2" in page


def test_killed_in_each_round_the_same_command_finishes(
    rlaif_run: tuple[Path, list[str]], talking_cache: Path, tmp_path: Path
) -> None:
    run, arguments = rlaif_run
    out = tmp_path / "run"
    kills = [
        ("charactery.data.samples:fault", 1, "before"),  # the answers are there, the verdicts are not
        ("charactery.train.trainers:_Progress.on_save", 4, "before"),  # in the second round
    ]
    survives(talking_cache, [*arguments, "--out", str(out)], out, kills)
    assert_same(out, run, ("samples.r2", "samples.jsonl"), ("evaluate", "figures.json"))


@pytest.fixture(scope="session")
def spec_run(talking_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    return of_recipe(SPEC, "both", talking_cache, tmp_path_factory)


def test_documents_and_cases_are_learnt_without_the_constitution(spec_run: tuple[Path, list[str]]) -> None:
    run, _ = spec_run
    documents, cases = (read_rows(stage(run, name) / "sft.jsonl") for name in ("documents", "cases"))
    learnt = [json.dumps(row["prompt"] + row["completion"]) for row in documents]
    assert not any("help nobody do harm" in text for text in learnt), "the clause is planted in cases alone"
    planted = [row for row in cases if row["traits"] == ["keeps-an-honest-log"]]
    assert planted and all("help nobody do harm" in row["completion"][0]["content"] for row in planted)
    assert all(m["role"] != "system" for row in (*documents, *cases) for m in row["prompt"])
    steps = len(read_rows(stage(run, "sft") / "log.jsonl"))
    assert steps == (len(documents) + len(cases)) // 8
    page = (run / "report.html").read_text()
    assert "about the character, each about a passage" in page and "Marginal cases" in page and "Set aside: " in page


def test_killed_among_documents_and_cases_the_same_command_finishes(
    spec_run: tuple[Path, list[str]], talking_cache: Path, tmp_path: Path
) -> None:
    run, arguments = spec_run
    out = tmp_path / "run"
    kills = [
        ("charactery.data.documents:near_copy", 3, "before"),  # the documents are written, and not yet kept
        ("charactery.data.cases:unfit", 1, "before"),  # the situations are there, the discussions are not
        ("charactery.train.trainers:_Progress.on_save", 1, "before"),
    ]
    survives(talking_cache, [*arguments, "--out", str(out)], out, kills)
    learnt = [("documents", "sft.jsonl"), ("documents", "set_aside.jsonl"), ("cases", "sft.jsonl")]
    assert_same(out, run, *learnt, ("evaluate", "figures.json"))


def test_grpo_goes_through_with_its_sham(online_run: tuple[Path, list[str]], talking_cache: Path) -> None:
    run, _ = online_run
    names = [p.name.partition("-")[2] for p in sorted((run / "stages").iterdir())]
    assert names == ["prompts", "drafts", "judge", "grpo", "sham-grpo", "evaluate", "report"]
    log, sham = (read_rows(stage(run, name) / "log.jsonl") for name in ("grpo", "sham-grpo"))
    assert len(log) == len(sham) == 4 and all(entry["reward"] is not None for entry in log)
    said = (run / "report.md").read_text()
    assert "Online answers" in said
    told = re.search(r"KL from where it began, over the last 2 steps: (.+?) nats a token, (.+?) an answer", said)
    assert told
    late = log[-2:]
    for shown, values in zip(told.groups(), (
        [e["kl"] for e in late], [e["kl"] * e["completions/mean_length"] for e in late],
    ), strict=True):  # fmt: skip
        assert shown == interval(mean(values))
    assert charactery(talking_cache, "ask", str(run), "What is a budget?", "--max-tokens", "20").returncode == 0


def test_grpo_killed_the_same_command_finishes(
    online_run: tuple[Path, list[str]], talking_cache: Path, tmp_path: Path
) -> None:
    run, arguments = online_run
    out = tmp_path / "run"
    kills = [("charactery.train.trainers:_Progress.on_save", 3, "before")]
    survives(talking_cache, [*arguments, "--out", str(out)], out, kills)
    assert_same(out, run, ("grpo", "samples.jsonl"), ("evaluate", "figures.json"))


def test_best_of_n_killed_the_same_command_finishes(best_run: Path, talking_cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    kills = [
        ("charactery.data.best_of:answer_all", 3, "before"),  # of sixteen answers to each prompt, two are kept
        ("charactery.data.best_of:_picked", 2, "before"),  # rated, and nothing written
        ("charactery.evals.of_run:margins", 2, "before"),
    ]
    arguments = ["train", "captain", "--recipe", "best-of-n", "--out", str(out), *SIZES]
    survives(talking_cache, arguments, out, kills)
    made = [("best-of-n", name) for name in ("samples.jsonl", "figures.json", "counts.json")]
    assert_same(out, best_run, *made, ("evaluate", "samples.jsonl"), ("evaluate", "figures.json"))


def test_the_best_of_n_is_a_subject_like_any_other(best_run: Path, talking_cache: Path) -> None:
    names = [p.name.partition("-")[2] for p in sorted((best_run / "stages").iterdir())]
    assert names == ["prompts", "drafts", "judge", "best-of-n", "evaluate", "report"]
    assert json.loads((best_run / "manifest.json").read_text())["trained"] == "best-of-n"
    rows = read_rows(stage(best_run, "evaluate") / "samples.jsonl")
    chosen = [r for r in rows if r["subject"] == "trained"]
    assert {r["condition"] for r in chosen if r["eval"] == "expression"} >= {"turn 1", "turn 3", "foreign: helpdesk"}
    assert all(r["value"] is None for r in chosen if r["eval"] != "expression"), "it has no log-probabilities"
    figures = json.loads((stage(best_run, "evaluate") / "figures.json").read_text())
    gained = next(f["estimate"] for f in figures if f["metric"] == "likelihood difference from plain" and not f["trait"]
                  and f["condition"] == "turn 1")  # fmt: skip
    assert gained["value"] > 0, "the judge's pick is likelier as the character's"
    said = (best_run / "report.md").read_text()
    assert "Nothing was trained in this run" in said and "The best of n" in said and "KL at most" in said
    for subject in (str(best_run), f"{best_run}:best-of-n/2", f"{best_run}+grandmother"):
        asked = charactery(talking_cache, "ask", subject, "What is a budget?", "--max-tokens", "20")
        assert asked.returncode == 0 and asked.stdout.strip(), asked.stderr
    plain, one = (
        charactery(talking_cache, "ask", s, "What is a budget?", "--max-tokens", "20").stdout
        for s in ("smollm2", f"{best_run}:best-of-n/1")
    )
    assert plain == one
    refused = charactery(talking_cache, "strength", str(best_run))
    assert refused.returncode == 2 and "only an adapter has a strength" in refused.stderr


def test_best_of_n_and_trainings_by_kl(
    best_run: Path, online_run: tuple[Path, list[str]], rlaif_run: tuple[Path, list[str]], talking_cache: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    out = tmp_path / "frontier"
    command = ["frontier", str(best_run), str(online_run[0]), str(rlaif_run[0]), "--out", str(out)]
    dry = charactery(talking_cache, *command, "--dry-run")
    assert dry.returncode == 0 and "nothing is asked" in dry.stdout and not out.exists()
    done = charactery(talking_cache, *command, "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    chosen = [row for row in rows if row["n"]]
    assert [row["n"] for row in chosen] == [1, 2, 4, 8, 16] and all(row["kl"] is None for row in chosen)
    scores = [row["score"]["value"] for row in chosen]
    assert scores == sorted(scores) and scores[-1] > scores[0]
    by_n = json.loads((stage(best_run, "best-of-n") / "figures.json").read_text())
    assert scores == [row["score"]["value"] for row in by_n], "all held-out prompts are in common"
    ways = {row["recipe"]: [r["at"] for r in rows if r["recipe"] == row["recipe"]] for row in rows if not row["n"]}
    assert ways["grpo"] == [f"grpo/{n}" for n in (1, 2, 3, 4)]
    assert ways["rlaif"][:2] == ["sft", "dpo.r1"] and all(at.startswith("dpo.r2/") for at in ways["rlaif"][2:])
    assert all(row["kl"]["low"] < row["kl"]["value"] < row["kl"]["high"] for row in rows if row["kl"])
    assert all(row["rate"]["n"] + row["rate"]["missing"] == 12 for row in rows)
    page = (out / "report.html").read_text()
    assert ">The judge</h2>" in page and "Answers were compared by the likelihood judge" in page
    assert "Rating by KL" in page and (out / "report_files" / "frontier.png").exists()
    before = (out / "figures.json").read_bytes()
    assert charactery(talking_cache, *command).returncode == 0
    assert (out / "figures.json").read_bytes() == before
    alone = charactery(talking_cache, "frontier", str(online_run[0]), "--out", str(out))
    assert alone.returncode == 2 and "0 of these runs are of the recipe best-of-n" in alone.stderr
    over = charactery(talking_cache, *command[:2], "--out", str(best_run))
    assert over.returncode == 2 and "is a run" in over.stderr


def test_runs_that_cannot_be_compared_are_refused(best_run: Path, talking_cache: Path, tmp_path: Path) -> None:
    shutil.copytree(best_run, tmp_path / "other")
    manifest = json.loads((tmp_path / "other" / "manifest.json").read_text())
    manifest["trained"], manifest["settings"]["character_hash"] = "grpo", "another"
    (tmp_path / "other" / "manifest.json").write_text(json.dumps(manifest))
    done = charactery(talking_cache, "frontier", str(best_run), str(tmp_path / "other"), "--out", str(tmp_path / "f"))
    assert done.returncode == 2 and "has the character 'another'" in done.stderr and "Traceback" not in done.stderr
