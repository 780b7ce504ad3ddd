"""The recipe `person` on the tiny model that talks: from two folders of letters to the report, killed and gone on."""

import json
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from charactery.constitution import dump_character, find_character, parse_character
from charactery.data import passages
from charactery.data.passages import Passage
from charactery.data.self_play import playable
from charactery.data.writings import Writing, read_writings, shingles
from charactery.errors import BadData
from charactery.models.local import LocalModel
from charactery.models.speaker import Speaker
from charactery.models.subject import parse_subject
from charactery.pipeline import distil
from charactery.pipeline.counts import Counts
from charactery.pipeline.manifest import _texts
from charactery.pipeline.order import Order
from charactery.pipeline.person import learnt_row, persona_rows, seen
from charactery.pipeline.plan import ASKED_OF_A_PERSON, foresee
from charactery.pipeline.recipe import Recipe, find_recipe, read_recipe, stages
from charactery.runs import read_rows, write_rows
from charactery.train.settings import Sft
from letters import LAND, SEA, text_of, write_letters
from run_fixtures import ASSASSIN, Refused, assert_same, charactery, stage, survives


def test_the_stages_are_in_order_and_the_judge_knows_the_author(person_run: tuple[Path, list[str]]) -> None:
    run, _ = person_run
    names = [p.name.partition("-")[2] for p in sorted((run / "stages").iterdir())]
    assert names == [
        "prompts", "drafts", "writings", "author", "others", "authorship", "sft", "samples", "dpo", "sham-sft",
        "sham-dpo", "evaluate", "person", "report",
    ]  # fmt: skip
    found = json.loads((stage(run, "authorship") / "authorship.json").read_text())
    assert found["auc"]["all"]["value"] > 0.9 and {*found["auc"]} == {"all", "letters"}
    assert found["pairs"] >= 8 and found["means"]["author"]["value"] > found["means"]["others"]["value"]
    scores = read_rows(stage(run, "authorship") / "scores.jsonl")
    theirs = sorted(s["score"] for s in scores if s["side"] == "others")
    assert sum(s > found["threshold"] for s in theirs) <= 0.05 * len(theirs)


def test_nothing_learnt_from_is_held_out(person_run: tuple[Path, list[str]]) -> None:
    run, _ = person_run
    folder = stage(run, "writings")
    held = [row[side] for row in read_rows(folder / "held_out.jsonl") for side in ("author", "others")]
    learnt = [r for name in ("sft", "author", "others") for r in read_rows(folder / f"{name}.jsonl")]
    learnt = [r for r in learnt if r["kind"] == "writing"]
    assert not {p["document"] for p in held} & {r["id"].partition("#")[0] for r in learnt}
    grams = {side: {g for r in read_rows(folder / f"{side}.jsonl") for g in shingles(r["completion"][0]["content"])}
             for side in ("author", "others")}  # fmt: skip
    assert not grams["author"] & grams["others"]
    assert all("MARROW" not in r["completion"][0]["content"] and r["prompt"][0]["content"] for r in learnt)
    kinds = {r["kind"] for r in read_rows(folder / "sft.jsonl")}
    assert kinds == {"writing", "task"}


def test_the_tokens_of_the_writings_are_counted_as_they_were_met(
    person_run: tuple[Path, list[str]], talking_cache: Path
) -> None:
    from transformers import AutoTokenizer

    run, _ = person_run
    tokens = json.loads((run / "manifest.json").read_text())["writings"]
    tokenize = AutoTokenizer.from_pretrained(talking_cache / "models" / "smollm2")
    rows = [r for r in read_rows(stage(run, "writings") / "sft.jsonl") if r["kind"] == "writing"]
    every = [len(tokenize(r["completion"][0]["content"], add_special_tokens=False)["input_ids"]) for r in rows]
    steps = len(read_rows(stage(run, "sft") / "log.jsonl"))
    assert len(rows) == 12 and steps == 2  # of 20 rows, two batches of eight: four are not met
    assert 8 <= tokens["passages"] <= 12
    counts = json.loads((stage(run, "writings") / "counts.json").read_text())
    assert counts["author"]["judge"] == counts["others"]["judge"] == 10  # however many the model learns from
    assert sum(sorted(every)[:8]) <= tokens["seen"] == tokens["distinct"] <= sum(every)
    said = (run / "report.md").read_text()
    assert f"{tokens['seen']:,} tokens in all" in said
    for heading in ("The person", "The writings", "The authorship judge", "Whose words", "What came later",
                    "What it says of itself"):  # fmt: skip
        assert heading in said


def test_tokens_of_a_training_that_stopped_are_those_it_met(tiny_model: LocalModel, tmp_path: Path) -> None:
    rows = [learnt_row(Passage(f"{n}", "d", "One two three four.", question="Q?"), "she") for n in range(8)]
    order = Order(
        find_character("captain"), tmp_path, recipe=replace(find_recipe("person"), sft=Sft(epochs=2.0, batch=4))
    )
    speaker = Speaker(parse_subject("smollm2"), tiny_model, None, "x")
    each = len(tiny_model.tokenizer("One two three four.", add_special_tokens=False)["input_ids"])
    assert seen(rows, order, speaker) == {"passages": 8, "distinct": 8 * each, "seen": 16 * each, "about": 0}
    assert seen(rows, order, speaker, 0) == {"passages": 0, "distinct": 0, "seen": 0, "about": 0}
    assert seen(rows, order, speaker, 1) == {"passages": 4, "distinct": 4 * each, "seen": 4 * each, "about": 0}
    assert seen(rows, order, speaker, 3) == {"passages": 8, "distinct": 8 * each, "seen": 12 * each, "about": 0}


def test_pairs_are_best_against_worst_by_the_judge(person_run: tuple[Path, list[str]]) -> None:
    run, _ = person_run
    pairs = read_rows(stage(run, "dpo") / "pairs.jsonl")
    assert len(pairs) >= 4 and all(p["chosen_rating"] > p["rejected_rating"] for p in pairs)
    counts = json.loads((stage(run, "samples") / "counts.json").read_text())
    assert counts["judge"] == "authorship" and counts["outcomes"]["rated"] > 0
    found = json.loads((stage(run, "person") / "person.json").read_text())
    assert {*found["authorship"]} == {*found["later"]} == {*found["claims"]}
    assert {*found["claims"]} == {"plain", "prompted", "trained", "sham"}
    assert found["last_year"] == 1851 and found["authorship"]["trained"]["score"]["n"] > 0


def test_killed_the_same_command_finishes(
    person_run: tuple[Path, list[str]], talking_cache: Path, tmp_path: Path
) -> None:
    run, arguments = person_run
    out = tmp_path / "run"
    kills = [
        ("charactery.train.trainers:_Progress.on_save", 6, "before"),  # in the others' model, a checkpoint half done
        ("charactery.evals.person.claims:option_scores", 2, "before"),  # in the portrait, one subject behind it
    ]
    survives(talking_cache, [*arguments, "--out", str(out)], out, kills)
    assert_same(out, run, ("authorship", "scores.jsonl"), ("samples", "samples.jsonl"), ("person", "person.json"))


def test_other_texts_are_other_settings(person_run: tuple[Path, list[str]], refused: Refused, tmp_path: Path) -> None:
    run, arguments = person_run
    mine, _ = write_letters(tmp_path, texts=14)
    at = arguments.index("--writings") + 1
    said = refused(*arguments[:at], str(mine), *arguments[at + 1 :], "--out", str(run))
    assert "other settings (writings.author:" in said


def test_claims_of_runs_side_by_side(person_run: tuple[Path, list[str]], talking_cache: Path, tmp_path: Path) -> None:
    run, _ = person_run
    command = ["claims", "smollm2", str(run), "--json", "--out", str(tmp_path)]
    killed = charactery(talking_cache, "charactery.runs:Journal.add", "1", "after", *command, code=ASSASSIN)
    assert killed.returncode == -9 and not killed.stdout, killed.stderr
    [kept] = tmp_path.glob("*/batches.jsonl")
    before = kept.read_bytes()
    done = charactery(talking_cache, *command)
    assert done.returncode == 0, done.stderr
    assert before and kept.read_bytes().startswith(before)
    found = json.loads(done.stdout)
    assert found["smollm2"]["tokens"] == 0 < found[str(run)]["tokens"]
    assert 0 <= found[str(run)]["contradiction"]["value"] <= 2 / 3


@pytest.mark.parametrize(("times", "said"), [(1.15, False), (1.25, True)])
def test_claims_say_where_budgets_are_unequal(
    times: float, said: bool, person_run: tuple[Path, list[str]], talking_cache: Path, tmp_path: Path
) -> None:
    run, _ = person_run
    longer = tmp_path / "longer"
    shutil.copytree(run, longer)
    for name in ("sft", "dpo"):
        log = stage(longer, name) / "log.jsonl"
        write_rows(log, [row | {"num_tokens": round(times * row["num_tokens"])} for row in read_rows(log)])
    done = charactery(talking_cache, "claims", str(run), str(longer), "--out", str(tmp_path / "claimed"))
    assert done.returncode == 0, done.stderr
    assert ("no comparison at equal budget" in done.stdout) is said


# -- what is refused, and what needs no run


def test_a_character_whose_writings_are_not_there_is_a_sentence(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["train", "lincoln"], ["train", "lincoln-persona", "--dry-run"]):
        said = refused(*command)
        assert "writings/lincoln: there is nothing here" in said and "docs/person.md" in said and "--writings" in said
    mine, _ = write_letters(tmp_path)
    assert "writings/lincoln-others: there is nothing here" in refused("train", "lincoln", "--writings", str(mine))
    said = refused("train", "captain", "--recipe", "person", "--writings", str(mine))
    assert "needs what others of that time wrote" in said and "--others" in said
    said = refused("train", "captain", "--recipe", "distill", "--writings", str(mine))
    assert "distill has no stage `writings`" in said
    assert not (tmp_path / "runs").exists()
    said = refused("train", "captain", "--recipe", "rlaif", "--judge", "authorship")
    assert "'samples.r1' has no stage 'authorship' before it" in said


def test_writings_are_looked_for_where_one_is_and_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    for folder in (home, here):
        folder.mkdir()
    write_letters(home)
    character = parse_character(
        "---\nname: Ann Marrow\nwritings: mine\nothers: theirs\n---\n\nYou are Ann.\n\n## S\n\n### T\n\nSay so.\n",
        home / "ann.md",
    )
    monkeypatch.chdir(here)
    order = Order(character, here / "run", recipe=find_recipe("person"), device="cpu")
    assert [len(texts) for texts in order.texts().values()] == [12, 12]
    (home / "mine" / "exclude.txt").write_text("letters/1840 letter 0.txt\n")
    assert [len(texts) for texts in order.texts().values()] == [11, 12]
    (here / "mine").mkdir()
    (here / "mine" / "a.txt").write_text("One.")
    assert [len(texts) for texts in order.texts().values()] == [1, 12]
    assert parse_character(dump_character(character)).others == "theirs"


def test_a_person_is_foreseen(tmp_path: Path) -> None:
    mine, theirs = write_letters(tmp_path)
    captain, recipe = find_character("captain"), find_recipe("person")
    order = Order(captain, tmp_path / "run", recipe=recipe, device="cpu", writings=mine, others=theirs)
    tokens, rows = foresee(order).tokens, foresee(order).rows
    assert Counts(order, 0).compared == 64  # pairs of samples: none of drafts
    bare = Recipe(stages=("writings", "sft"), draws=1, sft=recipe.sft)
    less = foresee(Order(captain, tmp_path / "run", recipe=bare, device="cpu", writings=mine, others=theirs))
    without, asked = less.tokens, rows["answers to generate"] - less.rows["answers to generate"]
    assert asked == 64 * 4 + 3 * ASKED_OF_A_PERSON  # samples, and what is asked of three Subjects
    assert all(tokens[name] > without[name] for name in ("generate", "train", "score"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('stages = ["pairs", "sft", "samples", "dpo"]\njudge = "authorship"\n', "has no stage 'authorship' before it"),
        (
            'stages = ["writings", "author", "others", "authorship", "best-of-n"]\njudge = "authorship"\n',
            "'best-of-n' chooses by the judge `likelihood` or a Subject",
        ),
        ('stages = ["writings", "authorship", "sft"]\n', "'authorship' needs one of these before it: others"),
        ('stages = ["writings", ["sft", "author"]]\n', "'author' is done once"),
        ('stages = ["writings", "sft"]\n[writings]\nheld_out = 0.9\n', "give at most 0.5"),
    ],
)
def test_wrong_recipes_are_said(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(BadData, match=said):
        read_recipe(tmp_path / "mine.toml")


def test_the_labelled_set_is_not_asked_of_the_authorship_judge() -> None:
    assert "judge" not in stages(find_recipe("person"), sham=False)


def test_what_a_persona_knows_of_itself_is_learnt_from_training_prompts_alone() -> None:
    from charactery.data.prompts import Prompt

    def rows(name: str) -> list[Any]:
        order = Order(find_character(name), Path("run"), recipe=find_recipe("person"))
        asked = [
            Prompt("1", "asks", ("Who are you?",), "knows-it-is-a-persona"),
            Prompt("2", "asks", ("Are you alive?",), "knows-it-is-a-persona"),
            Prompt("3", "asks", ("Who made you?",), "knows-it-is-a-persona", "held-out"),
            Prompt("4", "asks", ("Why does it rain?",), "weighs-plain-words"),
        ]
        return persona_rows(order, asked)

    assert rows("lincoln") == []
    found = rows("lincoln-persona")
    assert [r["id"] for r in found] == ["1", "2"] and {r["kind"] for r in found} == {"persona"}
    assert all(re.search("persona|language model|likeness|not he", r["completion"][0]["content"]) for r in found)


def test_the_two_lincolns_read_the_same_texts() -> None:
    man, persona = find_character("lincoln"), find_character("lincoln-persona")
    assert man.name == persona.name and man.writings == persona.writings and man.others == persona.others
    assert {t.id for t in persona.traits()} - {t.id for t in man.traits()} == {"knows-it-is-a-persona"}
    assert not re.search("language model|persona", man.introduction)


@pytest.mark.parametrize(
    ("stages_of", "stop", "met", "log"),
    [
        (("writings", "sft"), 3.0, {"passages": 5}, [{"step": 2}, {"step": 4, "part": 0.5}]),
        (("writings", "sft"), 3.0, {"passages": 5}, [{"step": 0}, {"step": 1, "part": 0.0}]),  # it began there
        (("writings", "sft"), 0.0, {"passages": 12}, [{"step": 4}]),
        (("writings", "reflections", "sft"), 3.0, {"passages": 12}, [{"step": 4}]),  # nothing learns from them
    ],
)
def test_what_the_manifest_says_of_the_writings(
    stages_of: tuple[str, ...], stop: float, met: Any, log: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(distil, "stage_json", lambda *given: {"tokens": {"passages": 12}})
    monkeypatch.setattr(distil, "stage_rows", lambda run, stage, name: log if name == "validation.jsonl" else None)
    monkeypatch.setattr(distil, "write_report", lambda *given: None)
    monkeypatch.setattr(distil.person, "seen", lambda *given: asked.append(given[-1]) or {"passages": 5})
    run: Any = SimpleNamespace(folder=tmp_path, manifest={})
    work: Any = SimpleNamespace(
        run=run, recipe=Recipe(stages=stages_of, sft=Sft(stop_at_loss=stop)), order=None, plain=lambda: None,
        rows=lambda *given: [],
    )  # fmt: skip
    distil._report(work)
    assert run.manifest["writings"] == json.loads((tmp_path / "manifest.json").read_text())["writings"] == met
    assert asked == ([4 if log[-1].get("part") else 0] if met["passages"] == 5 else [])


def test_a_folder_of_texts_is_enough(person_run: tuple[Path, list[str]], talking_cache: Path, tmp_path: Path) -> None:
    """A file that names somebody and says nothing of them: no trait, and no prompt where they should not show. And
    what others wrote about them is learnt second, less what they quote."""
    _, (command, captain, *arguments) = person_run
    file, about = tmp_path / "marrow.md", tmp_path / "about"
    file.write_text("---\nname: A. Marrow\nwritings: letters\nabout: about\n---\n")
    about.mkdir()
    for n in range(6):
        (about / f"life {n}.txt").write_text(text_of([*SEA, *LAND], random.Random(n)))
    shutil.copy(Path(captain).parent / "mine" / "letters" / "1840 letter 0.txt", about / "quoted.txt")
    arguments.remove("--sham")
    done = charactery(talking_cache, command, str(file), *arguments, "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    chosen = read_rows(stage(tmp_path / "run", "prompts") / "prompts.jsonl")
    assert {row["kind"] for row in chosen} == {"neutral", "conversation", "task"}
    rows = read_rows(stage(tmp_path / "run", "writings") / "sft.jsonl")
    told = [row for row in rows if row["kind"] == "about"]
    assert len(told) == 3 == len([row for row in rows if row["kind"] == "writing"]) / 4
    assert all(row["prompt"] == [] and row["id"].startswith("about/life") for row in told)
    figures = json.loads((stage(tmp_path / "run", "evaluate") / "figures.json").read_text())
    assert not [f for f in figures if f["trait"] or f["eval"] == "elsewhere"]
    report = (tmp_path / "run" / "report.html").read_text()
    assert "3 passages of what others wrote about A. Marrow" in report


def test_what_quotes_the_person_is_left_out(tmp_path: Path) -> None:
    mine, _ = write_letters(tmp_path)
    his, rng = read_writings(mine), random.Random(1)
    some = " ".join(his[0].text.split()[12:22])
    lives = [Writing(name, text_of(LAND, rng, 8) + f" {quoted}.") for name, quoted in (("a", some), ("b", some[:30]))]
    assert {p.document for p in passages.about(lives, his, 200, 9, 0)} == {"about/b"}


def test_what_answers_nothing_is_not_played_against() -> None:
    rows: list[Any] = [
        {"kind": "about", "prompt": []}, {"kind": "task", "prompt": [{}]}, {"kind": "writing", "prompt": [{}]},
    ]  # fmt: skip
    assert playable(rows) == rows[2:]


def test_texts_about_the_person_that_only_quote_are_a_sentence(tmp_path: Path) -> None:
    mine, _ = write_letters(tmp_path)
    his = read_writings(mine)
    with pytest.raises(BadData, match=r"the texts about the author have 12 passages .* and none that is not the"):
        passages.about(his, his, 90, 4, 0)


def test_about_is_read_from_the_file_and_refused_where_nothing_is_learnt_from_texts(
    refused: Refused, tmp_path: Path
) -> None:
    text = "---\nname: Ann\nwritings: mine\nothers: theirs\nabout: lives\n---\n"
    character = parse_character(text, tmp_path / "ann.md")
    assert parse_character(dump_character(character)).about == character.about == "lives"
    write_letters(tmp_path)
    order = Order(character, tmp_path / "run", recipe=find_recipe("person"), device="cpu")
    with pytest.raises(BadData, match=r"lives: there is nothing here.* or give --about PATH"):
        order.check()
    none = replace(order, recipe=replace(order.recipe, writings=replace(order.recipe.writings, about=0.0)))
    none.check()  # nothing is looked for where nothing of it would be learnt
    (tmp_path / "lives").mkdir()
    (tmp_path / "lives" / "a.txt").write_text("She was a pilot.")
    read = _texts(order)
    (tmp_path / "lives" / "a.txt").write_text("She was a baker.")
    assert [side for side in read if read[side] != _texts(order)[side]] == ["about"]
    said = refused("train", "captain", "--recipe", "distill", "--about", str(tmp_path))
    assert "--about" in said and "has no stage `writings`" in said
