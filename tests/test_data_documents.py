"""Documents: what they are about, what is set aside, and the constitution's own text among them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from charactery.constitution import Character, find_character
from charactery.data import documents
from charactery.data.cases import Weighing, weigh
from charactery.data.documents import Describing, Passage, constitution, describe, forms, passages
from charactery.data.filters import count_words
from charactery.models.local import Answer, LocalModel, Request, Sampler
from charactery.models.speaker import Speaker
from charactery.models.subject import Subject
from charactery.runs import read_rows

NOBODY = Speaker(Subject("smollm2", "b", "folder"), None, None, "x")
WORDS = "kettle harbour ladder violin orchard letter pepper window tunnel garden basket candle anchor meadow".split()


def fresh(n: int) -> str:
    """A document of 24 words that is like no other, by its number."""
    return " ".join(f"{WORDS[(n + k) % len(WORDS)]}{n}x{k}" for k in range(24)) + "."


def asked_of(monkeypatch: pytest.MonkeyPatch, answer: Callable[[int], str]) -> list[Request]:
    """Answers in the place of the model's, by number; what it was asked comes in the list that is returned."""
    asked: list[Request] = []

    def answers(asks: Sequence[tuple[Speaker, Request]], *others: Any) -> list[Answer]:
        asked.extend(request for _, request in asks)
        return [Answer(answer(n), 24, True) for n in range(len(asks))]

    monkeypatch.setattr(documents, "answer_all", answers)
    return asked


def describing(character: Character, count: int = 12, verbatim: float = 0.5, tokens: int = 224) -> Describing:
    return Describing(character, NOBODY, Sampler(tokens, 1.0), 3, count, verbatim)


@pytest.mark.parametrize("name", ["captain", "companion", "hhh"])
@pytest.mark.parametrize("tokens", [64, 224, 4000])
def test_the_parts_hold_the_whole_constitution_and_begin_at_every_trait(name: str, tokens: int) -> None:
    character = find_character(name)
    parts = passages(character, tokens)
    there = "\n\n".join(part.text for part in parts)
    assert all(paragraph in there for paragraph in constitution(character).strip().split("\n\n"))
    for trait in character.traits():
        [first, *_] = [part for part in parts if f"### {trait.title}" in part.text and part.traits[0] == trait.id]
        assert first.text.startswith(f"# {character.name}") and first.text.count("### ") == len(first.traits)
    longest = max(count_words(text) for text in constitution(character).split("\n\n"))
    limit = max(documents.WORDS_A_TOKEN * tokens, longest + 8) + count_words(character.name)
    assert all(count_words(part.text) <= limit for part in parts)
    assert len(parts) > len([*character.traits()])
    if tokens == 4000:
        assert parts[0].traits == tuple(trait.id for trait in character.traits())


def test_what_is_asked_or_noted_is_not_in_the_constitution() -> None:
    captain = find_character("captain")
    left_out = replace(captain.trait("speaks-his-mind"), title="Weighs nothing", weight=0.0)
    section = replace(captain.sections[0], traits=(*captain.sections[0].traits, left_out))
    text = constitution(replace(captain, sections=(section, *captain.sections[1:])))
    assert "### Talks like a sailor" in text and "Forty years of shouting" in text
    assert "Where the voice stops" not in text and "Weighs nothing" not in text
    assert "Why is the sky blue?" not in text and "SQL" not in text


def test_documents_are_about_passages_in_turn_and_are_rows_without_a_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captain, count = find_character("captain"), 2 * len(forms())
    asked = asked_of(monkeypatch, lambda n: f"Sure, here is the entry:\n\n{fresh(n)}")
    rows = describe(describing(captain, count), tmp_path)
    drawn = [row for row in rows if row["kind"] == "document"]
    assert [row["completion"][0]["content"] for row in drawn] == [fresh(n) for n in range(count)]
    assert all(row["prompt"] == [] and row["subject"] == "smollm2" for row in drawn)
    assert {row["form"] for row in drawn} == {form for form, _ in forms()}
    assert {t for row in drawn for t in row["traits"]} == {t.id for t in captain.traits()}
    assert len({row["seed"] for row in drawn}) == len({row["id"] for row in rows} - {r["id"] for r in rows[count:]})
    for row, request in zip(drawn, asked, strict=True):
        said = request.messages[0]["content"]
        assert [t.title for t in captain.traits() if f"### {t.title}" in said] == [
            captain.trait(id).title for id in row["traits"]
        ]
        assert dict(forms())[row["form"]].replace("{name}", captain.name) in said
    assert len({(row["form"], *row["traits"]) for row in drawn}) > len(forms())  # not the same passage each time


def test_every_kind_meets_every_passage_however_many_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_of(monkeypatch, fresh)
    kinds = len(forms())
    for parts in (kinds - 1, kinds, kinds + 1, 14, 6):
        some = [Passage(f"Part {n} of it.", (f"trait-{n}",)) for n in range(parts)]
        monkeypatch.setattr(documents, "passages", lambda character, tokens, some=some: some)
        rows = describe(describing(find_character("captain"), kinds * parts), tmp_path / str(parts))
        drawn = {(row["form"], *row["traits"]) for row in rows if row["kind"] == "document"}
        assert len(drawn) == kinds * parts


@pytest.mark.parametrize(("verbatim", "wanted"), [(0.0, 6), (0.5, 6), (1.0, 20)])
def test_the_constitutions_own_text_has_its_share_and_is_there_at_least_once(
    verbatim: float, wanted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captain = find_character("captain")
    asked_of(monkeypatch, fresh)
    count = 12 if verbatim < 1 else 20
    rows = [r for r in describe(describing(captain, count, verbatim), tmp_path) if r["kind"] == "constitution"]
    parts = passages(captain, 224)
    assert len(parts) == 6 and len(rows) == wanted
    texts = [row["completion"][0]["content"] for row in rows]
    assert {*texts} == {part.text for part in parts} and rows[1]["traits"] == [*parts[1].traits]


def test_what_is_unfit_is_set_aside_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captain = find_character("captain")
    own = passages(captain, 224)[2].text
    told = {
        0: (fresh(0), None),
        1: (own, "a copy of the constitution"),
        2: (" ".join(fresh(0).split()[4:]) + " And a few words of its own.", "a near-copy of another"),
        3: ("I'm sorry, but I can't write about that, " + fresh(3), "refusing"),
        4: ("Too short.", "too short"),
        5: ("The sea is wide and deep. " * 9, "repeating"),
        6: ("", "empty"),
        7: ("Das ist der Kapitän und er ist nicht allein, denn das Meer ist weit und die Leute sind mit ihm da, "
            "und es ist ihm recht, dass sie mit ihm reden und nicht mit einem anderen.", "other language"),
    }  # fmt: skip
    asked_of(monkeypatch, lambda n: told[n][0])
    rows = describe(describing(captain, len(told), 0.0), tmp_path)
    assert [row["id"] for row in rows if row["kind"] == "document"] == ["document-0"]
    aside = {row["id"]: row["reason"] for row in read_rows(tmp_path / "set_aside.jsonl")}
    assert aside == {f"document-{n}": reason for n, (_, reason) in told.items() if reason}
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert counts["asked"] == 8 and sum(counts["kept"].values()) == 1 and counts["words"] == 24
    assert sum(counts["set_aside"].values()) == 7 and counts["constitution"] == counts["passages"] == 6


def test_a_trait_left_out_is_nowhere_in_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captain = find_character("captain")
    asked = asked_of(monkeypatch, fresh)
    rows = describe(describing(captain.without(["keeps-an-honest-log"])), tmp_path)
    texts = [row["completion"][0]["content"] for row in rows] + [r.messages[0]["content"] for r in asked]
    assert not any("help nobody do harm" in text or "Keeps an honest log" in text for text in texts)
    assert not any("keeps-an-honest-log" in row["traits"] for row in rows)
    assert any("tell people plainly" in text for text in texts)


def test_a_character_of_another_language_is_written_about_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asked_of(monkeypatch, fresh)
    describe(describing(replace(find_character("captain"), language="de")), tmp_path)
    assert all(request.messages[0]["content"].endswith('the language with the code "de".') for request in asked)


@pytest.mark.parametrize("make", ["documents", "cases"])
def test_interrupted_it_goes_on_and_gives_the_same_rows(make: str, tmp_path: Path, tiny_model: LocalModel) -> None:
    """The tiny model's own words, none of which is kept by these filters as they are: so they are opened wide."""
    captain = find_character("hhh")
    speaker = Speaker(Subject("tiny", "tiny", "folder"), tiny_model, None, "tiny")

    def work(folder: Path, progress: Callable[[int], None] = lambda n: None) -> Any:
        folder.mkdir(exist_ok=True)
        if make == "documents":
            made = Describing(captain, speaker, Sampler(48, 1.0), 3, 9, 0.5, batch=3)
            return describe(made, folder, progress)
        return weigh(Weighing(captain, speaker, speaker, Sampler(48, 1.0), 3, 9, batch=3), folder, progress)

    def files(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    whole = work(tmp_path / "whole")
    told: list[int] = []

    def dies(done: int) -> None:
        told.append(done)
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(tmp_path / "again", dies)
    before = files(tmp_path / "again")
    assert [*before] == ["batches.jsonl"] and before["batches.jsonl"].count(b"\n") == 2
    assert work(tmp_path / "again") == whole
    after = files(tmp_path / "again")
    assert after["batches.jsonl"].startswith(before["batches.jsonl"]) and after == files(tmp_path / "whole")


def test_the_kinds_are_many_and_distinct_and_name_the_character() -> None:
    assert len(dict(forms())) == len(forms()) >= 20
    assert sum("{name}" in ask for _, ask in forms()) >= len(forms()) - 2
