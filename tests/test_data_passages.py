"""Passages: what is cut off, which documents are held out, what never gets across, and who is compared with whom."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from charactery.cli import app
from charactery.data.passages import (
    A_DOCUMENT,
    AUTHOR,
    LEAST,
    OTHERS,
    Passage,
    alike,
    cut,
    match,
    split,
    surname,
    taken,
)
from charactery.data.writings import Writing, exclusions_beside, genre_of, kept, read_writings, shingles
from charactery.errors import BadData
from letters import LAND, SEA, text_of


def writings(words: list[str], side: str, count: int = 12, genre: str = "letter", first: int = 1840) -> list[Writing]:
    rng = random.Random(side + genre)
    return [Writing(f"{side}-{genre}-{n}", text_of(words, rng), str(first + n), "", genre) for n in range(count)]


MINE, THEIRS = writings(SEA, "a"), writings(LAND, "b")


def passage(id: str, words: int = 30, genre: str = "letter", year: int | None = 1850, document: str = "") -> Passage:
    return Passage(id, document or id, " ".join(["word"] * words), genre, year)


def test_a_text_is_cut_at_sentence_ends_and_what_says_who_writes_is_off() -> None:
    body = " ".join(f"This is sentence number {n} of the letter and it goes on." for n in range(6))
    text = f"EXECUTIVE MANSION, WASHINGTON\n\nJune 4, 1860. {body}\n\nYour obedient servant,\n\nA. LINCOLN."
    found = cut(Writing("x", text, "1860-06-04", "", "letter"), 40)
    assert [p.words for p in found] == [36, 36] and [p.id for p in found] == ["x#0", "x#1"]
    assert all(p.text.endswith("goes on.") and p.year == 1860 and p.genre == "letter" for p in found)
    whole = " ".join(p.text for p in found)
    assert whole == body and "LINCOLN" not in whole and "June" not in whole
    quoted = 'He said, "Never again." Mr. B. Wade held that it was so, and went on at length. ' * 2
    assert [p.text for p in cut(Writing("q", quoted), 17)] == []  # sentences of 4 and 13 words, together below 20
    [both] = cut(Writing("q", quoted), 40)
    assert both.text == quoted.strip()
    assert cut(Writing("y", "Too short a note by far. " * 3), 40) == []
    long = "word " * 90 + "end."
    assert [p.words for p in cut(Writing("z", long), 40)] == [91]


def test_no_document_is_on_both_sides_and_all_times_are() -> None:
    parts = split(MINE, THEIRS, "Ann Marrow", 30, 0.25)
    for side in (AUTHOR, OTHERS):
        learnt, held = ({p.document for p in where[side]} for where in (parts.learnt, parts.held_out))
        assert learnt and held and not learnt & held and len(held) == 3 and len(learnt) == 9
        years = sorted(p.year for p in parts.held_out[side] if p.year)
        assert years[0] < 1844 and years[-1] > 1847
    known = {g for p in parts.learnt[AUTHOR] for g in shingles(p.text)}
    assert not any(taken(p, known) for p in parts.held_out[AUTHOR])


def test_nothing_of_the_authors_is_among_the_others() -> None:
    quoting = Writing("q", f"{text_of(LAND, random.Random(5), 3)} {MINE[0].text}", "1850", "", "letter")
    named = Writing("1861-marrow", text_of(LAND, random.Random(6)), "1861", "", "letter")
    before, after = text_of(LAND, random.Random(7), 3), text_of(LAND, random.Random(8), 2)
    naming = Writing("n", f"{before} Then Mr. MARROW spoke at length. {after}", "1850", "", "letter")
    parts = split(MINE, [*THEIRS, quoting, named, naming], "Ann Marrow", 30, 0.25)
    theirs = [p for where in (parts.learnt, parts.held_out) for p in where[OTHERS]]
    his = {g for w in MINE for g in shingles(w.text)}
    assert not any(shingles(p.text) & his for p in theirs if p.document != "others/q")
    assert not any(taken(p, his) for p in theirs) and any(p.document == "others/q" for p in theirs)
    assert not any("1861-marrow" in p.document or "MARROW" in p.text for p in theirs)
    assert parts.left_out["others' documents named after the author"] == 1
    assert parts.left_out["others', and hold the author's words"] == 2 and parts.left_out["name the author"] == 1


def test_what_is_learnt_from_is_not_held_out_in_another_document() -> None:
    twice = [Writing(f"copy-{w.id}", w.text, w.date, "", "letter") for w in MINE[:6]]
    parts = split([*MINE, *twice], THEIRS, "Ann Marrow", 30, 0.25)
    known = {g for p in parts.learnt[AUTHOR] for g in shingles(p.text)}
    assert not any(taken(p, known) for p in parts.held_out[AUTHOR])
    assert parts.left_out["held out, and hold words learnt from"] > 0


def test_texts_of_either_side_may_have_the_same_ids() -> None:
    mine, theirs = ([Writing(str(n), w.text, w.date) for n, w in enumerate(some)] for some in (MINE, THEIRS))
    parts = split(mine, theirs, "Ann Marrow", 30, 0.25)
    every = [p for where in (parts.learnt, parts.held_out) for side in where.values() for p in side]
    assert len({p.id for p in every}) == len(every) == 48


def test_too_little_is_a_sentence() -> None:
    with pytest.raises(BadData, match="to test on: give more texts"):
        split(MINE[:1], THEIRS, "Ann Marrow", 30, 0.25)


def test_the_judge_learns_from_as_many_of_each_genre_nearest_in_time() -> None:
    mine = [passage(f"m{n}") for n in range(9)] + [passage(f"s{n}", genre="speech") for n in range(3)]
    theirs = [passage(f"o{n}", year=1850 + 40 * n) for n in range(6)]
    theirs += [passage(f"t{n}", genre="speech") for n in range(9)] + [passage("e", genre="essay")]
    found = alike(mine, theirs, 100, 0)
    for side in (AUTHOR, OTHERS):
        assert sorted(p.genre for p in found[side]) == ["letter"] * 6 + ["speech"] * 3
    few = alike(mine, theirs, 3, 0)
    assert [p.id for p in few[OTHERS] if p.genre == "letter"] == ["o0", "o1"]
    assert len({p.id for p in few[AUTHOR]}) == 3
    with pytest.raises(BadData, match=r"\(essay\) are of no genre that the author's are of \(letter, speech\)"):
        alike(mine, theirs[-1:], 100, 0)


def test_like_is_compared_with_like() -> None:
    mine = [passage(f"m{n}", words=30 + n, year=1850 + n) for n in range(4)] + [passage("late", year=1990)]
    mine += [passage("telegram", genre="telegram"), passage("undated", year=None)]
    theirs = [passage(f"o{n}", words=30 + n, year=1850 + n) for n in range(4)]
    theirs += [passage("long", words=60, genre="telegram"), passage("far", year=1900)]
    pairs, lone = match(mine, theirs, 10, 0)
    assert sorted((a.id, b.id) for a, b in pairs) == [(f"m{n}", f"o{n}") for n in range(4)]
    assert lone == {"letter": 2, "telegram": 1}
    assert len(match(mine, theirs, 2, 0)[0]) == 2
    of_one = [passage(f"d{n}", document="d") for n in range(20)]
    pairs, _ = match(of_one, [passage(f"e{n}") for n in range(20)], 30, 0)
    assert len(pairs) == A_DOCUMENT and len({b.id for _, b in pairs}) == A_DOCUMENT


@pytest.mark.parametrize(
    ("title", "text", "genre"),
    [
        ("TELEGRAM TO GENERAL MEADE.", "", "telegram"),
        ("A. LINCOLN.", "TELEGRAM TO GENERAL FRENCH. [Cipher]", "telegram"),
        ("TO EDWARD MINER.", "SPRINGFIELD", "letter"),
        ("A. LINCOLN.", "March 14, 1861. DEAR SIR:--In reply to yours", "letter"),
        ("REPLY TO A DELEGATION", "", "speech"),
        ("1853-Pierce", "My Countrymen, it is a relief", "speech"),
        ("MESSAGE TO CONGRESS", "", "message"),
        ("To be young", "To be young was very heaven.", ""),
    ],
)
def test_genres_are_guessed(title: str, text: str, genre: str) -> None:
    assert genre_of(title, text) == genre


@pytest.mark.parametrize(
    ("name", "last"), [("Abraham Lincoln", "Lincoln"), ("Martin King, Jr.", "King"), ("Sorrel", "Sorrel")]
)
def test_surnames(name: str, last: str) -> None:
    assert surname(name) == last and LEAST == 20


def test_others_documents_named_after_the_author_are_left_out_whatever_the_name() -> None:
    named = {"a": "To O'Brien, a friend", "letter-to-o'brien": "", "c": "To a Mr. Brien", "d": "A day", "e": "More"}

    def text(n: int) -> str:
        return " ".join(f"word{n}x{k} is here." for k in range(40))

    theirs = [Writing(id, text(n), "1860", title) for n, (id, title) in enumerate(named.items())]
    mine = [Writing(f"{n}", text(n + 10), "1860") for n in range(4)]
    found = split(mine, theirs, "Flann O'Brien", 40, 0.5)
    assert found.left_out["others' documents named after the author"] == 2


SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.skipif(not (SHARED / "inaugural").is_dir(), reason="needs the texts of presidents in ../shared/data")
def test_others_texts_are_without_the_two_addresses_of_his_that_are_among_them(tmp_path: Path) -> None:
    """As they come: one file is in another encoding, and the error says how to leave it out."""
    folder = shutil.copytree(SHARED / "inaugural" / "inaugural", tmp_path / "others")
    with pytest.raises(BadData, match=r"2005-Bush.txt: is not UTF-8 .* write '2005-Bush.txt' in exclude.txt"):
        read_writings(folder)
    told = CliRunner().invoke(app, ["writings", "check", str(folder), "--write", "--json"])
    assert told.exit_code == 0 and json.loads(told.stdout)["suspicions"]["unread"] == 1
    [line] = [line for line in (folder / "exclude.txt").read_text().splitlines() if "unread" in line]
    (folder / "exclude.txt").write_text(f"{line}\n")
    others = kept(read_writings(folder), exclusions_beside(folder))
    his = read_writings(SHARED / "lincoln" / "items.jsonl.gz")
    assert {"1861-Lincoln.txt", "1865-Lincoln.txt"} <= {w.id for w in others} and len(others) > 50
    told = split(his, others, "Abraham Lincoln", 90, 0.25)
    documents = {p.document for part in (told.learnt, told.held_out) for p in part[OTHERS]}
    assert "others/1869-Grant.txt" in documents and not any("Lincoln" in d or "2005-Bush" in d for d in documents)
    assert told.left_out["others' documents named after the author"] == 2
    # and where their names do not say whose they are, by his words
    unnamed = [replace(w, id=f"{n}", title="") for n, w in enumerate(others)]
    theirs = {n: w.text for n, w in zip([w.id for w in unnamed], others, strict=True) if "Lincoln" in w.id}
    again = split(his, unnamed, "Abraham Lincoln", 90, 0.25)
    assert not any(
        p.document.partition("/")[2] in theirs for part in (again.learnt, again.held_out) for p in part[OTHERS]
    )
