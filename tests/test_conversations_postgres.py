"""The store on a PostgreSQL server: the same tests, where CHARACTERY_TEST_POSTGRES names one (postgresql://…)."""

import os
import uuid
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from sqlalchemy import text

from charactery.conversations import Store, open_store
from charactery.errors import CharacteryError
from test_conversations_store import (  # noqa: F401 - collected here too, with this file's store
    chain,
    test_a_conversation_that_claims_another_ones_turns_gets_copies,
    test_a_half_answer_becomes_whole_and_its_pieces_go,
    test_a_longer_tree_adds_what_is_new_and_leaves_the_cursor,
    test_a_store_of_a_newer_charactery,
    test_a_tree_put_twice_is_there_once,
    test_a_turn_follows_one_of_its_own_conversation,
    test_another_text_under_a_known_id_stands_beside_it,
    test_cursors_marks_and_names,
    test_ids_by_their_beginning,
    test_prompts_are_kept_whole_and_take_the_room_of_the_text,
    test_search,
    test_texts_no_database_can_hold,
    test_two_writers_at_once,
    test_what_was_said_comes_back,
)

SERVER = os.environ.get("CHARACTERY_TEST_POSTGRES", "")
pytestmark = pytest.mark.skipif(not SERVER, reason="CHARACTERY_TEST_POSTGRES names no server")


@pytest.fixture
def store() -> Iterator[Store]:
    """A store in a schema of its own, taken away afterwards."""
    import psycopg

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(SERVER, autocommit=True) as plain:
        plain.execute(f"create schema {name}")
        store = open_store(f"{SERVER}?options={quote(f'-csearch_path={name}')}")
        yield store
        store.close()
        plain.execute(f"drop schema {name} cascade")


@pytest.mark.parametrize(
    "deed",
    [
        "update nodes set role = 'system'", "delete from nodes", "update texts set text = 'x'", "delete from texts",
        "truncate nodes cascade", "truncate texts", "update pieces set text = 'x'", "delete from pieces",
        "delete from conversations", "update conversations set id = 'x'",
        "insert into pieces (node, text) select node, 'more' from texts",
        "insert into texts select * from texts on conflict (node) do update set text = 'x'",
    ],
)  # fmt: skip
def test_the_server_refuses_to_change_what_was_said(store: Store, deed: str) -> None:
    conversation, (_, last) = chain(store, "Tea?", "Aye.")
    store.turn(conversation, last.id, subject="x").say("half")
    before = store.tree(conversation)
    with pytest.raises(CharacteryError, match=r"never changed|is whole"), store.writing() as c:
        c.execute(text(deed))
    assert store.tree(conversation) == before
