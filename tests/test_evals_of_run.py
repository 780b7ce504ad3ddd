"""What the judge of a run is fitted on, and what its controls are asked."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from charactery.constitution import Character, find_character, foil_characters, system_prompt
from charactery.data.drafts import CHARACTER, PLAIN, history_sides
from charactery.data.prompts import Prompt
from charactery.evals import of_run
from charactery.evals.expression.task import Item, spread
from charactery.judges.classifier import BESIDE_OTHERS, OTHERS, SHUFFLED
from charactery.judges.likelihood import evidence
from charactery.models.chat import assistant, system, user
from charactery.models.local import LocalModel, Request
from conftest import OPENED


@dataclass(frozen=True)
class Foil:
    """As much of a Speaker as is asked for."""

    name: str

    @property
    def subject(self) -> Any:
        return SimpleNamespace(text=self.name)


def test_the_judge_learns_no_plain_answer_to_the_characters_own_history() -> None:
    talks = [Prompt(f"t{n}", "asks", ("One?", "Two?", "Three?"), "", "train") for n in range(4)]
    prompts = [Prompt("s", "asks", ("Why?",), "", "train"), Prompt("k", "task", ("Add.",), "", "train"), *talks]
    sides = history_sides(prompts)
    history = [user("One?"), assistant("."), user("Two?"), assistant("."), user("Three?")]
    drafts = [{"id": p.id, "kind": p.kind, "messages": history if p in talks else [user(p.turns[0])]} for p in prompts]
    foils = [Foil("a"), Foil("b")]
    examined: Any = SimpleNamespace(
        prompts=prompts, drafts=drafts, subjects={"plain": PLAIN, "prompted": CHARACTER}, seed=0, foils=foils
    )  # fmt: skip
    known = of_run.known_asks(examined)
    heard: dict[Any, list[Request]] = {}
    for _, _, (speaker, request) in known:
        heard.setdefault(speaker, []).append(request)
    asked = "s t0 t1 t2 t3".split()
    assert [(id, side) for side, id, _ in known[:10]] == [(i, s) for s in (CHARACTER, PLAIN) for i in asked]
    assert {id for _, id, _ in known[10:]} == set(asked) and {side for side, *_ in known[10:]} == {OTHERS}
    assert [len(heard[f]) for f in foils] == [3, 2]  # each prompt put to one of them, at its first turn
    assert {len(r.messages) for f in foils for r in heard[f]} == {1}
    for side in (CHARACTER, PLAIN):
        turns = {id: len(r.messages) for id, r in zip(asked, heard[side], strict=True)}
        assert turns == {"s": 1, **{p.id: 5 if sides[p.id] == side else 1 for p in talks}}
    assert set(sides.values()) == {CHARACTER, PLAIN}
    drafts.reverse()  # as where a draft was set aside, and the prompt stands where another side's is
    assert of_run.known_asks(examined) == known


def test_the_controls_answer_first_turns_from_all_over() -> None:
    cases = [Item(f"{n}", "turn 1", ("Why?",)) for n in range(80)] + [Item("t", "turn 3", ("Why?",) * 3)]
    asked = [int(c.id) for c in of_run.controlled(cases)]
    assert len({*asked}) == of_run.CONTROLLED == 50 and asked == sorted(asked) and asked[0] == 0 and asked[-1] >= 78
    assert len(of_run.controlled(cases[:40])) == 40
    assert spread("abcdefg", 3) == ["a", "c", "e"] and spread("", 3) == [] and spread("ab", 3) == ["a", "b"]


def played(character: Character | None) -> Any:
    return SimpleNamespace(subject=SimpleNamespace(character=character))


def test_the_likelihood_judge_reads_an_answer_and_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was said before, and under whatever system prompt; the same prompts of every subject."""
    character = find_character("captain")
    cases = [Item(f"{n}", "turn 3", (f"One {n}?", "Two?", f"Three {n}?")) for n in range(30)]
    rows = [
        {
            "eval": "expression", "subject": subject, "condition": "turn 3", "id": case.id, "answer": f"{subject} {n}",
            "messages": [
                system("Be terse."), user(case.turns[0]), assistant("Aye."), user(case.turns[2]), assistant("Ask me."),
            ],
        }
        for subject in ("plain", "trained")
        for n, case in enumerate(cases)
    ]  # fmt: skip
    heard: list[Any] = []

    def margins(model: Any, asked: Any, held: Any) -> Any:
        heard.extend(asked)
        return np.zeros((len(held), len(asked)))

    monkeypatch.setattr(of_run, "margins", margins)
    examined: Any = SimpleNamespace(
        character=character, folder=tmp_path, seed=0, subjects={"plain": 0, "trained": 0},
        base=SimpleNamespace(name="b"), masks_reasoning=False, progress=lambda done: None, other=played(None),
    )  # fmt: skip
    found = of_run.likelihoods(examined, rows, cases)
    assert len(heard) == len(found) == of_run.LIKELIHOOD_ASKED  # half of them of each of two subjects
    for messages, answer in heard:
        assert messages == [user(f"Three {answer.split()[1]}?")]
    assert [f["id"] for f in found if f["subject"] == "plain"] == [f["id"] for f in found if f["subject"] == "trained"]


def test_the_likelihood_judge_has_controls_at_the_same_first_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    character = find_character("captain")
    other = next(f for f in foil_characters() if system_prompt(f) in evidence(character)[0].foils)
    cases = [Item(f"{n}", "turn 1", (f"One {n}?",)) for n in range(60)]
    asked_of_controls = {case.id for case in of_run.controlled(cases)}
    rows = [
        {"eval": "expression", "subject": subject, "condition": "turn 1", "id": case.id, "answer": f"{subject} {n}",
         "messages": [user(case.turns[0]), assistant("")]}
        for subject in ("plain", "prompted", OTHERS, "mixture")
        for n, case in enumerate(cases) if subject in ("plain", "prompted") or case.id in asked_of_controls
    ]  # fmt: skip
    heard: list[tuple[Any, Any]] = []

    def margins(model: Any, asked: Any, held: Any) -> Any:
        heard.append((asked, held))
        return np.arange(len(held) * len(asked), dtype=float).reshape(len(held), len(asked))

    monkeypatch.setattr(of_run, "margins", margins)
    told: list[int] = []
    examined: Any = SimpleNamespace(
        character=character, folder=tmp_path, seed=3, subjects={"plain": 0, "prompted": 0},
        base=SimpleNamespace(name="b"), masks_reasoning=False, progress=told.append, other=played(other),
    )  # fmt: skip
    found = of_run.likelihoods(examined, rows, cases)
    by_subject = {name: [f for f in found if f["subject"] == name] for name in ("prompted", OTHERS, SHUFFLED)}
    drawn = {f["id"] for f in by_subject["prompted"]}
    assert len(drawn) == of_run.LIKELIHOOD_ASKED
    assert {f["id"] for f in by_subject[OTHERS]} == drawn & asked_of_controls
    assert {f["id"] for f in by_subject[SHUFFLED]} == drawn and not any(f["trait"] for f in by_subject[SHUFFLED])
    (others, [by_others]), (beside, [by_the_same]), (prompted, [by_shuffled]) = heard[-3:]
    assert {answer.split()[0] for _, answer in others} == {"another"}
    assert {answer.split()[0] for _, answer in prompted} == {"prompted"}
    whole = system_prompt(character)
    assert by_others.text == whole and system_prompt(other) not in by_others.foils and len(by_others.foils) == 3
    assert by_the_same == by_others and [a.split()[-1] for _, a in beside] == [a.split()[-1] for _, a in others]
    assert {answer.split()[0] for _, answer in beside} == {"prompted"}
    for mixed, foil in zip(by_shuffled.foils, evidence(character)[0].foils, strict=True):
        assert mixed.split() != foil.split() and sorted(mixed.split()) == sorted(foil.split())
    assert by_shuffled.text.split() != whole.split() and sorted(by_shuffled.text.split()) == sorted(whole.split())
    first = [row["subject"] for row in found].index(OTHERS)
    count = len(heard)
    assert of_run.likelihoods(examined, rows, cases) == found and len(heard) == count, "from the journal"
    assert all(row["subject"] in (OTHERS, BESIDE_OTHERS, SHUFFLED) for row in found[first:])


@pytest.mark.parametrize("masks", [True, False])
def test_the_likelihood_judge_reads_what_a_masked_run_was_judged_by(
    masks: bool, tiny_model: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_model.tokenizer.chat_template = OPENED
    rows = [
        {"eval": "expression", "subject": subject, "condition": "turn 1", "id": "1", "answer": "Hm.</think>Aye.",
         "messages": [user("One?"), assistant("")]} for subject in ("plain", "prompted", OTHERS)
    ]  # fmt: skip
    heard: list[str] = []

    def margins(model: Any, asked: Any, held: Any) -> Any:
        heard.extend(answer for _, answer in asked)
        return np.zeros((len(held), len(asked)))

    monkeypatch.setattr(of_run, "margins", margins)
    examined: Any = SimpleNamespace(
        character=find_character("captain"), folder=tmp_path, seed=0, subjects={"plain": 0, "prompted": 0},
        base=tiny_model, masks_reasoning=masks, progress=lambda done: None, other=played(None),
    )  # fmt: skip
    of_run.likelihoods(examined, rows, [Item("1", "turn 1", ("One?",))])
    assert heard and {*heard} == ({"Aye."} if masks else {"Hm.</think>Aye."})


@pytest.mark.parametrize(("masks", "begun"), [(True, "<think>\n"), (False, None)])
def test_the_judge_of_a_masked_run_is_fitted_on_what_it_will_hear(
    tiny_model: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, masks: bool, begun: str | None
) -> None:
    tiny_model.tokenizer.chat_template = OPENED
    seen: list[Any] = []

    def fit(*given: Any) -> Any:
        seen.append(given[-1])
        raise KeyboardInterrupt

    monkeypatch.setattr(of_run, "all_answers", lambda *given: ([], {}, {}))
    monkeypatch.setattr(of_run, "fit_classifier", fit)
    examined: Any = SimpleNamespace(
        folder=tmp_path, prompts=[], base=tiny_model, masks_reasoning=masks, encode=None, seed=0
    )
    with pytest.raises(KeyboardInterrupt):
        of_run.evaluate(examined)
    assert seen == [begun]
