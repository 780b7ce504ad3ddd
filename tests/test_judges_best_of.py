"""The best of N: what the judge ranks highest is given, and how far that can be from the model's own answers."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charactery.constitution import dump_character, find_character, foil_characters
from charactery.errors import CharacteryError, ModelNotFound
from charactery.evals import registry
from charactery.judges.best_of import Unkept, best, choosing, kl_bound
from charactery.judges.likelihood import evidence, margins
from charactery.judges.rating import Case
from charactery.models.chat import user
from charactery.models.inspect_provider import CharacteryAPI
from charactery.models.local import Answer, Request, Sampler
from charactery.models.speaker import Models, Speaker, answer, answer_all, batches, nth
from charactery.models.subject import Subject, parse_subject
from charactery.runs import Journal

CAPTAIN = find_character("captain")
ASKED = [Request((user(f"What of the {word}?"),), n) for n, word in enumerate(("sea", "tea", "weather", "work"))]
SHORT = Sampler(12, 1.0)


def best_run(folder: Path, model: Path, n: int = 4) -> Path:
    """A run of the recipe best-of-n as far as who answers needs it."""
    folder.mkdir()
    (folder / "character.md").write_text(dump_character(CAPTAIN))
    (folder / "manifest.json").write_text(json.dumps({
        "settings": {"model": str(model), "recipe": {"best_of": {"n": n}, "judge": "likelihood"}},
        "stages": ["prompts", "drafts", "judge", "best-of-n", "evaluate", "report"], "trained": "best-of-n",
        "command": "charactery train captain --recipe best-of-n",
    }))  # fmt: skip
    return folder


@pytest.mark.parametrize(
    ("values", "picked"),
    [([0.1, 0.5, 0.3], 1), ([-2.0, -1.0, None], 1), ([None, -1.0], 1), ([None, None], 0), ([0.5, 0.5], 0), ([0.0], 0)],
)
def test_the_highest_is_picked_the_first_of_equals_and_never_what_has_no_verdict(values: Any, picked: int) -> None:
    assert best(values) == picked


@pytest.mark.parametrize("n", [1, 2, 4, 8, 16])
def test_the_bound_is_the_kl_where_no_two_answers_are_rated_alike_and_no_less_where_some_are(n: int) -> None:
    places = (np.arange(200_000) + 0.5) / 200_000  # of an answer among all there are, by rating
    density = n * places ** (n - 1)
    assert kl_bound(n) == pytest.approx(float(np.mean(density * np.log(np.maximum(density, 1e-300)))), abs=1e-4)
    below = np.cumsum([0.2, 0.5, 0.3])  # three answers alone, by rating
    picked = np.diff(below**n, prepend=0)
    assert float(np.sum(picked * np.log(picked / [0.2, 0.5, 0.3]))) <= kl_bound(n) + 1e-12


def test_a_run_gives_the_answer_that_its_judge_ranks_highest(tiny_model_folder: Path, tmp_path: Path) -> None:
    run = best_run(tmp_path / "run", tiny_model_folder)
    models = Models("cpu", choosing=choosing)
    four, plain = models.speaker(str(run)), models.speaker(str(tiny_model_folder))
    drawn = [answer([(plain, nth(r, n)) for r in ASKED], SHORT) for n in range(4)]
    given = four.answer(ASKED, SHORT)
    whole = evidence(CAPTAIN, foil_characters())[:1]
    told = []
    for i, request in enumerate(ASKED):
        mine = [row[i] for row in drawn]
        values = margins(plain.model, [(request.messages, a.text) for a in mine], whole)[0]  # type: ignore[arg-type]
        told.append(mine.index(given[i]))
        assert values[told[-1]] > np.nanmax(values) - 0.02  # in bfloat16, what is read beside an answer shows
    assert len({*told}) > 1, "or always taking one would do"


def test_the_best_of_few_chooses_among_the_first_of_many(tiny_model_folder: Path, tmp_path: Path) -> None:
    run = best_run(tmp_path / "run", tiny_model_folder)
    models = Models("cpu", choosing=choosing)
    plain = models.speaker(str(tiny_model_folder))
    drawn = [answer([(plain, nth(r, n)) for r in ASKED], SHORT) for n in range(8)]
    for n in (1, 2, 8):
        given = models.speaker(f"{run}:best-of-n/{n}").answer(ASKED, SHORT)
        assert all(given[i] in [row[i] for row in drawn[:n]] for i in range(len(ASKED)))
    assert models.speaker(f"{run}:best-of-n/1").answer(ASKED, SHORT) == answer([(plain, r) for r in ASKED], SHORT)


def test_a_run_that_masks_reasoning_chooses_by_answers_alone(tiny_model_folder: Path, tmp_path: Path) -> None:
    run = best_run(tmp_path / "run", tiny_model_folder)
    models = Models("cpu")
    reads = choosing(models, parse_subject(str(run)))
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["settings"]["recipe"]["dpo"] = {"mask_reasoning": True}
    (run / "manifest.json").write_text(json.dumps(manifest))
    alone = choosing(models, parse_subject(str(run)))
    assert alone.identity != reads.identity
    case = Case((user("Tea?"),), ("<think>a b c</think> Aye.", "Aye."))
    whole, masked = (by.judge.rate([case], Unkept(), lambda done: None).values[0] for by in (reads, alone))
    assert masked[0] == pytest.approx(masked[1], abs=1e-3) and whole[0] != pytest.approx(whole[1], abs=1e-3)


@dataclass(frozen=True)
class Longest:
    """Picks the longest of three."""

    n: int = 3
    identity: str = "longest"

    def pick(self, cases: Any) -> list[int]:
        return [max(range(len(answers)), key=lambda n: len(answers[n])) for _, answers in cases]


def test_who_chooses_has_batches_of_its_own_and_is_kept_as_chosen(tiny_model_folder: Path, tmp_path: Path) -> None:
    plain = Models("cpu").speaker(str(tiny_model_folder))
    longest = replace(plain, identity="longest of three", chooser=Longest())
    asks = [(speaker, r) for r in ASKED for speaker in (plain, longest)]
    assert [{id(asks[i][0]) for i in batch} for batch in batches(asks, 128)] == [{id(plain)}, {id(longest)}]
    given = answer_all(asks, SHORT, Journal(tmp_path / "j"))
    assert all(len(b.text) >= len(a.text) for a, b in zip(given[::2], given[1::2], strict=True))
    again = answer_all(asks, SHORT, Journal(tmp_path / "j"))
    assert again == given and len((tmp_path / "j").read_text().splitlines()) == 2


def test_what_a_run_that_chose_is_called(tiny_model_folder: Path, tmp_path: Path) -> None:
    run = best_run(tmp_path / "run", tiny_model_folder, n=4)
    subject = parse_subject(str(run))
    assert (subject.best_of, subject.judge, subject.adapter, subject.base) == (
        4, "likelihood", None, str(tiny_model_folder),
    )  # fmt: skip
    assert parse_subject(f"{run}:best-of-n/16").best_of == 16
    assert parse_subject(f"{run}+grandmother:best-of-n/2").character is not None
    for wrong in ("/0", "/65", "/many"):
        with pytest.raises(ModelNotFound, match="comes how many to choose from, 1 to 64"):
            parse_subject(f"{run}:best-of-n{wrong}")
    with pytest.raises(ModelNotFound, match="nothing was trained"):
        parse_subject(f"{run}@0.5")
    with pytest.raises(ModelNotFound, match="has no adapter that a server could apply"):
        parse_subject(f"http://localhost:8000/v1#{run}")


def test_two_that_choose_differently_are_not_one_speaker(tiny_model_folder: Path, tmp_path: Path) -> None:
    run = best_run(tmp_path / "run", tiny_model_folder)
    models = Models("cpu", choosing=choosing)
    names = (str(tiny_model_folder), f"{run}:best-of-n/1", str(run), f"{run}:best-of-n/8")
    assert len({models.speaker(name).identity for name in names}) == 4


def test_without_judges_it_is_refused(tiny_model_folder: Path, tmp_path: Path) -> None:
    run = best_run(tmp_path / "run", tiny_model_folder)
    with pytest.raises(ModelNotFound, match="nothing here judges them"):
        Models("cpu").speaker(str(run))
    with pytest.raises(CharacteryError, match="is no run"):
        choosing(Models("cpu"), Subject("x", "x", "folder", best_of=2, judge="likelihood"))


def test_inspects_provider_is_given_the_judges(tiny_model_folder: Path, tmp_path: Path) -> None:
    run = best_run(tmp_path / "run", tiny_model_folder)
    assert registry.charactery
    loaded = CharacteryAPI(str(run), device="cpu").loaded()
    assert loaded.chooser is not None and loaded.chooser.n == 4


def test_a_server_s_model_may_choose_too() -> None:
    said = [Answer("Aye.", 2, True), Answer("Aye, aye, lad.", 5, True), Answer("", 0, True)]

    class Server:
        def generate(self, requests: Any, sampler: Any, adapter: Any, on_token: Any) -> list[Answer]:
            return [said.pop(0) for _ in requests]

    speaker = Speaker(Subject("x", "x", "server"), Server(), None, "x", Longest())  # type: ignore[arg-type]
    assert answer([(speaker, ASKED[0])], SHORT)[0].text == "Aye, aye, lad."
    assert math.isclose(kl_bound(1), 0.0)
