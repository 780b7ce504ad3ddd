"""What a run takes over from others: its figures are those of a run by itself, and it tells what it took."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from charactery.pipeline import reuse
from charactery.pipeline.recipe import Recipe, find_recipe, stages
from charactery.pipeline.reuse import LOOKS_AT, MADE_OF, begin, reads
from charactery.runs import Run, read_rows, read_run, write_json, write_rows, write_text
from run_fixtures import ASSASSIN, SIZES, SPEC, assert_same, charactery, stage

BEFORE_TRAINING = ("charactery.pipeline.training:train_sft", "1", "before")


# -- whole runs


def test_a_run_that_takes_stages_is_the_run_by_itself(whole_run: Path, talking_cache: Path, tmp_path: Path) -> None:
    alone, taking = tmp_path / "alone", tmp_path / "taking"
    arguments = ["train", "captain", "--recipe", "distill", *SIZES]
    told = [charactery(talking_cache, *arguments, "--out", str(alone))]
    told.append(charactery(talking_cache, *arguments, "--out", str(taking), "--reuse", str(whole_run)))
    assert [done.returncode for done in told] == [0, 0], told[-1].stderr
    manifest = json.loads((taking / "manifest.json").read_text())
    assert manifest["taken"] == dict.fromkeys(["prompts", "drafts", "pairs", "sft"], str(whole_run))
    assert f"sft: taken from {whole_run}" in told[1].stderr and "done before" not in told[1].stderr
    for name, file in (
        ("drafts", "drafts.jsonl"), ("sft", "adapter/adapter_model.safetensors"), ("sft", "log.jsonl"),
        ("evaluate", "samples.jsonl"), ("evaluate", "figures.json"),
    ):  # fmt: skip
        assert_same(taking, alone, (name, file))
    records = [read_run(run).record("sft") for run in (taking, whole_run)]
    assert records[0] and records[1] and records[0].taken_from == str(whole_run) and not records[1].taken_from
    assert (records[0].seconds, records[0].cpu_seconds) == (records[1].seconds, records[1].cpu_seconds)
    assert "sft §" in (taking / "report.md").read_text() and "§" not in (alone / "report.md").read_text()
    assert f"sft from {whole_run}" in (taking / "report.md").read_text()
    [listed] = charactery(talking_cache, "runs", str(tmp_path), "--json").stdout.splitlines()[1:]
    assert json.loads(listed)["taken"] == manifest["taken"]


@pytest.mark.parametrize(
    ("changed", "place", "taken"),
    [
        (["--sft-epochs", "2"], BEFORE_TRAINING, ["prompts", "drafts", "pairs"]),
        (["--lora-rank", "4"], BEFORE_TRAINING, ["prompts", "drafts", "pairs"]),
        (["--match-lengths"], ("charactery.pipeline.making:make_pairs", "1", "before"), ["prompts", "drafts"]),
        (["--seed", "7"], ("charactery.pipeline.making:choose", "1", "before"), []),
    ],
)
def test_what_is_made_of_something_else_is_not_taken(
    changed: list[str], place: tuple[str, str, str], taken: list[str], whole_run: Path, talking_cache: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    arguments = ["train", "captain", *SIZES, *changed, "--out", str(tmp_path / "run")]
    killed = charactery(talking_cache, *place, *arguments, "--reuse", str(whole_run), code=ASSASSIN)
    assert killed.returncode == -9, killed.stderr  # there, so it was about to be done
    assert [*json.loads((tmp_path / "run" / "manifest.json").read_text()).get("taken", {})] == taken


def test_a_row_that_differs_is_seen(whole_run: Path, talking_cache: Path, tmp_path: Path) -> None:
    """In a draft: what is learnt is cut anew, and differs, and so the training is not taken."""
    other = tmp_path / "other"
    shutil.copytree(whole_run, other)
    drafts = read_rows(stage(other, "drafts") / "drafts.jsonl")
    drafts[0]["text"] += " And so say all of us."
    write_rows(stage(other, "drafts") / "drafts.jsonl", drafts)
    arguments = ["train", "captain", "--recipe", "distill", *SIZES, "--out", str(tmp_path / "run")]
    killed = charactery(talking_cache, *BEFORE_TRAINING, *arguments, "--reuse", str(other), code=ASSASSIN)
    assert killed.returncode == -9, killed.stderr
    assert [*json.loads((tmp_path / "run" / "manifest.json").read_text())["taken"]] == ["prompts", "drafts"]


def test_what_another_run_answered_alike_is_not_asked_again(
    rlaif_run: tuple[Path, list[str]], talking_cache: Path, tmp_path: Path
) -> None:
    run, arguments = rlaif_run
    again = charactery(talking_cache, *arguments, "--out", str(tmp_path / "again"), "--reuse", str(run))
    assert again.returncode == 0, again.stderr
    for name in ("drafts", "judge", "samples.r1", "evaluate"):
        journals = [(stage(r, name) / "batches.jsonl").read_bytes() for r in (tmp_path / "again", run)]
        assert journals[0] == journals[1] and len(journals[0]) > 100, name  # nothing was added
    for name, file in (("samples.r2", "samples.jsonl"), ("evaluate", "figures.json")):
        assert (stage(tmp_path / "again", name) / file).read_bytes() == (stage(run, name) / file).read_bytes()
    assert "was taken from them" in (tmp_path / "again" / "report.html").read_text()
    taken = ["prompts", "drafts", "judge", "pairs", "sft", "dpo.r1", "dpo.r2"]
    assert [*json.loads((tmp_path / "again" / "manifest.json").read_text())["taken"]] == taken
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["settings"]["engine"]["torch"] = "1.0"
    other = tmp_path / "other"
    other.mkdir()
    (other / "manifest.json").write_text(json.dumps(manifest))
    refused = charactery(talking_cache, *arguments, "--out", str(tmp_path / "new"), "--reuse", str(other))
    assert refused.returncode == 2 and "made by another engine" in refused.stderr
    assert not (tmp_path / "new").exists()


# Which settings and files each stage reads; evaluate ends it.
WATCHED = """
import json, sys
from dataclasses import fields
from charactery import runs
from charactery.pipeline import examining, order, recipe
seen, now = {}, []
def watch(owner, names):
    def read(self, name):
        here = now[:]
        if now and name in names:
            seen[now[-1]][0].append(name)
            now.clear()  # what it looks at itself is its own
        try:
            return object.__getattribute__(self, name)
        finally:
            now[:] = here
    owner.__getattribute__ = read
watch(recipe.Recipe, {"validates", "masks_reasoning", *(f.name for f in fields(recipe.Recipe))})
watch(order.Order, {"sham"})
stage, rows = runs.Run.stage, runs.numbered_rows
def staged(self, name, work, say, shared=False):
    def do(folder):
        now.append(name)
        seen[name] = ([], [])
        work(folder)
        now.pop()
    return stage(self, name, do, say, shared)
def numbered(path):
    if now and path.parent.parent.name == "stages":
        seen[now[-1]][1].append([path.parent.name[3:], path.name])
    return rows(path)
runs.Run.stage, runs.numbered_rows = staged, numbered
def done(examined):
    open(out, "w").write(json.dumps(seen))
    raise SystemExit(0)
examining.evaluate = done
out, sys.argv = sys.argv[1], ["charactery", *sys.argv[2:]]
from charactery.cli import main
main()
"""


def test_a_stage_looks_at_nothing_that_is_not_declared(talking_cache: Path, tmp_path: Path) -> None:
    made_up = SPEC.replace('"sft"]', '"sft", "self-play", "dpo", "samples"]\njudge = "likelihood"')
    (tmp_path / "all.toml").write_text(made_up + "[samples]\nprompts = 12\n")
    stopping = ["--stop-at-loss", "0.01"]  # so that there is a validation
    arguments = ["train", "captain", "--recipe", str(tmp_path / "all.toml"), *SIZES, *stopping, "--sham", "--out"]
    done = charactery(talking_cache, str(tmp_path / "seen"), *arguments, str(tmp_path / "run"), code=WATCHED)
    assert done.returncode == 0, done.stderr
    seen = json.loads((tmp_path / "seen").read_text())
    assert {*LOOKS_AT} <= {*seen}, "every stage that may be taken was watched"
    recipe = find_recipe(str(tmp_path / "all.toml"))
    recipe = replace(recipe, sft=replace(recipe.sft, stop_at_loss=0.01))
    for name in LOOKS_AT:
        settings, files = seen[name]
        assert {*settings} - {"stages", "rounds", "name"} <= {*LOOKS_AT[name]}, name
        assert {tuple(file) for file in files if file[0] != name} <= {*reads(recipe, name)}, name
    assert ["documents", "sft.jsonl"] in seen["sft"][1] and "contrast" in seen["dpo"][0]  # it does see


# -- by the stage


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting what torch left after each stage takes longer than these stages."""
    monkeypatch.setattr("charactery.runs._give_back_memory", lambda: None)


SETTINGS: dict[str, Any] = {
    **dict.fromkeys({*reuse.OF_RUN, *reuse.OF_JUDGE}), "engine": {"torch": "2"}, "seed": 0, "sham": True,
}  # fmt: skip


def a_run(folder: Path, recipe: Recipe, code: str = "code", **settings: Any) -> tuple[Run, dict[str, Any]]:
    """A run of which nothing is done, and its manifest."""
    made = {
        "settings": {**SETTINGS, "recipe": recipe.row(), **settings}, "stages": stages(recipe, sham=True),
        "environment": {"code": code, "cores": 2},
    }  # fmt: skip
    write_json(folder / "manifest.json", made)
    return read_run(folder), made


def do(run: Run, made: dict[str, Any], recipe: Recipe, *others: Run, row: str = "Aye.") -> list[str]:
    """Every stage, each writing its row and weights; returns those that were taken."""

    def work(folder: Path) -> None:
        for file in ("prompts", "drafts", "sft", "pairs"):
            write_rows(folder / f"{file}.jsonl", [{"text": row}])
        write_text(folder / "adapter" / "adapter_model.safetensors", row)

    for name in run.manifest["stages"]:
        begin(run, recipe, made, others, name)
        run.stage(name, work, lambda line: None)
    return [*run.manifest.get("taken", {})]


DEFAULT = find_recipe("distill+dpo")
ALL = ["prompts", "drafts", "pairs", "sft", "self-play", "dpo", "sham-sft", "sham-dpo"]


@pytest.fixture
def other(tmp_path: Path) -> Run:
    run, made = a_run(tmp_path / "other", DEFAULT)
    assert do(run, made, DEFAULT) == []
    return run


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ({}, ALL),
        ({"code": "newer"}, []),
        ({"engine": {"torch": "3"}}, []),
        ({"base_hash": "another"}, []),
        ({"seed": 1}, []),
        ({"sham": False}, [name for name in ALL if name != "drafts"]),  # whose file is the same
        ({"judge": {"subject": "openai/x"}}, ALL),  # none of these ask it
    ],
)
def test_what_decides_all_stages(change: dict[str, Any], taken: list[str], other: Run, tmp_path: Path) -> None:
    run, made = a_run(tmp_path / "run", DEFAULT, **change)
    assert do(run, made, DEFAULT, other) == taken


@pytest.mark.parametrize(
    ("recipe", "row", "taken"),
    [
        (replace(DEFAULT, sft=replace(DEFAULT.sft, epochs=9.0)), "Aye.", [n for n in ALL if not n.endswith("sft")]),
        (replace(DEFAULT, dpo=replace(DEFAULT.dpo, beta=0.5)), "Aye.", [n for n in ALL if not n.endswith("dpo")]),
        (replace(DEFAULT, draws=1), "Aye.", [n for n in ALL if n != "drafts"]),
        (replace(DEFAULT, self_play=8), "Aye.", [n for n in ALL if n != "self-play"]),
        (replace(DEFAULT, sizes=replace(DEFAULT.sizes, held_out=9)), "Another.", []),
    ],
)  # fmt: skip
def test_what_decides_one_stage(recipe: Recipe, row: str, taken: list[str], other: Run, tmp_path: Path) -> None:
    """A stage before it that was done anew changes nothing, unless it came out otherwise."""
    run, made = a_run(tmp_path / "run", recipe)
    assert do(run, made, recipe, other, row=row) == taken


def test_the_check_of_a_judge_is_every_runs(tmp_path: Path) -> None:
    rlaif, grpo = find_recipe("rlaif"), find_recipe("grpo")
    one, made = a_run(tmp_path / "one", rlaif)
    do(one, made, rlaif)
    two, made = a_run(tmp_path / "two", grpo, seed=3, character="companion")
    assert do(two, made, grpo, one) == ["judge"]
    by_another = replace(grpo, judge="openai/x")
    three, made = a_run(tmp_path / "three", by_another)
    assert do(three, made, by_another, one, two) == ["prompts"]


def test_who_did_it_is_told_through_a_third(other: Run, tmp_path: Path) -> None:
    second, made = a_run(tmp_path / "second", DEFAULT)
    do(second, made, DEFAULT, other)
    third, made = a_run(tmp_path / "third", DEFAULT)
    assert do(third, made, DEFAULT, second) == ALL
    assert third.manifest["taken"] == read_run(third.folder).manifest["taken"] == dict.fromkeys(ALL, str(other.folder))
    assert not [*(third.folder / "stages").glob("*.tmp")]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / MADE_OF).unlink(),  # by an older version
        lambda folder: write_json(folder / "done", {"seconds": 1, "peak_mb": 1, "halved": 1}),  # memory decided, too
        lambda folder: (folder / "done").unlink(),
    ],
)
def test_a_stage_that_may_be_of_something_else_is_not_taken(
    spoil: Callable[[Path], None], other: Run, tmp_path: Path
) -> None:
    spoil(other.stage_folder("sft"))
    run, made = a_run(tmp_path / "run", DEFAULT)
    assert do(run, made, DEFAULT, other) == [name for name in ALL if name != "sft"]


def test_a_stage_begun_by_other_code_is_not_taken(tmp_path: Path) -> None:
    run, made = a_run(tmp_path / "run", DEFAULT)
    for code in ("old", "code"):  # killed, and gone on with by other code
        made["environment"] = {"code": code, "cores": 2}
        begin(run, DEFAULT, made, (), "prompts")
    do(run, made, DEFAULT)
    again, made = a_run(tmp_path / "again", DEFAULT)
    assert do(again, made, DEFAULT, run) == ALL[1:]


def test_batches_come_from_all_that_are_reused(tmp_path: Path) -> None:
    runs = [a_run(tmp_path / name, DEFAULT, code=name)[0] for name in ("one", "two")]
    a, b = '{"key": "a", "rows": [1]}\n', '{"key": "b", "rows": [2]}\n'
    for run, entries in zip(runs, (a, f'{a}{b}{{"ke'), strict=True):
        write_text(run.stage_folder("drafts") / "batches.jsonl", entries)
    run, made = a_run(tmp_path / "run", DEFAULT)
    begin(run, DEFAULT, made, runs, "drafts")
    kept = read_rows(run.stage_folder("drafts") / "batches.jsonl")
    assert kept == [{"key": "a", "rows": [1]}, {"key": "b", "rows": [2]}]
    assert (
        runs[1].stage_folder("drafts").joinpath("batches.jsonl").read_text().endswith('{"ke')
    )  # that run's own affair
    assert json.loads((run.stage_folder("drafts") / MADE_OF).read_text())["reused"] == [str(run.folder) for run in runs]
    begin(run, DEFAULT, made, [], "drafts")  # killed, and gone on with: it still has others' batches
    assert "reused" in json.loads((run.stage_folder("drafts") / MADE_OF).read_text())


@pytest.mark.parametrize(
    ("name", "change", "spoil"),
    [
        ("grpo", {}, None),  # its journal says what was said at a step, whatever was asked
        ("drafts", {"base_hash": "another"}, None),
        ("drafts", {"character_hash": "another"}, None),
        ("drafts", {}, {"halved": 1}),  # not finished, and memory ran short
    ],
)
def test_batches_that_may_be_of_something_else_are_not_taken(
    name: str, change: dict[str, Any], spoil: dict[str, int] | None, tmp_path: Path
) -> None:
    recipe = find_recipe("grpo")
    asked, _ = a_run(tmp_path / "asked", recipe)
    write_text(asked.stage_folder(name) / "batches.jsonl", '{"key": "step 0", "rows": [1]}\n')
    if spoil:
        write_json(asked.stage_folder(name) / "clock.json", spoil)
    run, made = a_run(tmp_path / "run", recipe, **change)
    begin(run, recipe, made, [asked], name)
    assert not (run.stage_folder(name) / "batches.jsonl").exists()


def test_a_stage_filled_with_anothers_batches_is_not_taken_whole(tmp_path: Path) -> None:
    """Its time is not that of the work."""
    asked, _ = a_run(tmp_path / "asked", DEFAULT, seed=5)
    write_text(asked.stage_folder("drafts") / "batches.jsonl", '{"key": "a", "rows": [1]}\n')
    run, made = a_run(tmp_path / "run", DEFAULT)
    do(run, made, DEFAULT, asked)
    third, made = a_run(tmp_path / "third", DEFAULT)
    assert do(third, made, DEFAULT, run) == [name for name in ALL if name != "drafts"]


def test_a_stage_begun_without_saying_of_what_is_not_taken(tmp_path: Path) -> None:
    """By several processes, or an older version; then gone on with."""
    run, made = a_run(tmp_path / "run", DEFAULT)
    run.stage_folder("prompts").mkdir(parents=True)
    do(run, made, DEFAULT)
    again, made = a_run(tmp_path / "again", DEFAULT)
    assert do(again, made, DEFAULT, run) == ALL[1:]


def test_several_processes_take_nothing_whole(other: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They begin a stage together, and one would wait for another that does nothing."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    run, made = a_run(tmp_path / "run", DEFAULT)
    assert do(run, made, DEFAULT, other) == []
    assert not [*run.folder.glob(f"stages/*/{MADE_OF}")]
