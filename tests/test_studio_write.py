"""The studio's pages to write a character, to train it and to see the runs: by HTTP, and in a real browser."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import psutil
import pytest

pytest.importorskip("fastapi")

from charactery.constitution import BUNDLED, load_character
from charactery.conversations import private_store
from charactery.errors import CharacteryError
from charactery.report import write_report
from charactery.runs import read_manifest, write_json
from charactery.studio import Desk
from charactery.studio.gallery import cards
from charactery.studio.shelf import Changed, Shelf, text_hash
from charactery.studio.trainings import Trainings
from conversing import Parrot
from report_fixture import build_run
from test_share_bundle import bundle, shared_run  # noqa: F401
from test_studio import served, wait_for
from test_studio_browser import CHROMIUM, FLAGS, pictures

CAPTAIN = (BUNDLED / "captain.md").read_text(encoding="utf-8")
PLAN = {"character": "captain", "name": "mine", "model": "smollm2", "recipe": "distill", "scale": "small"}
SLEEPER = """import time
print("sft: 40 to do", flush=True)
print("sft: 10 of 40, about 7 s left", flush=True)
time.sleep(60)
"""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(private_store(), lambda how: Parrot(), ["parrot"], None, tmp_path / "characters", tmp_path / "runs")
    yield desk
    for name in desk.trainings.names():
        if desk.trainings.at_work(name):  # a test that failed leaves none behind
            desk.trainings.stop(name)


@pytest.fixture
def studio(desk: Desk) -> Iterator[httpx.Client]:
    with served(desk) as address, httpx.Client(base_url=address, timeout=60) as client:
        key = re.search(r'"X-Charactery": "([^"]+)"', client.get("/write").text)
        assert key is not None
        client.headers["X-Charactery"] = key[1]
        yield client


def refused(answer: httpx.Response, said: str, status: int = 400) -> None:
    text = unescape(answer.text)
    assert answer.status_code == status and said in text, text
    assert "Traceback" not in text


# -- characters


def test_a_bundled_character_is_opened_as_a_copy_and_kept(studio: httpx.Client, desk: Desk) -> None:
    listed = studio.get("/write").text
    assert "Captain Elias Marrow" in listed and "None yet" in listed
    page = studio.get("/write?from=captain").text
    assert unescape(page).count("# Captain Elias Marrow") == 1 and "Not saved yet" in page
    form = {"name": "captain", "text": CAPTAIN.replace("\n", "\r\n"), "opened": "", "base": ""}
    saved = studio.post("/write/save", data=form)
    assert saved.headers["hx-push-url"] == "/write/captain" and "/train?character=captain.md&amp;dial=" in saved.text
    kept = desk.shelf.path("captain")
    assert kept.read_text() == CAPTAIN and (BUNDLED / "captain.md").read_text() == CAPTAIN
    assert text_hash(CAPTAIN) in saved.text and "captain.md" in studio.get("/write").text
    assert 'value="captain-2"' in studio.get("/write?from=captain").text  # a name that is free
    new = unescape(studio.get("/write?from=_template&name=Ros <b>").text)
    assert 'name: "Ros <b>"' in new and 'value="ros-b"' in new and "curiosity" in new


def test_a_text_that_somebody_changed_is_never_lost(studio: httpx.Client, desk: Desk) -> None:
    desk.shelf.save("ann", CAPTAIN, "")
    form = {"name": "ann", "opened": "ann", "base": text_hash(CAPTAIN), "text": f"{CAPTAIN}\nmine\n"}
    desk.shelf.path("ann").write_text(f"{CAPTAIN}\n<b>theirs</b>\n")
    answer = studio.post("/write/save", data=form)
    refused(answer, "has changed since you opened it, so nothing was written", 409)
    assert "+&lt;b&gt;theirs" in answer.text and "-mine" in answer.text
    assert "theirs" in desk.shelf.read("ann")
    refused(studio.post("/write/save", data={**form, "opened": "", "base": ""}), "is there already")
    refused(studio.post("/write/save", data={**form, "name": "gone", "opened": "gone"}), "is gone")
    assert studio.post("/write/save", data={**form, "name": "ann-2"}).status_code == 200  # beside it
    assert desk.shelf.read("ann-2").endswith("mine\n")
    desk.shelf.save("ann", "theirs again", text_hash(desk.shelf.read("ann")))
    assert desk.shelf.read("ann") == "theirs again"


def test_of_many_writers_at_once_one_is_first(tmp_path: Path) -> None:
    kept, told = Shelf(tmp_path), list[str]()
    kept.save("ann", "before", "")

    def write(n: int) -> None:
        try:
            Shelf(tmp_path).save("ann", f"by {n}", text_hash("before"))
            told.append(f"by {n}")
        except Changed:
            told.append("")

    threads = [threading.Thread(target=write, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(bool, told)) == [False] * 11 + [True] and kept.read("ann") == max(told)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "ann.md"]


BAD_NAMES = ("../x", "a/b", "..", ".hidden", "/etc/passwd", "a\\b", "x\0y", " ", "x" * 200, "c:x", "a\nb")


def test_a_file_that_cannot_be_read_is_listed_with_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(tmp_path)
    for name in ("ann", "bo"):
        shelf.save(name, CAPTAIN, "")

    def load(path: Path) -> Any:
        if path.stem == "ann":
            raise PermissionError(13, "Permission denied")
        return load_character(path)

    monkeypatch.setattr("charactery.studio.shelf.load_character", load)
    ann, bo = shelf.listed()
    assert ann.fault == "cannot be read (Permission denied)" and bo.character is not None


def test_no_name_leads_out_of_the_folder(studio: httpx.Client, desk: Desk, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    for name in BAD_NAMES:
        refused(studio.post("/write/save", data={"name": name, "text": CAPTAIN}), "")
        with pytest.raises(CharacteryError):
            desk.shelf.path(name)
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "characters").mkdir()
    secret = tmp_path / "secret.md"
    secret.write_text("a secret")
    (tmp_path / "characters" / "link.md").symlink_to(secret)
    refused(studio.get("/write/link"), "is a link")
    refused(studio.post("/write/save", data={"name": "link", "text": "x", "base": text_hash("a secret")}), "is a link")
    assert "link" not in studio.get("/write").text.partition("That come")[0].partition("Yours")[2]
    for address in ("/write/%2e%2e%2fsecret", "/write/..%5csecret", "/write?from=../secret", "/write?from=foils/chef",
                    "/train?character=../secret.md", "/train?character=../../etc/passwd"):  # fmt: skip
        answer = studio.get(address)
        assert answer.status_code in (400, 404) and "a secret" not in answer.text
    assert secret.read_text() == "a secret"


def test_a_character_with_errors_is_looked_at_and_kept(studio: httpx.Client, desk: Desk) -> None:
    for text, line, said in (
        ("---\nname: A\n", 1, "never closed"), ("---\nname: A\nnaem: x\n---\nHi.", 3, "unknown setting 'naem'"),
        ("", None, "is empty"), ("---\nname: <b>\n---\nYou are.\n\n### T\n", 6, "needs a section"),
    ):  # fmt: skip
        told = studio.post("/write/look", data={"text": text, "opened": "a"}).text
        assert "Not a character yet" in told and said in unescape(told) and "<b>" not in told
        assert line is None or f'data-line="{line}"' in told
        assert 'id="dials"' not in told and 'id="reading"' not in told  # what was last seen of it stays
    form = {"name": "half", "text": "---\nname: Half\n"}
    assert "/train?" not in studio.post("/write/save", data=form).text
    assert desk.shelf.read("half") == form["text"]
    assert "line 1: the settings opened here are never closed" in unescape(studio.get("/write").text)
    refused(studio.get("/train?character=half.md"), "never closed")
    bare = CAPTAIN.replace("because: ", "", 1)
    found = studio.post("/write/look", data={"text": bare}).text
    assert re.search(r'data-line="(\d+)">line \1</button> <strong>no-reason</strong>', found), found
    refused(
        studio.post("/write/save", data={"name": "big", "text": "a" * 1_100_000}), '<p class="fault">Field exceeded'
    )
    with pytest.raises(CharacteryError, match="at most 2 MB"):
        desk.shelf.save("big", "a" * 2_000_001, "")
    desk.shelf.path("latin").write_bytes("é".encode("latin-1"))
    refused(studio.get("/write/latin"), "is not UTF-8")
    assert "latin" in studio.get("/write").text


def looked(studio: httpx.Client, trigger: str, **more: Any) -> str:
    form = {"text": CAPTAIN, "opened": "captain", "base": text_hash(CAPTAIN), "turned": ["bluntness", "storytelling"]}
    answer = studio.post("/write/look", data=form | more, headers={"hx-trigger-name": trigger})
    assert answer.status_code == 200, answer.text
    return unescape(answer.text)


def test_dials_say_what_the_constitution_says_there(studio: httpx.Client, desk: Desk) -> None:
    middle = looked(studio, "text", dial=["0.5", "0.5"])
    assert "<mark>" not in middle and "as it is written" in middle and 'id="dials"' in middle
    low = looked(studio, "dial", dial=["0.1", "0.5"])
    assert "Always: wraps hard news in kindness" in low and "examples are for this end alone" in low
    assert "<mark>" in low and "wraps hard news" in re.findall(r"<mark>(.*?)</mark>", low, re.S)[0]
    assert 'id="dials"' not in low and 'id="at-1"' in low  # the slider that is being drawn is not taken away
    assert "dial=bluntness=0.1" in low.replace("%3D", "=")
    high = looked(studio, "dial", dial=["1", "0.5"], reader="rubric")
    assert "names the rock first" in high and "# Rubric" in high
    deployed = looked(studio, "profile", dial=["1", "1"], profile="helpdesk")
    assert 'value="0.2"' in deployed and "customers of a small shop" in deployed and "profile=helpdesk" in deployed
    assert "For example:" in looked(studio, "mix", dial=["0.5", "0.5"], mix="1")
    for bad, said in (
        ({"dial": ["x", "0"]}, "from 0 to 1"), ({"dial": ["7", "0"]}, "from 0 to 1"),
        ({"dial": ["nan", "0"]}, "from 0"), ({"dial": ["1"]}, "without their names"),
        ({"dial": ["1", "1"], "reader": "nobody"}, "no reader"),
        ({"dial": ["1", "1"], "mix": "2"}, "mix"),
    ):  # fmt: skip
        refused(studio.post("/write/look", data={"text": CAPTAIN, "turned": ["bluntness", "x"], **bad}), said)


# -- trainings


def command(**plan: Any) -> dict[str, Any]:
    return PLAN | {"turned": ["bluntness", "storytelling"], "dial": ["0.5", "0.5"]} | plan


def test_what_a_training_would_take_and_its_command(studio: httpx.Client, desk: Desk) -> None:
    desk.shelf.save("ann", CAPTAIN, "")
    assert (
        "Train Captain Elias Marrow" in studio.get("/train?character=ann.md&dial=bluntness=0.9&profile=helpdesk").text
    )
    told = unescape(studio.post("/train/foresee", data=command(character="ann.md", dial=["0.9", "0.5"], sham="1")).text)
    runs, own = desk.trainings.runs, desk.shelf.path("ann")
    wanted = f"charactery train {own} --out {runs}/mine --recipe distill --dial bluntness=0.9 --sham --train 32"
    assert wanted in told and "answers are written" in told and "--max-tokens 40" in told
    shipped = unescape(studio.post("/train/foresee", data=command(scale="shipped", recipe="distill+dpo")).text)
    assert f'value="charactery train captain --out {runs}/mine"' in shipped
    for bad, said in (
        ({"model": "no such model"}, "no model"), ({"model": "--out=/tmp/x"}, "give the model"),
        ({"model": "openai/x"}, "cannot be trained"), ({"recipe": "../x.toml"}, "choose one of the recipes"),
        ({"recipe": "nothing"}, "no recipe"), ({"scale": "huge"}, "no size"), ({"name": "../out"}, "no name for a run"),
        ({"name": ".x"}, "no name for a run"), ({"dial": ["2", "0"]}, "from 0 to 1"),
        ({"turned": ["a", "b"]}, "no dial 'a'"), ({"character": "nobody"}, "no character"),
        ({"character": "gone.md"}, "no such file"), ({"profile": "x"}, "no profile"),
        ({"recipe": "person"}, "needs what the person wrote"),
    ):  # fmt: skip
        seen = studio.post("/train/foresee", data=command(**bad))
        assert seen.status_code == 200 and said in unescape(seen.text), seen.text
        refused(studio.post("/train/start", data=command(**bad)), said)
    refused(studio.post("/train/start", data=command(seed="-1")), "seed")
    assert not desk.trainings.runs.exists()


def test_a_run_may_have_a_name_of_any_letters(
    studio: httpx.Client, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    monkeypatch.setattr(desk.trainings, "start", lambda name, command: begun.append(name))
    answer = studio.post("/train/start", data=command(name="капитан-船長"))
    assert begun == ["капитан-船長"] and answer.status_code == 204
    assert unquote(answer.headers["hx-redirect"]) == "/runs/капитан-船長"


def begin(trainings: Trainings, name: str, code: str) -> None:
    """As `start` does, with another program in the command's place."""
    package = trainings.runs.parent / "package" / "sleeper"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__main__.py").write_text(code)
    trainings.start(name, ["sleeper", "train"])


@pytest.fixture
def sleepers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'package'}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr("charactery.studio.trainings.COMMAND", ("sleeper", "train"))


def test_a_training_outlives_the_studio_and_is_stopped(studio: httpx.Client, desk: Desk, sleepers: None) -> None:
    runs = desk.trainings.runs
    begin(desk.trainings, "mine", SLEEPER)
    try:
        wait_for(lambda: "sft" in studio.get("/runs/mine").text)
        page = studio.get("/runs/mine").text
        assert "At work" in page and "before its first stage" in page and "/runs/mine/progress" in page
        part = studio.get("/runs/mine/progress")
        assert part.headers["hx-reselect"] == "#progress"
        run = build_run(runs / "mine")
        shutil.rmtree(runs / "mine" / "stages")
        write_json(run.stage_folder("prompts") / "done", {"seconds": 3, "peak_mb": 1})
        for name in ("drafts", "pairs"):
            write_json(run.stage_folder(name) / "done", {"seconds": 3, "peak_mb": 1})
        write_json(run.stage_folder("sft") / "clock.json", {"seconds": 1, "peak_mb": 1})
        page = studio.get("/runs/mine").text
        assert '<progress max="40" value="10"' in page and "10 of 40, about 7.0 s left" in page
        assert "3 of 10 stages done, now sft" in page
        other = Trainings(runs)  # a studio that was opened later
        assert other.at_work("mine") and "At work" in studio.get("/runs").text
        refused(studio.post("/train/start", data=command()), "there is a run mine already")
        refused(studio.post("/runs/mine/forget"), "has a folder")
        other.stop("mine")
    finally:
        desk.trainings.stop("mine")
    stopped = studio.get("/runs/mine/progress")
    assert "Stopped" in stopped.text and "Go on" in stopped.text and "hx-retarget" not in stopped.headers
    try:
        assert "At work" in studio.post("/runs/mine/go-on").text
        assert studio.post("/runs/mine/go-on").status_code == 200  # once is enough
    finally:
        assert "Stopped" in studio.post("/runs/mine/stop").text


def test_a_run_that_a_terminal_works_on_is_at_work(studio: httpx.Client, desk: Desk) -> None:
    run = build_run(desk.trainings.runs / "theirs")
    (run.stage_folder("evaluate") / "done").unlink()
    assert "Stopped" in studio.get("/runs/theirs").text
    write_json(run.stage_folder("evaluate") / "clock.json", {"seconds": 1, "peak_mb": 1})
    page = studio.get("/runs/theirs").text
    assert "At work" in page and "begun in a terminal" in page and "/runs/theirs/stop" not in page
    os.utime(run.stage_folder("evaluate") / "clock.json", (1, 1))
    assert "Stopped" in studio.get("/runs/theirs").text


def test_a_training_that_breaks_off_says_why(studio: httpx.Client, desk: Desk, sleepers: None) -> None:
    begin(desk.trainings, "mine", "import sys\nsys.exit('charactery: no <model> here')")
    wait_for(lambda: not desk.trainings.at_work("mine"))
    page = studio.get("/runs/mine").text
    assert "Broken off" in page and "no &lt;model&gt; here" in page and "Go on" in page
    assert "Broken off" in studio.get("/runs").text
    assert studio.post("/runs/mine/forget").headers["hx-redirect"] == "/runs"
    refused(studio.get("/runs/mine"), "there is no run 'mine'")


def test_only_a_training_is_begun_again(studio: httpx.Client, desk: Desk, tmp_path: Path) -> None:
    row = {"command": ["http.server", "0"], "pid": 1, "born": 1.0, "time": 1.0, "stopped": True}
    write_json(desk.trainings.kept / "mine.json", row)
    refused(studio.post("/runs/mine/go-on"), "mine.json: holds another command than a training's")
    assert not desk.trainings.at_work("mine")


def test_a_number_that_another_process_got_is_left_alone(tmp_path: Path) -> None:
    trainings = Trainings(tmp_path)
    row = {"command": ["charactery"], "pid": os.getpid(), "born": 1.0, "time": 1.0, "stopped": False}
    write_json(tmp_path / ".trainings" / "mine.json", row)
    assert not trainings.at_work("mine")
    trainings.stop("mine")  # and not this process
    (tmp_path / ".trainings" / "torn.json").write_text("{")
    assert trainings.begun("torn") is None and trainings.names() == ["mine"]
    assert [one.name for one in cards(tmp_path, trainings)] == ["mine"]  # and the gallery is there all the same
    for name in ("torn", "none", "../x"):
        with pytest.raises(CharacteryError, match="was not begun here"):
            trainings.go_on(name)


def test_a_training_that_cannot_be_kept_in_mind_does_not_run(
    tmp_path: Path, sleepers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, value: object) -> None:
        raise CharacteryError("no space is left", path)

    trainings = Trainings(tmp_path / "runs")
    monkeypatch.setattr("charactery.studio.trainings.write_json", full)
    with pytest.raises(CharacteryError, match="no space"):
        begin(trainings, "mine", SLEEPER)
    (child,) = trainings._children.values()
    assert child.wait(20) == -signal.SIGTERM


def test_a_training_that_ends_as_it_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainings, me = Trainings(tmp_path), psutil.Process()
    row = {"command": ["charactery"], "pid": me.pid, "born": me.create_time(), "time": 1.0, "stopped": False}
    write_json(tmp_path / ".trainings" / "mine.json", row)

    def gone(process: psutil.Process) -> None:
        raise psutil.NoSuchProcess(process.pid)

    monkeypatch.setattr(psutil.Process, "terminate", gone)
    trainings.stop("mine")
    assert trainings.begun("mine").stopped  # type: ignore[union-attr]


def test_a_training_is_stopped_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainings, child = Trainings(tmp_path), subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    born = psutil.Process(child.pid).create_time()
    row = {"command": ["charactery"], "pid": child.pid, "born": born, "time": 1.0, "stopped": False}
    write_json(tmp_path / ".trainings" / "mine.json", row)

    def full(path: Path, value: object) -> None:
        raise CharacteryError("no space is left", path)

    monkeypatch.setattr("charactery.studio.trainings.write_json", full)
    try:
        with pytest.raises(CharacteryError, match="no space"):
            trainings.stop("mine")
        assert not trainings.at_work("mine")
    finally:
        child.kill()


# -- runs


def test_the_gallery_shows_what_came_out_and_what_is_broken(studio: httpx.Client, desk: Desk) -> None:
    runs = desk.trainings.runs
    assert "None yet" in studio.get("/runs").text
    run = build_run(runs / "good", answer="Aye <script>alert(1)</script>")
    write_report(run, run.folder)
    write_json(run.stage_folder("report") / "done", {"seconds": 1, "peak_mb": 1})
    for name, spoil in (
        ("torn", lambda p: (p / "manifest.json").write_text("{")),
        ("list", lambda p: (p / "manifest.json").write_text("[]")),
        ("bare", lambda p: write_json(p / "manifest.json", {"settings": {}, "stages": []})),
        ("odd", lambda p: write_json(p / "manifest.json", {"settings": 3, "stages": {"a": 1}})),
        ("figures", lambda p: next(p.glob("stages/*/figures.json")).write_text("[{]")),
        ("rows", lambda p: next(p.glob("stages/*/examples.jsonl")).write_text('{"answers": 3}\nx')),
        ("done", lambda p: next(p.glob("stages/*/done")).write_text("")),
        ("text", lambda p: (p / "character.md").write_text("nothing")),
    ):  # fmt: skip
        build_run(runs / name)
        spoil(runs / name)
    (runs / "-odd name").mkdir()
    page = studio.get("/runs")
    assert page.status_code == 200
    text = unescape(page.text)
    assert text.count('class="fault"') >= 8 and "has a damaged manifest.json" in text
    for said in (
        "The character took.",
        "86% [78, 91]",
        "93% [87, 97]",
        "How do I make a cup of tea properly?",
        "n 120",
    ):
        assert said in text
    assert "<script>alert" not in page.text and "&lt;script&gt;alert" in page.text
    assert 'src="/runs/good/card.png"' in text and 'src="/runs/text/card.png"' not in text
    assert studio.get("/runs/good/card.png").content.startswith(b"\x89PNG")
    refused(studio.get("/runs/text/card.png"), "must begin with a line `---`")
    for name in ("torn", "list", "bare", "odd", "figures", "rows", "done", "text", "good"):
        assert studio.get(f"/runs/{name}").status_code == 200
    for name in (".trainings", "none", "%2e%2e", "a%5cb", "-odd%20name", "x%00"):
        assert studio.get(f"/runs/{name}").status_code in (307, 400, 404)
        assert studio.get(f"/runs/{name}/report").status_code in (307, 400, 404)
    refused(studio.get("/runs/torn/report"), "has no report yet")
    refused(studio.post("/runs/torn/bundle"), "damaged manifest")
    refused(studio.get("/runs/good/bundle"), "make the bundle")
    refused(studio.post("/runs/good/stop"), "was not begun here")
    refused(studio.post("/runs/good/go-on"), "was not begun here")


def test_a_report_runs_nothing_and_asks_for_nothing(studio: httpx.Client, desk: Desk) -> None:
    run = build_run(desk.trainings.runs / "good")
    (run.folder / "report.html").write_text("<script>alert(1)</script>")
    policy = studio.get("/runs/good/report").headers["content-security-policy"]
    assert "sandbox" in policy.split("; ") and "script-src" not in policy and "default-src 'none'" in policy
    assert (
        "frame-ancestors 'self'" in policy
        and "frame-src 'self'" in studio.get("/runs/good").headers["content-security-policy"]
    )
    assert " sandbox>" in studio.get("/runs/good").text
    for address in ("/runs", "/write", "/write?from=captain", "/train?character=captain", "/runs/good"):
        page = studio.get(address)
        assert "script-src 'self'" in page.headers["content-security-policy"] and "unsafe" not in str(page.headers)
        assert " style=" not in page.text and " onclick" not in page.text
        assert not re.search(r"<script(?![^>]* src=)", page.text) and not re.search(
            r'(?:src|href)="(?:https?:)?//', page.text
        )


def test_a_bundle_goes_out_and_comes_in(
    studio: httpx.Client, desk: Desk, shared_run: Path, tiny_model_folder: Path  # noqa: F811
) -> None:  # fmt: skip
    runs = desk.trainings.runs
    shutil.copytree(shared_run, runs / "captain")
    made = studio.post("/runs/captain/bundle", data={"without": ["conversations"]})
    assert 'href="/runs/captain/bundle"' in made.text, made.text
    taken = studio.get("/runs/captain/bundle")
    assert 'filename="captain.zip"' in taken.headers["content-disposition"]
    refused(studio.post("/runs/captain/bundle", data={"without": ["everything"]}), "no part 'everything'")
    files = {"file": ("My captain.zip", taken.content)}
    refused(studio.post("/runs/open", files=files), "--base")
    assert not (runs / "my-captain").exists()
    form = {"base": str(tiny_model_folder)}
    told = studio.post("/runs/open", files=files, data=form)
    assert told.status_code == 200 and "/runs/my-captain" in told.text, told.text
    assert read_manifest(runs / "my-captain")["opened"]["from"] == "my-captain.zip"
    assert "conversations.json" not in [path.name for path in (runs / "my-captain").iterdir()]
    assert "opened from my-captain.zip" in studio.get("/runs").text and str(runs / "my-captain") in desk.known()["Runs"]
    assert "its maker's word" in unescape(studio.get("/runs/my-captain").text)
    refused(studio.post("/runs/open", files=files, data=form), "there is a run my-captain already")
    refused(studio.post("/runs/open", files=files, data=form | {"name": "../x"}), "no name for a run")


def test_a_bad_bundle_is_refused_by_its_own_name(
    studio: httpx.Client, desk: Desk, bundle: Path, tmp_path: Path, tiny_model_folder: Path  # noqa: F811
) -> None:  # fmt: skip
    form, data = {"base": str(tiny_model_folder)}, bundle.read_bytes()
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as packed, zipfile.ZipFile(bundle) as good:
        for name in good.namelist():
            packed.writestr(name, good.read(name))
        packed.writestr("../out.txt", "x")
    with zipfile.ZipFile(bundle) as archive:
        at = archive.getinfo("adapter_model.safetensors").header_offset + 200
    bit = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    for content, said in (
        (b"", "theirs <1>.zip: is no zip file"), (data[:-100], "is no zip file, or only a part"),
        (bit, "adapter_model.safetensors is damaged"), ((tmp_path / "out.zip").read_bytes(), "leads out of the bundle"),
    ):  # fmt: skip
        answer = studio.post("/runs/open", files={"file": ("theirs <1>.zip", content)}, data=form)
        refused(answer, said)
        assert "<1>" not in answer.text and "/tmp" not in answer.text
    assert list(desk.trainings.runs.glob("*")) == [] and not (tmp_path / "out.txt").exists()


def test_another_sites_page_changes_nothing(studio: httpx.Client, desk: Desk, tmp_path: Path) -> None:
    build_run(desk.trainings.runs / "good")
    before = sorted(tmp_path.rglob("*"))
    key = studio.headers["X-Charactery"]
    for where, form in (
        ("/write/save", {"name": "x", "text": CAPTAIN}), ("/write/look", {"text": CAPTAIN}), ("/train/foresee", PLAN),
        ("/train/start", PLAN), ("/runs/good/stop", {}), ("/runs/good/go-on", {}), ("/runs/good/forget", {}),
        ("/runs/good/bundle", {}), ("/runs/open", {}),
    ):  # fmt: skip
        for headers in ({"X-Charactery": "guess"}, {"X-Charactery": key, "Origin": "https://elsewhere.example"}):
            assert studio.post(where, data=form, headers=headers).status_code == 403
    assert sorted(tmp_path.rglob("*")) == before


# -- in a browser


@pytest.fixture
def page(desk: Desk) -> Iterator[Any]:
    """A page on the studio; what the browser complains of is a fault."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    faults: list[str] = []
    with served(desk) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 900}, base_url=address)
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.on("request", lambda r: None if r.url.startswith((address, "data:")) else faults.append(r.url))
        yield page
        browser.close()
    wanted = ("inline style", "Response Status Error Code 4", "the server responded with a status of 4")
    assert [fault for fault in faults if not any(one in fault for one in wanted)] == []


def test_write_with_the_linter_and_the_dials_beside(page: Any, desk: Desk, tmp_path: Path) -> None:
    page.goto("/write")
    pictures(page, tmp_path, "write")
    page.fill("input[name=name]", "Rosalind")
    page.keyboard.press("Enter")
    page.wait_for_selector("#findings")
    assert "No faults found" in page.inner_text("#findings") and page.input_value("input[name=name]") == "rosalind"
    text = page.input_value("#text")
    spoilt = text.replace("You count things:", "You are good. You count things:").replace(
        "because: A gardener", "A gardener"
    )
    page.fill("#text", spoilt)
    page.wait_for_selector("#findings li")
    pictures(page, tmp_path, "findings")
    line = int(page.get_attribute("#findings .line", "data-line"))
    page.focus("#findings .line")
    page.keyboard.press("Enter")
    chosen = page.evaluate("(f => f.value.slice(f.selectionStart, f.selectionEnd))(document.activeElement)")
    assert chosen == spoilt.split("\n")[line - 1]
    page.fill("#text", text.replace("---\n", "--\n", 1))
    page.wait_for_selector("#findings .fault")
    assert page.locator(".dial").count() == 1  # the last that was whole stays
    page.fill("#text", text)
    page.wait_for_selector("text=No faults found")
    page.focus("#dial-1")
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    page.wait_for_selector("#at-1:has-text('0.95')")
    page.wait_for_selector("#reading mark")
    assert "asks two questions" in page.inner_text("#reading mark") and "Always: asks two" in page.inner_text("#says-1")
    assert page.evaluate("document.activeElement.id") == "dial-1"
    pictures(page, tmp_path, "dials")
    page.focus("#profile")
    page.select_option("#profile", "quiet")
    page.wait_for_selector("#at-1:has-text('0.10')")
    assert page.input_value("#dial-1") == "0.1" and page.evaluate("document.activeElement.id") == "profile"
    page.select_option("#reader", "rubric")
    page.wait_for_selector("#reading:has-text('# Rubric')")
    page.click("text=Save")
    page.wait_for_selector("#train:has-text('Saved')")
    assert desk.shelf.read("rosalind") == text and page.url.endswith("/write/rosalind")
    assert "profile=quiet" in page.get_attribute("#train a.go", "href")
    desk.shelf.save("rosalind", text + "\n<!-- theirs -->\n", text_hash(text))
    page.fill("#text", text + "\nmine")
    page.click(".save")
    page.wait_for_selector("#fault summary")
    page.click("#fault summary")
    assert "theirs" in page.inner_text(".diff") and page.input_value("#text").endswith("mine")
    pictures(page, tmp_path, "changed")
    page.fill("input[name=name]", "rosalind-mine")
    page.click(".save")
    page.wait_for_url("**/write/rosalind-mine")
    page.wait_for_selector("#train:has-text('Saved')")
    assert page.inner_text("#fault") == "" and desk.shelf.read("rosalind-mine").endswith("mine")
    page.fill("#text", "not saved")
    page.wait_for_selector("#train:has-text('Changed since')")
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.click("nav >> text=Runs")
    page.wait_for_url("**/runs")
    assert asked == ["beforeunload"]
    pictures(page, tmp_path, "no-runs")


WRITER = """import time
for n in range(60):
    print(f"line {n}", flush=True)
    time.sleep(20 if n == 40 else 0.01)
"""


def test_what_a_training_says_can_be_read_while_it_goes_on(page: Any, desk: Desk, sleepers: None) -> None:
    begin(desk.trainings, "mine", WRITER)
    page.goto("/runs/mine")
    page.wait_for_selector("#log:has-text('line 40')")
    page.focus("#log")
    page.evaluate("getSelection().selectAllChildren(document.getElementById('log'))")
    selected = page.evaluate("String(getSelection())")
    with page.expect_response("**/progress"):
        pass
    with page.expect_response("**/progress"):
        pass
    assert page.evaluate("document.activeElement.id") == "log" and "line 40" in selected
    assert page.evaluate("String(getSelection())") == selected
    page.click("#stop")
    page.wait_for_selector(".state.stopped")


def test_train_from_the_page_then_talk_share_and_open(
    page: Any, desk: Desk, talking_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARACTERY_CACHE", str(talking_cache))
    desk.shelf.save("elias", CAPTAIN, "")
    page.goto("/write/elias")
    page.click("text=Train it…")
    page.wait_for_selector("#command")
    page.fill("#name", "elias-1")
    page.select_option("#recipe", "distill")
    page.check("input[value=small]")
    page.wait_for_selector("#command[value*='--recipe distill'][value*='--train 32']")
    pictures(page, tmp_path, "train")
    page.click("text=Begin the training")
    page.wait_for_url("**/runs/elias-1")
    page.wait_for_selector(".stages", timeout=600_000)
    pictures(page, tmp_path, "progress")
    page.wait_for_selector("iframe", timeout=600_000)  # it comes by itself
    assert page.locator("#progress").count() == 0 and page.locator(".rates tr").count() == 3
    page.frame_locator("iframe").locator("h1").wait_for()
    pictures(page, tmp_path, "run")
    manifest = read_manifest(desk.trainings.runs / "elias-1")
    assert manifest["command"].startswith("charactery train") and page.input_value("#command") == manifest["command"]
    assert load_character(desk.trainings.runs / "elias-1" / "character.md").name == "Captain Elias Marrow"
    page.focus("#share summary")
    page.keyboard.press("Enter")
    page.check("#share input[value=modelfile]")
    page.click("text=Make the bundle")
    page.wait_for_selector("#bundle a")
    pictures(page, tmp_path, "bundle")
    with page.expect_download() as saved:
        page.click("#bundle a")
    saved.value.save_as(tmp_path / "elias.zip")
    page.click("nav >> text=Runs")
    page.click(".open summary")
    page.set_input_files(".open input[type=file]", tmp_path / "elias.zip")
    page.click(".open button")
    page.wait_for_selector("#opened a")
    assert (desk.trainings.runs / "elias" / "manifest.json").exists() and page.locator("#opened .fault").count() == 0
    page.reload()
    assert page.locator(".card").count() == 2
    pictures(page, tmp_path, "gallery")
    page.click(".card:has-text('opened from elias.zip') >> text=Talk to it")
    page.wait_for_selector("#text")
    assert page.input_value("#how input[name=subject]") == str(desk.trainings.runs / "elias")
