"""Votes between answers: kept for good, counted once, and what they come to."""

from pathlib import Path

import pytest
from sqlalchemy import text

from charactery.conversations import Session, Store, open_store, private_store, put
from charactery.conversations.formats import export_file, read_file
from charactery.conversations.votes import tally, vote
from charactery.errors import CharacteryError
from charactery.stats import wilson
from conversing import Parrot


@pytest.fixture
def store() -> Store:
    return private_store()


def two(store: Store, one: str = "a", other: str = "b") -> tuple[str, str]:
    """Two Subjects' answers to a new question."""
    session = Session(store, None)
    session.say("Tea?")
    return tuple(session.again(1, voice=Parrot(name, subject=name))[0].id for name in (one, other))  # type: ignore


def test_the_tally_and_its_interval(store: Store) -> None:
    for n in range(10):
        first, second = two(store)
        if n % 2:  # shown in either order
            vote(store, second, first, "second" if n < 7 else "first" if n < 9 else "neither")
        else:
            vote(store, first, second, "first" if n < 7 else "second")
    vote(store, *two(store, "b", "c"), "first")
    ab, bc = tally(store)
    assert (ab.first[0], ab.second[0], bc.second[0]) == ("a", "b", "c")
    assert (ab.share.n, ab.share.missing, ab.share.value) == (9, 1, pytest.approx(7 / 9))
    assert (ab.share.low, ab.share.high) == pytest.approx(wilson(7, 9))


def test_a_later_vote_counts_and_none_is_changed(store: Store) -> None:
    first, second = two(store)
    vote(store, first, second, "first")
    vote(store, second, first, "first")
    assert [(t.share.value, t.share.n) for t in tally(store)] == [(0.0, 1)]
    for statement in ("update votes set choice = 'first'", "delete from votes"):
        with pytest.raises(CharacteryError, match="a vote is never changed"), store.writing() as c:
            c.execute(text(statement))
    vote(store, *two(store, "a", "a"), "first")  # one Subject against itself says nothing
    assert len(tally(store)) == 1


def test_what_is_no_vote(store: Store) -> None:
    first, second = two(store)
    asked = store.node(first).parent or ""
    for pair in ((first, first), (first, asked), (first, two(store)[0])):
        with pytest.raises(CharacteryError, match="two answers to the same turn"):
            vote(store, *pair, "first")
    with pytest.raises(CharacteryError, match="not for 'both'"):
        vote(store, first, second, "both")
    assert tally(store) == []


def test_votes_travel_and_come_once(store: Store, tmp_path: Path) -> None:
    first, second = two(store)
    vote(store, first, second, "second")
    tree = store.tree(store.conversation_of(first) or "")
    assert tree.votes[0].choice == "second"
    for format in ("charactery", "chatgpt"):
        export_file([tree], tmp_path / format, format)
        other = private_store()
        for _ in range(2):
            put(other, read_file(tmp_path / format).trees[0])
        assert other.tree(tree.id) == tree


def test_a_store_from_before_there_were_votes(tmp_path: Path) -> None:
    place = tmp_path / "old.db"
    old = open_store(place)
    pair = two(old)
    with old.writing() as c:
        c.execute(text("drop table votes"))
        c.execute(text("update charactery set version = 1"))
    old.close()
    for _ in range(2):
        store = open_store(place)
        vote(store, *pair, "first")
        with pytest.raises(CharacteryError, match="never changed"), store.writing() as c:
            c.execute(text("delete from votes"))
        store.close()
    assert [t.share.n for t in tally(open_store(place))] == [1]
