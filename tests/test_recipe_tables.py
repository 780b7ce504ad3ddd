"""The tables of benchmarks/: what they take from a run, and what their pages say of rows that were kept."""

import itertools
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from charactery.errors import CharacteryError
from charactery.judges.best_of import kl_bound
from charactery.judges.labelled import measured
from charactery.models.local import pick_device
from charactery.pipeline.manifest import code_revision
from charactery.pipeline.manifest import engine as engine_of
from charactery.pipeline.recipe import find_recipe
from charactery.runs import read_rows, read_run
from report_fixture import around, share
from run_fixtures import SIZES, STAGES, charactery, stage

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import recipe_table

    return recipe_table


@pytest.fixture
def axes(recipes: ModuleType) -> ModuleType:
    import axes_table

    return axes_table


@pytest.fixture
def people(recipes: ModuleType) -> ModuleType:
    import person_table

    return person_table


def row(rate: float, training: int = 100, code: str = "aaaaaaaabbbb") -> dict[str, Any]:
    rates: dict[str, Any] = {name: {s: share(rate, 60) for s in ("trained", "sham", "prompted", "plain")}
             for name in ("in character", "elsewhere")}  # fmt: skip
    others = ("of prompted", "likelihood", "prose", "chat frame", "choice", "repetition", "length", "KL")
    return rates | {name: {"trained": around(1.0, 0.1, 20)} for name in others} | {
        "controls": {"AUC": around(0.9, 0.1, 20), "mixture": around(0.5, 0.1, 20), "held": True}, "not held": [],
        "own stages": 2 * training, "training": training, "processor": training, "peak": 4000, "cores": 2, "code": code,
    }  # fmt: skip


Line = dict[str, str]


def lines(page: str) -> dict[tuple[str, str], Line]:
    """The cells of a page's tables, of one character, by recipe and seed; those of what shows have the plain names."""
    found: dict[tuple[str, str], Line] = {}
    titles: list[str] = []
    for line in page.splitlines():
        cells = [cell.strip() for cell in line[1:-1].split("|")] if line.startswith("| ") else []
        if cells and cells[0] == "recipe":
            titles = cells
        elif cells:
            assert len(cells) == len(titles), line
            found.setdefault((cells[0], cells[1]), {}).update(zip(titles, cells, strict=True))
    return found


def test_the_page_has_a_mean_over_seeds_and_marks_what_stands_alone(recipes: ModuleType) -> None:
    bare = row(0.0, code="ccccccccdddd") | {"in character": {"trained": None}, "KL": {}, "training": 0, "processor": 0}
    kept = {
        "captain rlaif 0": row(0.2), "captain rlaif 1": row(0.4), "captain rlaif 2": row(0.6),
        "captain critique 0": row(0.3, training=241) | {"not held": ["prompted", "repetition"]},
        "captain distill+dpo 0": row(0.5), "captain distill+dpo 1": row(0.7),
        "captain best-of-n 0": bare | {"answers": 4, "KL at most": kl_bound(4), "own stages": 90},
    }  # fmt: skip
    page = recipes.table(kept)
    found = lines(page)
    mean = found["rlaif", "mean of 3 seeds"]
    assert mean["in character"] == mean["sham"] == "0.40 [-0.10, 0.90]"  # 4.30 * 0.2 / √3
    assert mean["training, s"] == "100 (all alike, no interval)" and mean["not held"] == ""
    assert found["rlaif", "0"]["training, s"] == "100" and found["rlaif", "0"]["own stages, s"] == "200"
    assert found["rlaif", "0"]["not held"] == "none"
    assert found["*prompted*", "*1*"]["in character"].startswith("0.70 [") and ("*prompted*", "*2*") not in found
    assert found["critique", "0 †"]["training, s"] == "241 ‡"
    assert found["critique", "0 †"]["not held"] == "prompted, repetition"
    best = found["best-of-n", "0 †"]
    assert (best["KL"], best["answers"], best["own stages, s"]) == ("at most 0.64", "4", "90")
    assert best["in character"] == best["training, s"] == "–" and best["code"] == "cccccccc"
    assert "**Not all lines were made by the same code**" in page and "missed its bound" not in page
    said = " ".join(page.split())
    assert "Of 6 cells that train none took more of the processor, and 1 more than 240" in said
    longest = recipes.table({**kept, "captain grpo 0": row(0.1, training=481), "captain distill 0": row(0.1, 480)})
    assert "Of 8 cells that train 1 took more of the processor, and 3 more than 240" in " ".join(longest.split())
    del kept["captain best-of-n 0"]
    kept["captain distill+dpo 0"]["controls"]["held"] = False
    assert "**Not all lines" not in recipes.table(kept) and "missed its bound" in recipes.table(kept)


def test_the_rows_that_are_kept_make_a_page_and_pictures(recipes: ModuleType, tmp_path: Path) -> None:
    kept = json.loads(recipes.KEPT.read_text())
    page = recipes.table(kept)
    assert page == recipes.TABLE.read_text()
    parts = {part.split("\n")[0]: lines(part) for part in page.split("\n## ")[1:]}
    characters = {name.split()[0] for name in kept}
    for character in characters:
        seeds = [key for key in parts[character] if key[1].rstrip(" †").isdigit()]
        assert len(seeds) == sum(name.startswith(f"{character} ") for name in kept) > 0
    recipes.pictures(kept, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"recipes-{character}.png" for character in characters}


def finished(run: Path, **engine: str) -> None:
    """As a run that has been finished, by the engine that is here or another."""
    run.mkdir(exist_ok=True)
    here = engine or engine_of(pick_device("auto"))
    (run / "manifest.json").write_text(json.dumps({"settings": {"engine": here}, "stages": []}))
    (run / "report.html").write_text("")


def test_a_cell_takes_what_finished_ones_may_have_alike(recipes: ModuleType, tmp_path: Path) -> None:
    def reused(recipe: str, character: str = "captain") -> list[str]:
        command = recipes.command(recipes.Cell(character, recipe, 0), tmp_path)
        return [Path(b).name for a, b in itertools.pairwise(command) if a == "--reuse"]

    for name in ("captain-distill+dpo-0", "captain-critique-0", "captain-rlaif-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
    assert reused("rlaif") == []  # begun, and not finished
    for name in ("captain-distill+dpo-0", "captain-critique-0", "captain-rlaif-1"):
        finished(tmp_path / name)
    finished(tmp_path / "captain-introspect-0", torch="1.0")  # which would be refused
    assert reused("grpo") == reused("best-of-n") == ["captain-distill+dpo-0", "captain-critique-0"]
    assert reused("distill+dpo") == ["captain-critique-0"]  # not itself
    assert reused("critique", "companion") == ["captain-critique-0"]  # the check of its judge
    assert "captain-rlaif-1" in reused("rlaif") and reused("grpo", "companion") == []
    assert "--sham" not in recipes.command(recipes.Cell("captain", "best-of-n", 0), tmp_path)


def test_seconds_of_another_run_are_marked(recipes: ModuleType) -> None:
    kept = {
        "captain distill 0": row(0.2, training=300) | {"taken": ["pairs", "sft"]},
        "captain introspect 0": row(0.2) | {"taken": ["pairs"]}, "captain rlaif 0": row(0.2) | {"taken": []},
    }  # fmt: skip
    found = lines(recipes.table(kept))
    seconds = {
        recipe: [found[recipe, "0 †"][f"{name}, s"] for name in ("own stages", "training", "processor")]
        for recipe in ("distill", "introspect", "rlaif")
    }
    assert seconds["distill"] == ["600 §", "300 ‡ §", "300 §"]
    assert seconds["introspect"] == ["200 §", "100", "100"] and seconds["rlaif"] == ["200", "100", "100"]


def test_what_is_taken_of_runs(recipes: ModuleType, best_run: Path, online_run: tuple[Path, list[str]]) -> None:
    best, online = recipes.figures(read_run(best_run)), recipes.figures(read_run(online_run[0]))
    assert all({*online[title]} >= {"trained"} for title in recipes.MEASURES)
    assert {*online["in character"]} == {"trained", "sham", "prompted", "plain"}
    assert online["controls"]["AUC"]["value"] > 0.5 and online["controls"]["mixture"]["n"]
    assert "" not in online["not held"]
    assert best["answers"] == 4 and best["KL at most"] == pytest.approx(kl_bound(4)) and best["training"] == 0
    assert best["prose"] == {} and best["in character"]["trained"]["value"] is not None
    assert best["code"] == code_revision()
    assert online["own stages"] == online["training"]  # nothing else is done; the sham's are in neither
    page = lines(recipes.table({"captain grpo 0": online, "captain best-of-n 0": best}))
    assert page["best-of-n", "0 †"]["prose"] == "–" and page["grpo", "0 †"]["prose"] != "–"


def test_what_other_code_began_is_not_gone_on_with(
    recipes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "captain-grpo-0"
    run.mkdir()
    made = {"settings": {}, "stages": [], "environment": {"code": "other"}}
    (run / "manifest.json").write_text(json.dumps(made))
    monkeypatch.setattr(sys, "argv", ["recipe_table.py", "--out", str(tmp_path), "--only", "captain grpo"])
    monkeypatch.setattr("subprocess.run", lambda *args, **kwargs: pytest.fail("it was gone on with"))
    with pytest.raises(SystemExit, match="captain grpo 0"):
        recipes.fill_cells(
            "", "", recipes.cells(), recipes._folder, recipes.command, recipes.figures, tmp_path / "kept.json",
            lambda kept: None,
        )  # fmt: skip
    assert "begun by other code" in capsys.readouterr().out and json.loads((run / "manifest.json").read_text()) == made


def test_two_that_fill_it_at_once_lose_no_row(
    recipes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, page = tmp_path / "kept.json", tmp_path / "page.md"

    def ran(*_: Any, **__: Any) -> Any:  # while this one trains, another is done
        kept.write_text(json.dumps({"companion distill 0": row(0.5) | {"cores": 1}}))
        finished(tmp_path / "captain-distill-0")
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(sys, "argv", ["recipe_table.py", "--out", str(tmp_path), "--only", "captain distill 0"])
    monkeypatch.setattr("subprocess.run", ran)
    recipes.fill_cells(
        "", "", recipes.cells(), recipes._folder, recipes.command, lambda run: row(0.7), kept,
        lambda rows: page.write_text(recipes.table(rows)),
    )  # fmt: skip
    found = json.loads(kept.read_text())
    assert {name: values["in character"]["trained"]["value"] for name, values in found.items()} == {
        "captain distill 0": pytest.approx(0.7), "companion distill 0": 0.5,
    }  # fmt: skip
    assert "each run on 1 or 2 processor cores" in page.read_text()


def test_reading_runs_nothing_and_takes_what_is_there(
    recipes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(tmp_path / "captain-distill-0")
    (tmp_path / "captain-rlaif-0").mkdir()
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps({"companion distill 0": row(0.5)}))
    monkeypatch.setattr(sys, "argv", ["recipe_table.py", "--out", str(tmp_path), "--read"])
    monkeypatch.setattr("subprocess.run", lambda *args, **kwargs: pytest.fail("something was run"))
    pages: list[Any] = []
    recipes.fill_cells(
        "", "", recipes.cells(), recipes._folder, recipes.command, lambda run: row(0.7), kept, pages.append
    )  # fmt: skip
    assert {*json.loads(kept.read_text())} == {*pages[0]} == {"captain distill 0", "companion distill 0"}


def test_axes_from_a_trial_to_the_page(
    axes: ModuleType, talking_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(cell: Any) -> dict[str, Any]:
        sizes = ["--train", "32", "--held-out", "8", "--elsewhere", "4", "--tasks", "8", "--max-tokens", "40"]
        done = charactery(talking_cache, *axes.command(cell, tmp_path)[1:], *sizes, "--sft-epochs", "2")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = axes.cell_figures(read_run(cell.folder(tmp_path)))
        return found

    monkeypatch.setattr(axes, "KEPT", tmp_path / "kept.json")
    trial, cell = axes.TRIALS[0], axes.Cell(axes.TRIALS[0].setting, 1)
    with pytest.raises(CharacteryError, match="every setting is to be trained to its end first"):
        axes.command(cell, tmp_path)
    tried = run(trial)
    looks = [row["loss"] for row in read_rows(stage(trial.folder(tmp_path), "sft") / "validation.jsonl")]
    assert (tried["first"], tried["lowest"], tried["loss"]) == (looks[0], min(looks), looks[-1])
    assert tried["first"] > tried["lowest"] and tried["steps"] == len(looks) - 1

    monkeypatch.setattr(axes, "MARGIN", round((tried["first"] - tried["lowest"]) / 2, 2))
    kept = {t.name: tried for t in axes.TRIALS} | {axes.TRIALS[1].name: tried | {"lowest": tried["lowest"] - 1}}
    axes.KEPT.write_text(json.dumps(kept))
    found = run(cell)
    assert found["wanted"] == axes.target(kept) == round(tried["lowest"] + axes.MARGIN, 3), "of the worst"
    assert abs(found["loss"] - found["wanted"]) <= axes.WITHIN and found["steps"] < tried["steps"]
    assert isinstance(found["in character"], float)
    # what it was stopped by is the same for another seed, and nobody learnt it
    [apart, again] = [stage(c.folder(tmp_path), "validation") / "sft.jsonl" for c in (trial, cell)]
    assert apart.read_bytes() == again.read_bytes() and len(read_rows(apart)) >= 20
    [learnt, others] = [stage(c.folder(tmp_path), "pairs") / "sft.jsonl" for c in (trial, cell)]
    assert learnt.read_bytes() != others.read_bytes()
    assert not {r["id"] for r in read_rows(apart)} & {r["id"] for r in [*read_rows(learnt), *read_rows(others)]}
    assert f"was to stop at {found['wanted']:.3f}" in (cell.folder(tmp_path) / "report.md").read_text()

    missed = found | {"in character": found["in character"] + 0.2, "loss": 9.0}
    page = axes.table(kept | {cell.name: found, axes.Cell(cell.setting, 2).name: missed})
    tries, line = (line for line in page.splitlines() if line.startswith(f"| {cell.setting} |"))
    assert f"| {tried['lowest']:.3f} |" in tries and f"The loss is {found['wanted']:.3f}" in page
    assert line.startswith(f"| {cell.setting} | 2 | 1 |") and f"| {found['in character'] + 0.1:.2f} [" in line
    assert "stopped at another loss" not in page
    assert "stopped at another loss (1.5)" in axes.table(kept | {cell.name: found | {"wanted": 1.5}})
    assert "is not known until" in axes.table({trial.name: tried})
    astray = axes.table(kept | {cell.name: found | {"first": tried["first"] - 2 * axes.WITHIN}})
    assert f"as another kind of machine draws them: {cell.name}." in astray
    assert "another kind" not in axes.table(kept | {cell.name: found})


def test_an_axes_cell_takes_the_answers_of_another_of_its_seed(
    axes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(axes, "KEPT", tmp_path / "kept.json")
    axes.KEPT.write_text(json.dumps({trial.name: {"lowest": 3.0} for trial in axes.TRIALS}))
    first, *_, last = axes.SETTINGS

    def reused(cell: Any) -> str | None:
        command = axes.command(cell, tmp_path)
        return Path(command[-1]).name if "--reuse" in command else None

    def finish(cell: Any) -> str:
        finished(cell.folder(tmp_path))
        return str(cell.folder(tmp_path).name)

    trial = finish(axes.TRIALS[0])
    assert reused(axes.TRIALS[0]) is None and reused(axes.TRIALS[1]) == reused(axes.Cell(first, 0)) == trial
    assert reused(axes.Cell(first, 1)) is None, "another seed drafts otherwise"
    cell = finish(axes.Cell(first, 0))
    assert reused(axes.Cell(last, 0)) == cell and reused(axes.TRIALS[1]) == trial


def test_on_policy_training_starts_from_the_plain_model(talking_cache: Path, tmp_path: Path) -> None:
    recipe = find_recipe(str(BENCHMARKS / "on-policy.toml"))
    assert recipe.own_stages == ("samples.r1", "dpo.r1", "samples.r2", "dpo.r2", "samples.r3", "dpo.r3")
    assert recipe.start("samples.r1") is recipe.start("dpo.r1") is None and recipe.start("dpo.r2") == "dpo.r1"
    told = ["train", "captain", "--recipe", str(BENCHMARKS / "on-policy.toml"), *SIZES, "--held-out", "8"]
    done = charactery(talking_cache, *told, "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    for n in (1, 2, 3):
        assert read_rows(stage(tmp_path / "run", f"samples.r{n}") / "pairs.jsonl")
        first = read_rows(stage(tmp_path / "run", f"dpo.r{n}") / "log.jsonl")[0]
        assert first["rewards/margins"] == pytest.approx(0, abs=0.02), "the reference is where it began"


def test_a_recipe_goes_through_on_a_random_shape(talking_cache: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(BENCHMARKS.parent)!r}); from benchmarks.gpu_recipe import main; main()"
    done = charactery(talking_cache, "--shape", "tiny", "--device", "cpu", "--train", "48", code=code)
    assert done.returncode == 0, done.stderr
    assert "distill+dpo on tiny" in done.stdout and "billion parameters in products" in done.stdout
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    found = {name: cells for name, *cells in rows[1:]}
    assert [*found] == [*STAGES]
    numbers = {name: [float(cell.replace(",", "").rstrip("%")) for cell in cells if cell != "–"]
               for name, cells in found.items()}  # fmt: skip
    assert all(numbers[name][1] > 0 for name in ("drafts", "self-play", "evaluate")), "written"
    assert all(numbers[name][2] > 0 for name in ("sft", "dpo", "evaluate")), "read"
    assert all(0 <= numbers[name][3] < 100 for name in ("drafts", "sft", "self-play", "dpo")), "share of what is best"
    assert numbers["sft"][4] > 0, "memory"


def test_what_reports_say_of_the_likelihood_judge_is_what_the_table_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import judges_table

    [row] = [r for r in json.loads(judges_table.KEPT.read_text())["judges"].values() if r["judge"] == "likelihood"]
    assert measured() == judges_table.shipped(row)
    assert row["read"] == judges_table.what_is_read(), "pairs, characters or foils are others now: measure it again"


# -- a person


def sitter(score: float, code: str = "aaaaaaaabbbb") -> dict[str, Any]:
    of = {"score": around(score, 0.1, 80), "pass": share(0.4, 80), "copied": share(0.0, 80)}
    later = {"never known": share(0.25, 20), "known": share(0.1, 20), "told apart": around(0.6, 0.1, 40)}
    return of | {
        "roles": {"plain": of, "trained": of, "sham": of}, "later": {"trained": later}, "AUC": around(0.8, 0.1, 80),
        "held out": around(0.05, 0.1, 80), "contradiction": around(0.5, 0.1, 16), "chat frame": around(1.2, 0.1, 20),
        "tokens": 5000, "writings": {"seen": 1234}, "code": code,
    }  # fmt: skip


def test_a_persons_page_has_a_line_for_each_run_and_a_picture_of_more_than_one(
    people: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people, "TABLE", tmp_path / "docs" / "person.md")
    kept = {"lincoln, 160 passages": sitter(0.3), "lincoln, 40 passages": sitter(0.2, "ccccccccdddd")}
    people.write_page({name: kept[name] for name in [*kept][:1]})
    assert not (tmp_path / "docs" / "images").exists()
    claims = {"contradiction": around(0.4, 0.1, 16), "less than the first": {"contradiction": around(0.1, 0.2, 16)}}
    made_up = {
        "tokens": 5100,
        "code": "aaaaaaaabbbb",
        "claims": {people.PERSON.name: claims, people.EQUAL.name: claims},
    }
    people.write_page(kept | {people.EQUAL.name: made_up})
    page = (tmp_path / "docs" / "person.md").read_text()
    cells = [[cell.strip() for cell in line[1:-1].split("|")] for line in page.splitlines() if line.startswith("| ")]
    by_name = {row[0]: row for row in cells}
    assert [c.partition(" ")[0] for c in by_name["lincoln, 40 passages"][1:7]] == [
        "1,234", "0.2", "0.4", "0.25", "0.1", "0.5",
    ]  # fmt: skip
    assert by_name["captain, as many tokens"][1] == "5,100"
    assert by_name["captain, as many tokens"][3].startswith("0.1 ")
    assert "compare those with the same *code*" in page and "sham 0.3 [" in page
    assert [count for count, _ in people.curve(kept)] == [40, 160]
    assert (tmp_path / "docs" / "images" / "person-curve.png").exists()


def test_somebody_made_up_is_trained_on_as_many_tokens_as_the_person(
    people: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CharacteryError, match="are to be there first, to count their tokens"):
        people.command(people.EQUAL, tmp_path)
    for cell in (people.PERSON, people.COUNTED):
        cell.folder(tmp_path).mkdir()
        (cell.folder(tmp_path) / "report.html").touch()
    read = {str(people.PERSON.folder(tmp_path)): 600, str(people.COUNTED.folder(tmp_path)): 700}
    monkeypatch.setattr(people, "parse_subject", lambda text: text)
    monkeypatch.setattr(people, "trained_tokens", read.__getitem__)
    monkeypatch.setattr(people, "reusable", lambda run: False)
    asked = people.command(people.EQUAL, tmp_path)
    assert asked[asked.index("--sft-epochs") + 1] == str(3.5 * 600 / 700)
    assert "--sham" in people.command(people.PERSON, tmp_path)
    few = people.command(people.Cell("lincoln", 40), tmp_path)
    recipe = find_recipe(few[few.index("--recipe") + 1])
    assert recipe.writings.passages == 40 and recipe.stages == find_recipe("person").stages
