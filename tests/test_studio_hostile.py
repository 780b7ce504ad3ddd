"""The studio among ill files, a full disk, and an import that is killed."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi")

from charactery.conversations import Mark, Node, Tree, open_store
from charactery.conversations.formats import FORMATS, export_text, import_file
from charactery.studio import Desk
from test_studio import PAGE, desk, parrot, store, studio

__all__ = ["desk", "parrot", "studio"]  # fixtures

BAD = "<script>alert(1)</script><img src=x onerror=alert(1)></textarea></title>\"' javascript:alert(1)"


def uid(n: int) -> str:
    return f"00000000-0000-0000-0000-{n:012d}"


def ill_tree(turns: int = 2) -> Tree:
    """A conversation that is markup wherever it can be."""
    nodes = [
        Node(uid(n), uid(n - 1) if n > 1 else None, ("assistant", "user")[n % 2], BAD, float(n), "end", BAD)
        for n in range(1, turns + 1)
    ]
    marks = (Mark(uid(1), "note", BAD, 1.0), Mark(uid(1), "tag", BAD.replace(" ", "-"), 1.0))
    return Tree(uid(99), BAD, 0.0, tuple(nodes), marks=marks)


@pytest.mark.parametrize("format", FORMATS)
def test_markup_in_an_imported_file_stays_text_everywhere(studio: httpx.Client, desk: Desk, format: str) -> None:
    text, _ = export_text([ill_tree()], format)
    came = studio.post("/talk/import", files={"file": ("a.json", text.encode())})
    assert came.status_code == 200, came.text
    where = came.headers["hx-push-url"]
    talk, _, query = where.partition("?")
    for address in (where, "/talk", "/search?q=script", f"{talk}/share?{query}", f"{talk}/markdown?{query}"):
        shown = studio.get(address).text
        own = shown.replace("<script src=", "")  # the page's own, of which a shared file has none
        assert "<script" not in own and "<img" not in own and shown.count("</title>") <= 1, address
        assert not re.search(r"<[^>]*\shref=\"?javascript:", shown), address


def test_a_corrupt_line_is_told_on_the_page_and_costs_no_other(studio: httpx.Client, desk: Desk) -> None:
    text, _ = export_text([ill_tree(6)], "charactery")
    lines = text.split("\n")
    lines[3] = lines[3][: len(lines[3]) // 2]
    came = studio.post("/talk/import", files={"file": ("a.jsonl", "\n".join(lines).encode())})
    assert came.status_code == 200 and "could not be used" in came.text and "line 4: is not JSON" in came.text
    assert [node.id for node in store(desk).tree(uid(99)).nodes] == [uid(1), uid(2)]


def test_a_full_disk_is_a_sentence_on_the_page(
    studio: httpx.Client, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    answer = studio.post("/talk/import", files={"file": ("a.json", b"[]")})
    assert answer.status_code == 400 and "No space left on device" in answer.text and "try again" in answer.text
    monkeypatch.undo()
    with store(desk).reading() as c:
        c.exec_driver_sql("pragma max_page_count = 1")
    for post in (
        {"url": "/talk/import", "files": {"file": ("a.json", export_text([ill_tree(900)], "charactery")[0].encode())}},
        {"url": "/talk/say", "data": {"page": PAGE, "subject": "parrot", "text": "much " * 100_000}},
    ):
        answer = studio.post(**post)
        assert answer.status_code == 400 and "the disk is full" in answer.text
    assert not any(talk.turns for talk in store(desk).summaries())


IMPORT = """
import sys
from charactery.conversations import merge, open_store
from charactery.conversations.formats import import_file

def told(n, of):
    print(n, flush=True)
    if n == 3:
        sys.stdin.read()  # to be killed here

import_file(open_store(sys.argv[1]), sys.argv[2], told)
"""


def test_an_import_that_is_killed_leaves_whole_conversations_and_is_done_again(tmp_path: Path) -> None:
    trees = [
        Tree(f"{n:08d}-0000-0000-0000-000000000000", str(n), 0.0, tuple(
            Node(f"{n:08d}-0000-0000-0000-{k:012d}", f"{n:08d}-0000-0000-0000-{k - 1:012d}" if k else None,
                 ("user", "assistant")[k % 2], f"turn {k}", float(k))
            for k in range(6)
        )) for n in range(6)
    ]  # fmt: skip
    (tmp_path / "all.jsonl").write_text(export_text(trees, "charactery")[0])
    command = [sys.executable, "-c", IMPORT, str(tmp_path / "talks.db"), str(tmp_path / "all.jsonl")]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None and [writer.stdout.readline() for _ in range(3)] == ["1\n", "2\n", "3\n"]
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    kept = open_store(tmp_path / "talks.db")
    assert [len(kept.tree(tree.id).nodes) for tree in trees[:3]] == [6, 6, 6]
    assert import_file(kept, tmp_path / "all.jsonl").added.new == 18
    assert {one.id for one in kept.summaries()} == {tree.id for tree in trees}
