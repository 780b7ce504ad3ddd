"""Talk in the terminal is kept in the tree, or leaves no trace; and the commands on what was said."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from charactery.cli import app
from charactery.constitution import BUNDLED
from charactery.conversations import Session, Store, cursor, mark, open_store
from charactery.conversations.tree import Tree
from conversing import Parrot
from test_conversations_formats import TREE
from test_models_subject import make_run


def run(*arguments: str, said: str = "") -> Result:
    return CliRunner().invoke(app, list(arguments), input=said)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("CHARACTERY_CONVERSATIONS", str(tmp_path / "talks.db"))
    return open_store()


@pytest.fixture
def talked(store: Store) -> Session:
    """Two questions, the first answered three times; it stands at the last answer."""
    session = Session(store, Parrot())
    session.say("How do I tie a bowline?")
    session.answer(3)
    session.say("And a hitch?")
    session.answer()
    return session


def whole(store: Store) -> Tree:
    """The one conversation there is."""
    (one,) = store.summaries()
    return store.tree(one.id)


# -- chat


def chat(model: Path, *options: str, said: str) -> Result:
    return run("chat", str(model), "--max-tokens", "8", "--temperature", "1", *options, said=said)


def test_chat_keeps_every_answer(tiny_model_folder: Path, store: Store) -> None:
    talk = chat(tiny_model_folder, said="Tea?\n/again\n/plain\nGreen?\n/back\nBlack?\n/new\n/back\n")
    assert talk.exit_code == 0, talk.output
    tree = whole(store)
    asked = tree.nodes[0]
    answers = [node for node in tree.nodes if node.parent == asked.id]
    assert [n.role for n in answers] == ["assistant"] * 3 and len({n.seed for n in answers}) == 3
    for n in answers:
        *how, made_of = (n.sampler or {}).items()
        assert n.prompt and n.weights and how == [("max_tokens", 8), ("temperature", 1.0), ("top_p", 1.0)]
        assert made_of[0] == "model" and made_of[1]["base"]
    green, black = (next(n for n in tree.nodes if n.text == text) for text in ("Green?", "Black?"))
    assert green.parent == black.parent == answers[1].id  # /again is gone on from, /plain is not
    assert [n.text for n in tree.path(tree.at() or "")][::2] == ["Tea?", "Black?"]
    assert "back after assistant:" in talk.output and "say something first" in talk.output
    assert f"kept: charactery conversations show {tree.id[:8]}" in talk.output


def test_the_same_words_give_the_same_answers(tiny_model_folder: Path, store: Store) -> None:
    for _ in range(2):
        assert chat(tiny_model_folder, "--seed", "4", said="Tea?\nGreen?\n").exit_code == 0
    first, second = (store.tree(one.id).nodes for one in store.summaries())
    assert [(n.text, n.seed) for n in first] == [(n.text, n.seed) for n in second]
    assert len(first) == 4


def test_a_private_talk_leaves_no_trace(tiny_model_folder: Path, store: Store, tmp_path: Path) -> None:
    chat(tiny_model_folder, said="Tea?\n")
    kept = whole(store)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    talk = chat(tiny_model_folder, "--private", said="The word is Rosebud.\n/again\n")
    assert talk.exit_code == 0 and "kept" not in talk.output
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert whole(store) == kept
    assert chat(tiny_model_folder, "--private", "--from", kept.id, said="").exit_code != 0


def test_going_on_from_a_turn(tiny_model_folder: Path, talked: Session, store: Store) -> None:
    tree = whole(store)
    second = tree.nodes[2]
    assert chat(tiny_model_folder, "--from", second.id[:12], said="And a sheet bend?\n").exit_code == 0
    *_, bend, answer = whole(store).nodes
    assert (bend.text, bend.parent, answer.parent) == ("And a sheet bend?", second.id, bend.id)
    assert "a sheet bend" in (store.prompt(answer.id) or "") and "hitch" not in (store.prompt(answer.id) or "")


def test_strength_and_the_others_are_told_apart(
    tiny_model_folder: Path, tiny_adapters: list[Path], store: Store, tmp_path: Path
) -> None:
    run_folder = make_run(tmp_path / "run", (), settings={"model": str(tiny_model_folder)})
    shutil.copytree(tiny_adapters[0], run_folder / "stages" / "02-dpo" / "adapter")
    shutil.copy(BUNDLED / "captain.md", run_folder / "character.md")
    talk = chat(run_folder, said="Tea?\n/plain\n/prompted\n/strength much\n/strength 0.5\n/again\n")
    assert talk.exit_code == 0 and "give a number" in talk.output and "strength 0.5" in talk.output
    answers = whole(store).nodes[1:]
    base = str(tiny_model_folder)
    assert [n.subject for n in answers] == [
        str(run_folder),
        base,
        f"{base}+{run_folder}/character.md",
        f"{run_folder}@0.5",
    ]
    assert len({n.weights for n in answers}) == 3  # plain and prompted are the same weights
    assert "Captain" in (store.prompt(answers[2].id) or "") and "Captain" not in (store.prompt(answers[1].id) or "")


def test_a_turn_that_cannot_be_answered_is_stepped_back_from(tiny_model_folder: Path, store: Store) -> None:
    talk = chat(tiny_model_folder, said="Tea?\n" + "sea " * 3000 + "\nGreen?\n")
    assert "/new starts afresh" in talk.output
    tree = whole(store)
    assert [n.text[:6] for n in tree.path(tree.at() or "")][::2] == ["Tea?", "Green?"]
    assert sum(n.text.startswith("sea") for n in tree.nodes) == 1


def test_talk_where_nothing_can_be_kept(tiny_model_folder: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "charactery", "chat", str(tiny_model_folder), "--store", str(tmp_path)],
        input="Tea?\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "is a folder" in done.stderr and "--private talks" in done.stderr


def test_killed_in_the_middle_of_a_chat(tiny_model_folder: Path, store: Store) -> None:
    """The real command, the real model, a real kill."""
    talk = subprocess.Popen(
        [sys.executable, "-m", "charactery", "chat", str(tiny_model_folder), "--max-tokens", "900", "--seed", "3"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=dict(os.environ),
    )  # fmt: skip
    assert talk.stdin is not None
    talk.stdin.write("Tea?\n" * 300)
    talk.stdin.flush()
    until = time.monotonic() + 120
    while not any(g.ending is None for one in store.summaries() for g in store.glimpses(one.id)):
        assert talk.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    talk.send_signal(signal.SIGKILL)
    talk.wait()
    tree = whole(store)
    assert all(node.ending is not None for node in tree.nodes[:-1])
    if tree.nodes[-1].ending is None:  # else the answer was finished between the look and the kill
        assert tree.nodes[-1].text and tree.nodes[-1].role == "assistant"


# -- conversations


def test_list_and_show(talked: Session, store: Store) -> None:
    conversation = talked.conversation or ""
    mark(store, talked.path()[0].id, "note", "knots")
    assert "6 turns" in run("conversations", "list").output and "How do I tie" in run("conversations", "list").output
    row = json.loads(run("conversations", "list", "--json").output)
    assert (row["id"], row["turns"]) == (conversation, 6)
    shown = run("conversations", "show", conversation[:8]).output
    assert "How do I tie a bowline?" in shown and "3 branches" in shown and "note knots" in shown and "parrot" in shown
    tree = run("conversations", "show", conversation, "--tree").output.splitlines()
    assert len(tree) == 6 and sum("* " in line for line in tree) == 1 and tree[1].startswith("  - ")
    answer = talked.path()[-1]
    assert run("conversations", "show", answer.id, "--prompt").output == store.prompt(answer.id)
    rows = run("conversations", "show", conversation, "--json").output.splitlines()
    assert [json.loads(row)["text"] for row in rows] == [node.text for node in talked.path()]
    assert cursor(store, conversation) == answer.id


def test_show_marks_half_an_answer(talked: Session, store: Store) -> None:
    turn = store.turn(talked.conversation or "", talked.at, subject="parrot")
    turn.say("Well,")
    assert "half an answer" in run("conversations", "show", turn.node.id).output
    assert "Well, …(half)" in run("conversations", "show", talked.conversation or "", "--tree").output


def test_search(talked: Session) -> None:
    found = run("conversations", "search", "BOWLINE").output
    assert "user: How do I tie a bowline?" in found
    assert "nobody said" in run("conversations", "search", "Rosebud").output
    assert json.loads(run("conversations", "search", "hitch", "--json").output)["role"] == "user"


def test_export_and_import(talked: Session, store: Store, tmp_path: Path) -> None:
    tree, other = whole(store), str(tmp_path / "other.db")
    out = tmp_path / "all.jsonl"
    assert run("conversations", "export", "--out", str(out)).exit_code == 0
    done = run("conversations", "import", str(out), "--store", other)
    assert "1 conversation (charactery): 6 turns new, 0 were here" in done.output
    assert open_store(other).tree(tree.id) == tree
    again = json.loads(run("conversations", "import", str(out), "--store", other, "--json").output)
    assert (again["new"], again["known"], again["edited"], again["set_aside"]) == (0, 6, 0, 0)
    gpt = run("conversations", "export", tree.id[:8], "--out", str(tmp_path / "s.json"), "--format", "sharegpt")
    assert "2 turns have no place" in gpt.output
    with out.open("a") as stream:
        stream.write("{torn\n")
    done = run("conversations", "import", str(out))
    assert f"{out}:8: is not JSON" in done.output and "1 set aside in" in done.output


def test_trouble_is_a_sentence(store: Store, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("[\n{")
    for arguments, said in (
        (["show", "abc"], "no conversation or turn begins with 'abc'"), (["export", "--out", "x"], "no conversations"),
        (["import", str(tmp_path / "bad.json")], "bad.json:2: is not JSON"), (["import", "none.json"], "no such file"),
        (["list", "--store", "mysql://me:pass@h/d"], "not at mysql://"),
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "charactery", "conversations", *arguments], capture_output=True, text=True,
            check=False, cwd=tmp_path, env=dict(os.environ),
        )  # fmt: skip
        assert (
            done.returncode == 2
            and said in done.stderr
            and "Traceback" not in done.stderr
            and ":pass" not in done.stderr
        )


def test_a_big_tree_is_shown_and_lists_what_is_there(store: Store) -> None:
    from charactery.conversations import put

    assert "nothing was said yet" in run("conversations", "list").output
    put(store, TREE)
    assert "Tea with the captain" in run("conversations", "list").output
