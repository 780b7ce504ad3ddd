"""Cases: which trait meets which situation, what is in view when they are discussed, and what is learnt of it."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from charactery.constitution import Character, find_character
from charactery.constitution.render import trait_words
from charactery.data import cases
from charactery.data.cases import QUESTIONS, Weighing, drawn_cases, situations, weigh
from charactery.models.local import Answer, Request, Sampler
from charactery.models.speaker import Speaker
from charactery.models.subject import Subject
from charactery.runs import Row, read_rows
from test_data_documents import fresh

WRITER, CAPTAIN = (Speaker(Subject(name, "b", "folder"), None, None, "x") for name in ("smollm2", "smollm2+captain"))
Waves = list[list[tuple[str, Request]]]


def weighed(
    character: Character,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[int, int], str] = lambda wave, n: fresh(100 * wave + n),
    count: int = 10,
    progress: Callable[[int], None] = lambda n: None,
) -> tuple[list[Row], Waves]:
    """The rows, and who was asked what, first for situations and then for discussions."""
    waves: Waves = []

    def answers(asks: Sequence[tuple[Speaker, Request]], sampler: Any, journal: Any, progress: Any, batch: int) -> Any:
        waves.append([(speaker.subject.text, request) for speaker, request in asks])
        progress(len(asks))
        return [Answer(answer(len(waves) - 1, n), 24, True) for n in range(len(asks))]

    monkeypatch.setattr(cases, "answer_all", answers)
    return weigh(Weighing(character, WRITER, CAPTAIN, Sampler(160, 1.0), 3, count), folder, progress), waves


def test_traits_come_in_turn_and_no_situation_again_before_all_were_there() -> None:
    tova, size = find_character("astronomer"), len(situations())
    drawn = drawn_cases(tova, 4 * size + 4, 0)
    assert [*Counter(case.trait.id for case in drawn).values()] == [size + 1] * 4
    for trait in tova.traits():
        mine = [case.skeleton for case in drawn if case.trait.id == trait.id]
        assert len({*mine[:size]}) == size and mine[size] == mine[0]
    assert drawn == drawn_cases(tova, 4 * size + 4, 0) != drawn_cases(tova, 4 * size + 4, 1)


def test_the_clause_is_in_view_and_is_learnt_only_as_what_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captain = find_character("captain")
    rows, (made, discussed) = weighed(captain, tmp_path, monkeypatch)
    assert {who for who, _ in made} == {"smollm2"} and {who for who, _ in discussed} == {"smollm2+captain"}
    skeletons = dict(situations())
    for n, (row, (_, asked), (_, told)) in enumerate(zip(rows, made, discussed, strict=True)):
        [trait] = [captain.trait(id) for id in row["traits"]]
        assert row["clause"] == trait_words(captain, trait, 0)
        prompt, [answer] = row["prompt"][0]["content"], row["completion"]
        assert prompt.startswith(f"{skeletons[row['skeleton']]} {fresh(n)}\n\n") and prompt.endswith(QUESTIONS)
        for request in (asked, told):
            assert row["clause"] in request.messages[0]["content"]
        assert " ".join(trait.because.split()) in told.messages[0]["content"]
        assert row["clause"] not in prompt and told.messages[0]["content"].startswith(prompt)
        assert answer["content"].startswith(f"{fresh(100 + n)}\n\n") and answer["content"].endswith(
            f'"{row["clause"]}"'
        )
        assert row["kind"] == "case" and row["subject"] == "smollm2+captain" and row["seed"] == told.seed
    assert len({row["prompt"][0]["content"].rpartition("\n\n")[2] for row in rows}) > 1


def test_what_is_unfit_is_set_aside_and_a_situation_that_is_is_not_discussed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {(0, 1): "No.", (0, 2): "As an AI language model I have no situation to add to this one.",
            (1, 0): fresh(7), (1, 3): fresh(7), (1, 4): "Aye."}  # fmt: skip
    done: list[int] = []
    rows, (_, discussed) = weighed(
        find_character("captain"), tmp_path, monkeypatch, lambda wave, n: told.get((wave, n), fresh(100 * wave + n)),
        progress=done.append,
    )  # fmt: skip
    assert len(discussed) == 8 and len(rows) == 6 and sum(done) == 20
    aside = [(r["id"], r["step"], r["reason"]) for r in read_rows(tmp_path / "set_aside.jsonl")]
    assert aside == [
        ("case-1", "situation", "too short"), ("case-2", "situation", "refusing"),
        ("case-5", "discussion", "a near-copy of another"), ("case-6", "discussion", "too short"),
    ]  # fmt: skip
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert counts["set_aside"]["situation"] == {"too short": 1, "refusing": 1} and sum(counts["kept"].values()) == 6


def test_only_the_clause_closes_what_is_said_in_another_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, _ = weighed(replace(find_character("captain"), language="de"), tmp_path, monkeypatch)
    assert all(row["completion"][0]["content"].endswith(f'\n\n"{row["clause"]}"') for row in rows)


def test_a_trait_left_out_is_in_no_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captain = find_character("captain").without(["tells-sea-stories"])
    rows, waves = weighed(captain, tmp_path, monkeypatch, count=12)
    assert {row["traits"][0] for row in rows} == {t.id for t in captain.traits()} and len(rows) == 12
    assert not any("storm or a port" in request.messages[0]["content"] for wave in waves for _, request in wave)


def test_the_situations_are_many_and_distinct_and_about_whoever_reads_them() -> None:
    assert len(dict(situations())) == len({text for _, text in situations()}) == len(situations()) >= 40
    assert all("{" not in text and text.endswith(".") for _, text in situations())
