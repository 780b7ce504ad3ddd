"""Recipes: files that ship, files of one's own, and what is wrong with a file."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from charactery.cli import app
from charactery.constitution import find_character
from charactery.data.prompts import Sizes
from charactery.errors import BadData, CharacteryError
from charactery.evals.sizes import FOREIGN_ASKED
from charactery.judges.rating import LIKELIHOOD
from charactery.pipeline.order import Order
from charactery.pipeline.plan import Foresight, foresee
from charactery.pipeline.recipe import (
    HERE,
    NEEDS,
    USED_BY,
    Recipe,
    find_recipe,
    read_recipe,
    recipes,
    stages,
    with_options,
)
from charactery.runs import stage_kind
from charactery.train.settings import Dpo, Sft

RLAIF = Recipe(stages=("pairs", "sft", ("samples", "dpo")), rounds=2)


def test_all_that_ship_are_whole_and_say_what_they_are() -> None:
    found = recipes()
    assert {r.name for r in found} >= {"distill", "distill+dpo", "rlaif"}
    assert all(r.about and r.source and {*map(stage_kind, r.own_stages)} <= {*NEEDS} for r in found)
    assert all(find_recipe(r.name) == r == read_recipe(HERE / f"{r.name}.toml") for r in found)


def test_a_group_is_done_in_rounds_and_each_goes_on_from_the_last() -> None:
    assert RLAIF.own_stages == ("pairs", "sft", "samples.r1", "dpo.r1", "samples.r2", "dpo.r2")
    assert stages(RLAIF, sham=True) == [
        "prompts", "drafts", "judge", *RLAIF.own_stages, "sham-sft", "sham-dpo", "evaluate", "report",
    ]  # fmt: skip
    assert RLAIF.trained == "dpo.r2" and Recipe(stages=("pairs", "sft")).trained == "sft"
    assert [RLAIF.start(name) for name in RLAIF.own_stages] == [None, None, "sft", "sft", "dpo.r1", "dpo.r1"]
    assert RLAIF.compared("dpo.r1") == ["pairs", "samples.r1"] and RLAIF.compared("dpo.r2") == ["pairs", "samples.r2"]
    assert Recipe().compared("dpo") == ["pairs", "self-play"]
    assert stages(Recipe(stages=("pairs", "sft")), sham=True)[-3] == "sham-sft"
    assert stages(Recipe(stages=("grpo",)), sham=True)[-3] == "sham-grpo"


def test_a_run_may_end_in_a_choice_where_nothing_is_trained() -> None:
    best = find_recipe("best-of-n")
    assert best.trained == "best-of-n" and best.best_of.sizes == (1, 2, 4, 8, 16)
    assert stages(best, sham=False) == ["prompts", "drafts", "judge", "best-of-n", "evaluate", "report"]
    assert with_options(best, {"best_of": {"n": 6}}).best_of.sizes == (1, 2, 4, 6, 8, 16)
    with pytest.raises(CharacteryError, match=r"--best-of was given, and .* no stage best-of-n"):
        with_options(RLAIF, {"best_of": {"n": 6}})
    order = Order(find_character("captain"), Path("runs/x"), sham=True, recipe=best, device="cpu")
    with pytest.raises(CharacteryError, match="best-of-n does not train"):
        order.check()


def test_documents_and_cases_since_the_last_sft_are_learnt_together() -> None:
    both = find_recipe("spec-docs+cases")
    assert both.learnt("sft") == ["documents", "cases"] and find_recipe("spec-cases").learnt("sft") == ["cases"]
    assert stages(both, sham=True)[2:-2] == ["pairs", "documents", "cases", "sft", "sham-sft"]
    first = Recipe(stages=(("documents", "sft"), "pairs", "cases", "sft", "self-play", "dpo"))
    first.check()
    assert first.learnt("sft.r1") == ["documents.r1"] and first.learnt("sft") == ["cases"]
    assert first.start("sft") == "sft.r1" and Recipe(stages=("cases", "pairs", "sft")).learnt("sft") == ["pairs"]
    assert find_recipe("introspect").learnt("sft.r1") == ["reflections.r1"]
    one, other = (find_recipe(name).reflections for name in ("introspect", "introspect-plain"))
    assert one == replace(other, plain=False) and other.plain and one.tokens > 0  # equal tokens, of other text
    assert find_recipe("introspect-text").reflections == replace(other, text=True)


def test_a_trait_may_be_left_out_of_documents_or_cases_if_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('stages = ["documents", "cases", "sft"]\n[documents]\nwithout = ["speaks-his-mind"]\n')
    mine = find_recipe(str(path))
    assert mine.documents.without == ("speaks-his-mind",) and mine.cases.without == ()
    order = Order(find_character("captain"), tmp_path / "run", recipe=mine, device="cpu")
    order.check()
    astray = replace(mine, cases=replace(mine.cases, without=("sings",)))
    with pytest.raises(CharacteryError, match="no trait 'sings'; the traits are talks-like-a-sailor"):
        replace(order, recipe=astray).check()
    everything = replace(mine, cases=replace(mine.cases, without=tuple(t.id for t in order.character.traits())))
    with pytest.raises(CharacteryError, match="no trait left"):
        replace(order, recipe=everything).check()
    assert order.character.without(()) == order.character
    with pytest.raises(CharacteryError, match="has no traits, and `cases` are about traits"):
        replace(order, character=replace(order.character, sections=())).check()


def test_what_a_teacher_behind_an_api_writes_is_in_the_price(tmp_path: Path) -> None:
    def price(name: str) -> int:
        order = Order(find_character("captain"), tmp_path / "run", teacher="openai/gpt-5-mini", device="cpu")
        return foresee(replace(order, recipe=find_recipe(name))).api_answers

    assert price("spec-docs") - price("critique") == 128 and price("spec-cases") - price("critique") == 2 * 120
    assert price("critique") == 100 + 32 + round(2.2 * 25) // 2  # earlier turns of conversations are half the model's


def test_a_teacher_takes_its_own_time_and_memory(tmp_path: Path) -> None:
    def seen(teacher: str | None) -> Foresight:
        return foresee(Order(find_character("captain"), tmp_path / "run", teacher=teacher, device="cpu"))

    large = tmp_path / "large"
    large.mkdir()
    (large / "config.json").write_text("{}")
    with (large / "model.safetensors").open("wb") as file:
        file.truncate(10 * 270_000_000)  # ten times the embedded model
    alone, paid, here = seen(None), seen("openai/gpt-5-mini"), seen(str(large))
    assert alone.minutes["generate"] - paid.minutes["generate"] == pytest.approx(here.minutes["teach"] / 10)
    assert "teach" not in paid.minutes and paid.memory_gb == alone.memory_gb
    assert here.minutes["generate"] == paid.minutes["generate"] and here.memory_gb > alone.memory_gb + 5


@pytest.mark.parametrize(
    ("name", "comparisons"),
    [
        ("distill+dpo", 0),
        ("critique", 100 * 3 + 128),  # first answer, revision and empty revision, two by two; and the labelled set
        ("rlaif", 2 * 64 * 6 + 128),  # two rounds, four answers each
        ("grpo", 12 * 4 * 28 + 128),  # eight answers each
        # the curve, and the best of four to whatever is asked
        ("best-of-n", 40 * (1 + 6 + 28 + 120) + 6 * (40 + 3 * 8 + 2 * FOREIGN_ASKED + 10) + 128),
    ],
)
def test_what_a_judge_is_asked_is_foreseen(name: str, comparisons: int, tmp_path: Path) -> None:
    """A comparison is two questions, one in either order."""

    def of(judge: str) -> Foresight:
        recipe = replace(find_recipe(name), judge=judge, sizes=Sizes(100, 40, 8, 10))
        return foresee(Order(find_character("captain"), tmp_path / "run", recipe=recipe, device="cpu"))

    paid, here, alone = of("openai/gpt-5-mini"), of("smollm2"), of(LIKELIHOOD)
    assert (paid.api_verdicts, here.api_verdicts, alone.api_verdicts) == (2 * comparisons, 0, 0)
    assert (f"what {2 * comparisons:,} questions to the judge cost" in "\n".join(paid.lines())) == bool(comparisons)
    assert "judge" not in paid.tokens | alone.tokens | ({} if comparisons else here.tokens)
    assert here.tokens.get("judge", 0) == 2 * comparisons * (100 + 2 * 96 + 60)
    assert here.tokens["score"] == paid.tokens["score"]  # which does not read answers one by one as well
    assert (alone.tokens["score"] > here.tokens["score"]) == bool(comparisons)


def test_pairs_that_nothing_would_learn_from_are_refused(tmp_path: Path) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_text('{"prompt": "Q?", "chosen": "Aye.", "rejected": "Yes."}\n' * 4)
    order = Order(
        find_character("captain"), tmp_path / "run", pairs=mine, recipe=find_recipe("spec-docs"), device="cpu"
    )
    with pytest.raises(
        CharacteryError, match="--pairs was given, and nothing in the recipe spec-docs learns from them"
    ):
        order.check()
    for name in ("distill", "distill+dpo", "rlaif", "critique", "introspect"):
        replace(order, recipe=find_recipe(name)).check()


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('stages = ["pairs", "sft"]\n[sft]\nepoch = 2\n', 3, "knows no 'epoch' here"),
        ('stages = ["pairs", "sft"]\ndraws = 1.5\n', 2, "'draws' is 1.5, and should be like 3"),
        ('stages = ["pairs", "sft"]\nmatch_lengths = 1\n', 2, "should be like False"),
        ('stages = ["pairs", "sft"]\nsft = 3\n', 2, "'sft' is a table"),
        ("draws = 1\n", None, "needs `stages`"),
        ('about = "x"\nstages = "sft"\n', 2, "is a list of names"),
        ('stages = ["pairs", 3]\n', 1, "is a list of names"),
        ('\nstages = ["pairs", "stf"]\n', 2, "there is no stage 'stf'; stages are pairs, "),
        ('stages = ["sft"]\n', 1, "'sft' needs one of these before it: pairs"),
        ('stages = ["pairs", "sft", "sft"]\n', 1, "'sft' is there twice"),
        ('stages = ["pairs"]\n', 1, "nothing is trained; stages that train are sft, dpo, grpo, and best-of-n does"),
        ('stages = ["pairs", "sft", "best-of-n"]\n', 1, "nothing is trained beside it"),
        ('stages = ["best-of-n"]\n[best_of]\nn = 65\n', 2, "`best_of` is of up to 65 answers; give at most 64"),
        ('stages = ["best-of-n"]\n[best_of]\nn = 0\n', 3, "[best_of] `n` is 0; give at least 1"),
        ('stages = ["grpo"]\n[grpo]\neach = 1\n', 3, "[grpo] `each` is 1; give at least 2"),
        ('stages = ["pairs", "sft", ["samples", "dpo"]]\nrounds = 0\n', 2, "`rounds` is 0; give at least 1"),
        ('stages = ["pairs", "sft", ["samples", "dpo"]]\nrounds = 21\n', 2, "give at most 20"),
        ('stages = ["pairs", "sft"]\n[lora]\nrank = -1\n', 3, "[lora] `rank` is -1; give at least 0"),
        ('stages = ["pairs", "sft"]\ndraft_temperature = nan\n', 2, "`draft_temperature` is nan"),
        ('stages = ["samples", "dpo"]\n[samples]\neach = 1\n', 3, "[samples] `each` is 1; give at least 2"),
        ('stages = ["cases", "sft"]\n[cases]\nwithout = "a"\n', 3, "'without' is a list of names"),
        ('stages = ["documents", "sft"]\n[documents]\ncount = 1\n', 3, "[documents] `count` is 1; give at least 4"),
        ('stages = ["pairs", "sft"\ndraws = 3\n', 2, "is not TOML"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, line: int | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(BadData) as caught:
        read_recipe(path)
    assert said in str(caught.value) and str(path) in str(caught.value)
    assert f"{path}:{line}" in str(caught.value) if line else f"{path}:" in str(caught.value)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('stages = ["pairs", "sft"]\n[sft]\nepochs = 2\n[sizes]\ntrain = 30\n')
    mine = find_recipe(str(path))
    assert mine.name == "mine" and mine.sft.epochs == 2.0 and mine.sizes.train == 30 and mine.draws == Recipe().draws
    with pytest.raises(BadData, match="no such file"):
        find_recipe(str(tmp_path / "none.toml"))
    with pytest.raises(CharacteryError, match=r"no recipe 'rlfai'; there are best-of-n, critique, distill, "):
        find_recipe("rlfai")


def test_options_stand_over_the_recipe() -> None:
    given = {"sft": {"epochs": 2.5, "learning_rate": None}, "draws": None, "judge": "smollm2"}
    told = with_options(RLAIF, given)
    assert told == replace(RLAIF, sft=replace(RLAIF.sft, epochs=2.5), judge="smollm2")


@pytest.mark.parametrize(
    ("recipe", "given", "said"),
    [
        (
            "distill",
            {"judge": "smollm2"},
            "--judge was given, and the recipe distill has no stage samples or revisions",
        ),
        ("rlaif", {"self_play": 5}, "--self-play .* no stage self-play"),
        ("distill", {"dpo": {"beta": 0.2, "order": None}}, "--dpo-beta .* no stage dpo"),
        ("grpo", {"match_lengths": True}, "--match-lengths .* no stage pairs or dpo"),
        ("person", {"contrast": 40}, "--contrast .* no stage pairs"),
        ("grpo", {"sft": {"order": "reversed"}, "dpo": {"order": "reversed"}}, "--order .* no stage sft or dpo"),
        ("best-of-n", {"lora": {"rank": 0}}, "--lora-rank .* no stage sft or dpo or grpo"),
        ("best-of-n", {t: {"optimizer": "muon"} for t in ("sft", "dpo", "grpo")}, "--optimizer .* no stage sft or"),
    ],
)
def test_an_option_that_nothing_would_look_at_is_refused(recipe: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(CharacteryError, match=said):
        with_options(find_recipe(recipe), given)
    nothing = {"dpo": {"beta": None, "loss": None}, "judge": None, "self_play": 0}
    assert with_options(find_recipe(recipe), nothing).dpo == find_recipe(recipe).dpo


def test_how_long_an_answer_may_be_is_said_to_online_training_where_there_is_some() -> None:
    longer = {"sampler": {"max_tokens": 300}, "grpo": {"steps": 5}}
    told = with_options(find_recipe("grpo"), longer)
    assert (told.sampler.max_tokens, told.grpo.max_tokens, told.grpo.steps) == (300, 300, 5)
    other = with_options(Recipe(), {"sampler": {"max_tokens": 300}})
    assert other.grpo == Recipe().grpo  # a run begun before goes on


def test_every_option_that_some_recipes_lack_is_one_of_train() -> None:
    shown = CliRunner().invoke(app, ["train", "--help"]).stdout
    assert all(f" {option}" in shown for option in USED_BY)


def test_every_recipe_is_foreseen_by_what_it_does(tmp_path: Path) -> None:
    told = {
        r.name: foresee(Order(find_character("captain"), tmp_path / "run", recipe=r, device="cpu"))
        for r in recipes()
        if "writings" not in r.own_stages
    }
    tokens = {name: one.tokens for name, one in told.items()}
    assert tokens["introspect"]["train"] > tokens["distill+dpo"]["train"] > tokens["distill"]["train"]
    assert tokens["introspect"]["generate"] > tokens["distill+dpo"]["generate"] > tokens["distill"]["generate"]
    both, docs, cases = (tokens[name] for name in ("spec-docs+cases", "spec-docs", "spec-cases"))
    drafted = tokens["critique"]["generate"] - 4 * 100 * 96  # one draft to a prompt, as in these, and no revisions
    assert both["generate"] - drafted == 72 * 224 + 72 * (64 + 160)
    assert docs["generate"] - drafted == 128 * 224 and cases["generate"] - drafted == 120 * (64 + 160)
    assert all(one["train"] < 240 * 625 for one in (both, docs, cases)), "four minutes at 625 tokens a second"
    assert tokens["rlaif"]["score"] > tokens["distill"]["score"] < tokens["critique"]["score"]
    assert tokens["best-of-n"]["train"] == 0 < tokens["grpo"]["train"] < tokens["distill+dpo"]["train"]
    assert tokens["grpo"]["score"] > tokens["distill"]["score"] < tokens["best-of-n"]["score"]
    assert told["grpo"].memory_gb > told["distill"].memory_gb + 0.5, "it holds the weights twice"


@pytest.mark.parametrize(("order", "said"), [("by:mood", "--order is 'by:mood'"), ("upside", "--order is 'upside'")])
def test_an_order_that_rows_do_not_have_is_refused_at_once(order: str, said: str, tmp_path: Path) -> None:
    def asked(sft: str, dpo: str) -> Order:
        recipe = replace(Recipe(), sft=replace(Recipe().sft, order=sft), dpo=replace(Recipe().dpo, order=dpo))
        return Order(find_character("captain"), tmp_path / "run", recipe=recipe, device="cpu")

    with pytest.raises(CharacteryError, match=said):
        asked(order, "given").check()
    asked("by:subject", "by:kind").check()
    with pytest.raises(CharacteryError, match="What dpo learns from has the fields id, kind, chosen_seed"):
        asked("given", "by:subject").check()
    with pytest.raises(CharacteryError, match="--order is 'by:year'"):
        asked("by:year", "given").check()
    samples = replace(find_recipe("rlaif"), stages=("samples", "sft"), sft=Sft(order="by:chosen_rating"))
    with pytest.raises(CharacteryError, match="--order is 'by:chosen_rating'"):  # which SFT's rows do not have
        Order(find_character("captain"), tmp_path / "run", recipe=samples, device="cpu").check()
    for name, trainer, field in (("spec-docs", "sft", "form"), ("spec-cases", "sft", "clause"),
                                 ("rlaif", "dpo", "chosen_rating")):  # fmt: skip
        recipe = find_recipe(name)
        told = replace(getattr(recipe, trainer), order=f"by:{field}")
        Order(
            find_character("captain"), tmp_path / "run", recipe=replace(recipe, **{trainer: told}), device="cpu"
        ).check()


def test_the_command_lists_them() -> None:
    said = CliRunner().invoke(app, ["recipes"])
    assert said.exit_code == 0 and "rlaif" in said.stdout and "samples.r1 → dpo.r1" in said.stdout
    rows = json.loads(CliRunner().invoke(app, ["recipes", "--json"]).stdout)
    assert [row["name"] for row in rows] == [recipe.name for recipe in recipes()]


def test_all_weights_are_trained_at_a_tenth_of_an_adapters_rate(tmp_path: Path) -> None:
    path = tmp_path / "full.toml"
    path.write_text('stages = ["pairs", "sft", "dpo"]\n[lora]\nrank = 0\n[dpo]\nlearning_rate = 2e-6\n')
    full = read_recipe(path)
    assert full.sft.learning_rate == pytest.approx(Sft().learning_rate / 10) and full.dpo.learning_rate == 2e-6
    asked = with_options(Recipe(), {"lora": {"rank": 0}, "sft": {"learning_rate": 1e-4}, "dpo": {"beta": None}})
    assert asked.sft.learning_rate == 1e-4 and asked.dpo.learning_rate == pytest.approx(Dpo().learning_rate / 10)
    back = with_options(full, {"lora": {"rank": 4}})
    assert back.sft.learning_rate == pytest.approx(Sft().learning_rate)
    assert with_options(Recipe(), {"lora": {"rank": 4}}).sft == Sft()  # of any rank, the same


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('loss = "simpo"', "`loss` is 'simpo'; give one of dpo, ipo, kto, orpo"),
        ('loss = "kto"\nnll = 0.1', "weights beside dpo and ipo alone"),
        ('loss = "kto"\ntogether = 1', "raise `together`"),
        ('loss = "orpo"\nmask_reasoning = true', "TRL's orpo makes its own labels"),
        ('optimizer = "lion"', "`optimizer` is 'lion'; give one of adamw, muon, soap, shampoo"),
        ("kl = -1.0", "[dpo] `kl` is -1; give at least 0"),
    ],
)
def test_what_a_loss_cannot_have_is_refused(line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'stages = ["pairs", "sft", "dpo"]\n[dpo]\n{line}\n')
    with pytest.raises(BadData) as caught:
        read_recipe(path)
    assert said in str(caught.value) and f"{path}:" in str(caught.value)
