"""The tree of everything said: nothing in it changes, and nothing is lost, whatever happens to the program."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from charactery.conversations import (
    Added,
    Mark,
    Node,
    Prompt,
    Store,
    Tree,
    cursor,
    mark,
    open_store,
    private_store,
    put,
    search,
    set_cursor,
    unmark,
)
from charactery.errors import BadData, CharacteryError

WRITER = Path(__file__).parent / "conversing.py"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "talks.db")


def uid(n: int) -> str:
    return str(uuid.UUID(int=n))


def chain(store: Store, *texts: str) -> tuple[str, list[Node]]:
    conversation, nodes = store.begin(), []
    for n, said in enumerate(texts):
        role = "assistant" if n % 2 else "user"
        nodes.append(store.add(conversation, nodes[-1].id if nodes else None, role, said))
    return conversation, nodes


def test_what_was_said_comes_back(store: Store) -> None:
    conversation, (first, second) = chain(store, "Tea? \U0001f375 茶 شاي\n```x```", "Aye.")
    edit = store.add(conversation, None, "user", "Coffee?")
    turn = store.turn(
        conversation, edit.id, subject="runs/captain@0.5", weights="ab", prompt="<s>Coffee?", sampler={"top_p": 1.0},
        seed=2**63 - 1,
    )  # fmt: skip
    whole = turn.finish("No.", "length")
    other = open_store(store.place)
    assert other.path(second.id) == [first, second]
    assert other.path(whole.id) == [edit, whole]
    assert other.prompt(whole.id) == "<s>Coffee?"
    assert other.children(conversation, None) == [first, edit]
    assert other.tree(conversation).nodes == (first, second, edit, whole)
    assert (whole.seed, whole.sampler, whole.ending) == (2**63 - 1, {"top_p": 1.0}, "length")


@pytest.mark.parametrize(
    "deed",
    [
        "update nodes set role = 'system'", "delete from nodes", "update texts set text = 'x'", "delete from texts",
        "insert or replace into nodes select * from nodes", "insert or replace into texts select * from texts",
        "update pieces set text = 'x'", "delete from pieces", "delete from conversations",
        "update conversations set id = 'x'", "insert into pieces (node, text) select node, 'more' from texts",
    ],
)  # fmt: skip
def test_the_database_itself_refuses_to_change_what_was_said(store: Store, deed: str) -> None:
    conversation, (_, last) = chain(store, "Tea?", "Aye.")
    store.turn(conversation, last.id, subject="x").say("half")
    before = store.tree(conversation)
    with pytest.raises(CharacteryError), store.writing() as c:
        c.execute(text(deed))
    with sqlite3.connect(store.place) as plain, pytest.raises(sqlite3.IntegrityError):
        plain.execute(deed)
    assert store.tree(conversation) == before


def test_a_turn_follows_one_of_its_own_conversation(store: Store) -> None:
    _, (_, secret) = chain(store, "The word is Rosebud.", "Rosebud.")
    other = store.begin()
    with pytest.raises(CharacteryError):
        store.add(other, secret.id, "user", "What is the word?")
    assert store.tree(other).nodes == ()


def test_prompts_are_kept_whole_and_take_the_room_of_the_text(store: Store) -> None:
    conversation, parent, prompts, so_far = store.begin(), None, {}, ""
    for n in range(60):
        parent = store.add(conversation, parent, "user", f"question {n} " * 20).id
        so_far += f"<user>question {n} " * 20
        turn = store.turn(conversation, parent, subject="x", prompt=so_far + "<assistant>")
        parent = turn.finish(f"answer {n}", "end").id
        prompts[parent] = so_far + "<assistant>"
        so_far += f"<assistant>answer {n}"
    fork = store.turn(conversation, parent, subject="x", prompt="something quite other").finish("a", "end").id
    assert {id: store.prompt(id) for id in prompts} == prompts
    assert store.prompt(fork) == "something quite other"
    kept = sum(len(node.prompt.rest) for node in store.tree(conversation).nodes if node.prompt)
    assert kept < 2 * len(so_far) < sum(map(len, prompts.values())) / 5


def test_a_private_store_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHARACTERY_CONVERSATIONS", str(tmp_path / "talks.db"))
    store = private_store()
    conversation, (_, last) = chain(store, "A secret.", "I will keep it.")
    assert len(store.path(last.id)) == 2
    assert private_store().summaries() == [] and list(tmp_path.iterdir()) == []
    assert [one.id for one in store.summaries()] == [conversation]


def test_a_private_store_is_one_for_all_threads() -> None:
    store = private_store()
    conversation = store.begin()

    def write() -> None:
        for n in range(10):
            store.add(conversation, None, "user", str(n))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.tree(conversation).nodes) == 40


def test_the_file_is_for_its_owner_alone(store: Store) -> None:
    assert stat.S_IMODE(os.stat(store.place).st_mode) == 0o600


# -- trouble


def test_killed_in_the_middle_of_an_answer(tmp_path: Path) -> None:
    place = tmp_path / "talks.db"
    talker = subprocess.Popen([sys.executable, str(WRITER), "talk", str(place)], stdout=subprocess.PIPE, text=True)
    assert talker.stdout is not None
    conversation, store = talker.stdout.readline().strip(), open_store(place)
    until = time.monotonic() + 60
    while len((store.tree(conversation).nodes or [Node("", None, "", "", 0)])[-1].text) < 30:
        assert talker.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    talker.send_signal(signal.SIGKILL)
    talker.wait()
    asked, half = open_store(place).tree(conversation).nodes
    assert (asked.text, asked.ending) == ("Count for me.", "end")
    assert half.ending is None and half.text.startswith("one two three one two three")
    assert half.prompt == Prompt(0, "<user>Count for me.<assistant>") and half.seed is not None
    after = store.add(conversation, half.id, "user", "Go on.")
    assert [node.text for node in store.path(after.id)] == [asked.text, half.text, "Go on."]
    assert store.glimpses(conversation)[1].ending is None
    with sqlite3.connect(place) as plain:
        assert plain.execute("pragma integrity_check").fetchall() == [("ok",)]


def test_a_half_answer_becomes_whole_and_its_pieces_go(store: Store) -> None:
    conversation, (first,) = chain(store, "Tea?")
    turn = store.turn(conversation, first.id, subject="x")
    turn.say("Ay")
    assert [node.text for node in open_store(store.place).path(turn.node.id)] == ["Tea?", "Ay"]
    whole = turn.finish("Aye.", "end")
    assert store.node(whole.id) == whole
    with store.reading() as c:
        assert c.execute(text("select count(*) from pieces")).scalar() == 0


def test_two_writers_at_once(store: Store) -> None:
    conversation = store.begin()
    write = [sys.executable, str(WRITER), "write", store.place, conversation, "40"]
    writers = [subprocess.Popen(write) for _ in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    nodes = store.tree(conversation).nodes
    assert len(nodes) == 160 and all(node.ending == "end" for node in nodes)
    for root in store.children(conversation, None):
        path, here = [root], store.children(conversation, root.id)
        while here:
            path.append(here[0])
            here = store.children(conversation, here[0].id)
        assert [n.text for n in path] == [said for n in range(40) for said in (f"turn {n}", f"aye {n}")]


def test_two_make_the_store_at_once(tmp_path: Path) -> None:
    opened: list[Store] = []
    makers = [threading.Thread(target=lambda: opened.append(open_store(tmp_path / "new.db"))) for _ in range(8)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert len(opened) == 8
    assert len(opened[0].tree(opened[1].begin()).nodes) == 0


def full(store: Store, pages: int) -> None:
    """Let the disk be full after so many pages; SQLite says the same as for a real one."""
    with store.reading() as c:
        c.exec_driver_sql(f"pragma max_page_count = {pages}")


def test_a_full_disk_loses_nothing_that_was_said(tmp_path: Path) -> None:
    store = private_store()  # one connection, so that the limit holds for all of it
    conversation, (first,) = chain(store, "Tea?")
    turn = store.turn(conversation, first.id, subject="x")
    turn.say("Well, ")
    before = store.tree(conversation)
    full(store, 1)
    with pytest.raises(CharacteryError, match="the disk is full, and this was not kept"):
        store.add(conversation, first.id, "user", "much " * 100_000)
    with pytest.raises(CharacteryError, match="disk is full"):
        turn.finish("much " * 100_000, "end")
    assert store.tree(conversation) == before
    full(store, 1_000_000)
    assert turn.finish("Aye.", "end").text == store.node(turn.node.id).text == "Aye."


@pytest.mark.parametrize(
    ("content", "said"), [(b"x" * 5000, "damaged, or no file of conversations"), (None, "is a folder")]
)
def test_what_is_no_store(tmp_path: Path, content: bytes | None, said: str) -> None:
    place = tmp_path / "talks.db"
    if content is None:
        place.mkdir()
    else:
        place.write_bytes(content)
    with pytest.raises(CharacteryError, match=said):
        open_store(place)
    assert content is None or place.read_bytes() == content


def test_a_store_of_a_newer_charactery(store: Store) -> None:
    with store.writing() as c:
        c.execute(text("update charactery set version = 9"))
    with pytest.raises(CharacteryError, match="version 9"):
        open_store(store.place)


def test_addresses(tmp_path: Path) -> None:
    with pytest.raises(CharacteryError, match="not at mysql://"):
        open_store("mysql://me:secret@host/db")
    with pytest.raises(CharacteryError) as told:
        open_store("postgresql://me:secret@127.0.0.1:1/db?connect_timeout=1")
    assert "secret" not in str(told.value)


# -- beside


def test_cursors_marks_and_names(store: Store) -> None:
    conversation, (first, second) = chain(store, "Tea?", "Aye.")
    assert cursor(store, conversation) == second.id
    set_cursor(store, conversation, first.id)
    set_cursor(store, conversation, second.id, "window 2")
    mark(store, first.id, "bookmark")
    mark(store, first.id, "note", "where it began")
    mark(store, first.id, "note", "where it began")
    mark(store, first.id, "tag", "tea")
    unmark(store, first.id, "tag", "tea")
    store.rename(conversation, "Tea with the captain")
    tree = store.tree(conversation)
    assert tree.cursors == {"main": first.id, "window 2": second.id}
    assert [(m.node, m.kind, m.text) for m in tree.marks] == [
        (first.id, "bookmark", ""), (first.id, "note", "where it began"),
    ]  # fmt: skip
    assert store.summaries()[0].title == "Tea with the captain"
    with pytest.raises(CharacteryError, match="no 'star'"):
        mark(store, first.id, "star")


def test_search(store: Store) -> None:
    conversation, (first, _) = chain(store, "Der ÄRGER ist 50% größer", "a 50 b")
    other, _ = chain(store, "noch mehr ärger")
    mark(store, first.id, "note", "sehr Ärgerlich")
    assert {(f.conversation, f.text) for f in search(store, "Ärger")} == {
        (conversation, "Der ÄRGER ist 50% größer"), (other, "noch mehr ärger"), (conversation, "sehr Ärgerlich"),
    }  # fmt: skip
    assert [f.text for f in search(store, "50%")] == ["Der ÄRGER ist 50% größer"]
    assert [f.conversation for f in search(store, "ärger", other)] == [other]
    assert len(search(store, "ärger", most=2)) == 2


def test_ids_by_their_beginning(store: Store) -> None:
    conversation, (first,) = chain(store, "Tea?")
    assert store.find(conversation[:8]) == (conversation, None)
    assert store.find(first.id[:8]) == (conversation, first.id)
    for start in ("", "zzz", "%"):
        with pytest.raises(CharacteryError, match="begins with"):
            store.find(start)


@pytest.mark.parametrize("bad", ["a\0b", "half \ud800"])
def test_texts_no_database_can_hold(store: Store, bad: str) -> None:
    conversation = store.begin()
    with pytest.raises(BadData, match="holds"):
        store.add(conversation, None, "user", bad)


# -- merging

TREE = Tree(
    uid(100), "Tea", 1.0,
    (
        Node(uid(1), None, "user", "Tea?", 1.0),
        Node(uid(2), uid(1), "assistant", "Aye.", 2.0, subject="x", prompt=Prompt(0, "<u>Tea?"), seed=3),
        Node(uid(3), uid(1), "assistant", "No.", 3.0, "stopped"),
        Node(uid(4), uid(2), "user", "Green?", 4.0),
        Node(uid(5), uid(4), "assistant", "Gr", 5.0, None, "x", "", Prompt(7, "<u>Green?")),
    ),
    {"main": uid(4)}, (Mark(uid(3), "tag", "short", 6.0),),
)  # fmt: skip


def test_a_tree_put_twice_is_there_once(store: Store) -> None:
    assert put(store, TREE) == Added(5, 0, 0)
    assert put(store, TREE) == Added(0, 5, 0)
    assert store.tree(TREE.id) == TREE


def test_a_longer_tree_adds_what_is_new_and_leaves_the_cursor(store: Store) -> None:
    put(store, TREE)
    set_cursor(store, TREE.id, uid(3))
    more = Node(uid(6), uid(3), "user", "Why?", 7.0)
    assert put(store, replace(TREE, nodes=(*TREE.nodes, more))) == Added(1, 5, 0)
    assert store.tree(TREE.id).nodes == (*TREE.nodes, more)
    assert cursor(store, TREE.id) == uid(3)


def test_another_text_under_a_known_id_stands_beside_it(store: Store) -> None:
    put(store, TREE)
    edited = replace(TREE, nodes=(TREE.nodes[0], replace(TREE.nodes[1], text="Arr!"), *TREE.nodes[2:]))
    assert put(store, edited) == Added(3, 2, 3)  # the answer, and what follows it there
    assert put(store, edited) == Added(0, 5, 0)
    nodes = store.tree(TREE.id).nodes
    assert nodes[:5] == TREE.nodes
    arr, green, half = nodes[5:]
    assert (arr.text, arr.parent) == ("Arr!", uid(1)) and green.parent == arr.id and half.parent == green.id
    assert store.prompt(half.id) == "<u>Tea?<u>Green?" == store.prompt(uid(5))


def test_a_prompt_is_the_same_after_an_ancestor_that_was_kept_with_another(store: Store) -> None:
    """The file knows no prompt of the answer that is here; what its next answer adds is added to nothing."""
    put(store, TREE)
    bare = replace(TREE.nodes[1], prompt=None)
    after = Node(uid(8), uid(2), "user", "Black?", 8.0)
    last = Node(uid(9), uid(8), "assistant", "Aye.", 9.0, "end", "x", "", Prompt(3, "<u>Black?"))
    put(store, replace(TREE, nodes=(TREE.nodes[0], bare, after, last)))
    assert store.prompt(uid(2)) == "<u>Tea?"
    assert store.prompt(uid(9)) == "<u>Black?"


def test_many_put_at_once(store: Store) -> None:
    """Reading comes before writing there, and what was read must still hold."""
    faults: list[Exception] = []

    def work(worker: int) -> None:
        for n in range(12):
            node = Node(uid(1000 + 50 * worker + n), None, "user", "x", 1.0)
            try:
                put(store, Tree(uid(5000 + 50 * worker + n), "", 1.0, (node,)))
            except CharacteryError as error:
                faults.append(error)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert faults == [] and len(store.summaries()) == 48


def test_a_conversation_that_claims_another_ones_turns_gets_copies(store: Store) -> None:
    put(store, TREE)
    put(store, replace(TREE, id=uid(200)))
    assert store.tree(TREE.id) == TREE
    copied = store.tree(uid(200)).nodes
    assert [n.text for n in copied] == [n.text for n in TREE.nodes]
    assert not {n.id for n in copied} & {n.id for n in TREE.nodes}


# -- many turns


def large(depth: int = 500, fan: int = 50, turns: int = 20_000) -> Tree:
    """A tree of this many turns: a line so deep, and forks so wide on the way."""
    roles = ("user", "assistant")
    nodes = [Node(uid(n + 1), uid(n) if n else None, roles[n % 2], f"turn {n}", n) for n in range(depth)]
    while len(nodes) < turns:
        n = len(nodes)
        parent = nodes[(n - depth) // fan % n].id
        nodes.append(Node(uid(n + 1), parent, "assistant", f"branch {n} " * 20, n))
    return Tree(uid(10**6), "large", 0.0, tuple(nodes))


def test_a_large_tree_is_read_by_its_indices(store: Store) -> None:
    tree = large()
    put(store, tree)
    glimpses = store.glimpses(tree.id, letters=40)
    assert len(glimpses) == 20_000 and max(len(g.begins) for g in glimpses) == 40
    assert [n.id for n in store.path(uid(500))] == [uid(n) for n in range(1, 501)]
    assert len(store.children(tree.id, uid(1))) == 51
    with sqlite3.connect(store.place) as plain:
        for query in (
            "select * from nodes left join texts on texts.node = nodes.id where conversation = 'x' order by number",
            "select * from nodes where parent = 'x' order by number",
            "with recursive up(id, parent) as (select id, parent from nodes where id = 'x' union all "
            "select n.id, n.parent from nodes n join up on n.id = up.parent) select * from up",
        ):
            plan = [row[3] for row in plain.execute(f"explain query plan {query}")]
            assert not [step for step in plan if "SCAN nodes" in step or "TEMP B-TREE" in step], plan
