"""The studio's pages: what they show and do, and what they refuse to others."""

import asyncio
import io
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("fastapi")
import uvicorn

from charactery.cli import studio as command
from charactery.conversations import Session, Store, cursor, open_store, private_store
from charactery.conversations.formats import FORMATS
from charactery.models.speaker import Models
from charactery.share.differences import differences
from charactery.studio import Desk, create_app
from charactery.studio.desk import WAITING, How
from charactery.studio.guard import LOOPBACK
from charactery.studio.pages import LONG, TALKS
from charactery.studio.streams import Page, sent
from charactery.studio.traits import TraitReader
from conversing import Parrot

PAGE = "00000000-0000-0000-0000-000000000001"
FORM = {"page": PAGE, "subject": "parrot"}


@contextmanager
def served(desk: Desk, token: str | None = None) -> Iterator[str]:
    """The studio on a free port, in a thread."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(desk, LOOPBACK, token), log_level="critical", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


@pytest.fixture
def parrot() -> Parrot:
    return Parrot()


@pytest.fixture
def desk(parrot: Parrot, tmp_path: Path) -> Desk:
    who = ["parrot", "smollm2+captain"]
    return Desk(private_store(), lambda how: parrot, who, None, tmp_path / "characters", tmp_path / "runs")


@pytest.fixture
def studio(desk: Desk) -> Iterator[httpx.Client]:
    with served(desk) as address, httpx.Client(base_url=address, timeout=30, follow_redirects=True) as client:
        key = re.search(r'"X-Charactery": "([^"]+)"', client.get("/talk").text)
        assert key is not None
        client.headers["X-Charactery"] = key[1]
        yield client


def store(desk: Desk) -> Store:
    return desk.store("talk")


def wait_for(done: Callable[[], Any]) -> None:
    until = time.monotonic() + 30
    while not done():
        assert time.monotonic() < until
        time.sleep(0.01)


def job_in(page: str) -> str:
    found = re.search(r"/answers/([0-9a-f-]{36})/start", page)
    assert found is not None, page
    return found[1]


def ask(studio: httpx.Client, where: str = "/talk/say", **form: Any) -> tuple[str, httpx.Response]:
    """Post, and begin the answer as the page does; its number and the page."""
    page = studio.post(where, data=FORM | form)
    assert page.status_code == 200, page.text
    job = job_in(page.text)
    assert studio.post(f"/answers/{job}/start").status_code == 204
    return job, page


def settle(desk: Desk) -> None:
    wait_for(lambda: not desk.jobs)


def test_a_talk_and_its_tree(studio: httpx.Client, desk: Desk, parrot: Parrot) -> None:
    _, page = ask(studio, text="Tea?")
    conversation = page.headers["hx-push-url"].split("/")[2].partition("?")[0]
    settle(desk)
    shown = studio.get(f"/talk/{conversation}").text
    assert parrot.words in shown and shown.count("Tea?") >= 3 and 'aria-current="true"' in shown
    at = cursor(store(desk), conversation)
    ask(studio, conversation=conversation, at=at, text="Green?")
    settle(desk)
    tree = store(desk).tree(conversation)
    assert [n.text for n in tree.path(tree.at() or "")] == ["Tea?", parrot.words, "Green?", parrot.words]
    assert "Tea?" in studio.get("/talk").text  # among the talks


def test_several_answers_are_laid_side_by_side(studio: httpx.Client, desk: Desk) -> None:
    _, page = ask(studio, text="Tea?", n=3)
    settle(desk)
    where = page.headers["hx-push-url"]
    shown = studio.get(where).text
    assert shown.count("Go on with this") == 3
    second = re.findall(r'href="([^"]+)"[^>]*>Go on with this', shown)[1]
    chosen = studio.get(second).text
    assert "2 of 3" in chosen and chosen.count("‹") == chosen.count("›") == 1


@pytest.fixture
def several(desk: Desk, studio: httpx.Client) -> httpx.Client:
    """A studio where each Subject says its own name and what all say."""
    desk.voice = lambda how: Parrot(f"Tea, says {how.subject}.", subject=how.subject)
    return studio


def of(address: str) -> list[str]:
    return re.findall(r"of=([0-9a-f-]{36})", address)


def test_columns_from_one_seed_with_the_words_that_differ(several: httpx.Client, desk: Desk) -> None:
    _, page = ask(several, text="Tea?", against=["moe", " ", "parrot", "bo"])
    settle(desk)
    where = page.headers["hx-push-url"]
    told = [store(desk).node(id) for id in of(where)]
    assert [node.subject for node in told] == ["parrot", "moe", "bo"]
    assert len({node.parent for node in told}) == len({node.seed for node in told}) == 1
    shown = several.get(where).text
    assert re.findall(r"<mark>([^<]+)</mark>", shown) == ["parrot", "moe", "bo"] and "Tea, says " in shown
    at = told[0].parent
    ask(several, "/talk/again", conversation=where.split("/")[2].partition("?")[0], at=at, against=["moe"])
    settle(desk)
    assert len({node.seed for node in store(desk).children(where.split("/")[2].partition("?")[0], at)}) == 2
    assert len({name for _, name, _ in events(several, "done-") if name.startswith("piece-")}) == 3


def test_a_column_that_fails_costs_itself_alone(several: httpx.Client, desk: Desk) -> None:
    voice = desk.voice

    def some(how: How) -> Any:
        if how.subject == "moe":
            raise RuntimeError("no <moe>")
        return voice(how)

    desk.voice = some
    _, page = ask(several, text="Tea?", against=["moe", "bo"])
    assert any("no &lt;moe&gt;" in data for _, _, data in events(several, "failed-"))
    settle(desk)
    assert several.get(page.headers["hx-push-url"]).text.count("Go on with this") == 2


def test_a_blind_vote_shows_who_is_who_only_after(several: httpx.Client, desk: Desk) -> None:
    desk.voice = lambda how: Parrot("Tea." if how.subject == "moe" else "No tea.", subject=how.subject)
    _, page = ask(several, text="Tea?", against=["moe"], blind="1")
    settle(desk)
    where = page.headers["hx-push-url"]
    conversation, at = re.match(r"/talk/([^?]+)\?at=([0-9a-f-]+)", where).groups()  # type: ignore[union-attr]
    for shown in (page.text, several.get(where).text):
        main = shown[shown.index("<main") :]
        assert "moe" not in main and "parrot" not in main and ">A" in main and ">B" in main
    first, second = of(where)
    choice = "first" if store(desk).node(first).subject == "moe" else "second"
    form = {"conversation": conversation, "at": at, "first": first, "second": second, "choice": choice}
    told = several.post("/talk/vote", data=form).text
    assert "<strong>moe</strong> was preferred to <strong>parrot</strong> in 1 of 1 votes: 1.00" in told
    assert "[0.21, 1.00]" in told and "Go on with this" in told
    assert "was preferred" in several.get("/talk/votes").text and "Nobody" in several.get("/private/votes").text
    assert several.post("/talk/vote", data=form | {"second": at}).status_code == 400
    for refused, said in (
        ({"blind": "1"}, "tick one other"), ({"blind": "1", "against": ["a", "b"]}, "tick one other"),
        ({"against": ["a"], "n": 2}, "set Answers to 1"), ({"against": [*map(str, range(20))]}, "at most 16"),
    ):  # fmt: skip
        answer = several.post("/talk/say", data=FORM | {"text": "x"} | refused)
        assert answer.status_code == 400 and said in answer.text


def test_which_comes_first_is_drawn_when_blind(several: httpx.Client, desk: Desk) -> None:
    first = set()
    for _ in range(40):  # all alike once in 2^39
        page = several.post("/talk/say", data=FORM | {"text": "Tea?", "against": ["moe"], "blind": "1"})
        first.add(desk.jobs[job_in(page.text)].hows[0].subject)
    assert first == {"parrot", "moe"}


WORDS = st.text(alphabet="ab .,茶\n'é", max_size=40)


@given(st.lists(WORDS, min_size=1, max_size=4))
def test_differences_leave_texts_whole_and_equal_ones_unmarked(texts: list[str]) -> None:
    for text, parts in zip(texts, differences(texts), strict=True):
        assert "".join(piece for piece, _ in parts) == text
        if text == texts[0] and text in texts[1:]:
            assert not any(marked for _, marked in parts)


def test_differences_are_by_words() -> None:
    first, second = differences(["Aye, the green ship sails.", "Aye, the old red ship sails!"])
    assert [piece for piece, marked in first if marked] == ["green", "."]
    assert [piece for piece, marked in second if marked] == ["old red", "!"]
    assert differences(["喝茶吗", "喝酒吗"])[1] == [("喝", False), ("酒", True), ("吗", False)]


def test_an_edit_and_another_answer_stand_beside(studio: httpx.Client, desk: Desk) -> None:
    session = Session(store(desk), Parrot("Aye."))
    asked = session.say("Tea?")
    session.answer()
    conversation = session.conversation or ""
    ask(studio, conversation=conversation, at="", text="Coffee?")
    ask(studio, "/talk/again", conversation=conversation, at=asked.id, n=2)
    settle(desk)
    assert [n.text for n in store(desk).children(conversation, None)] == ["Tea?", "Coffee?"]
    assert len(store(desk).children(conversation, asked.id)) == 3
    assert len(store(desk).path(asked.id)) == 1


def test_a_talk_that_is_opened_again_goes_on_as_it_was(studio: httpx.Client, desk: Desk, tmp_path: Path) -> None:
    def fields(where: str) -> tuple[str, ...]:
        page = studio.get(where).text
        names = ("subject", "strength", "temperature", "max_tokens")
        return tuple(re.findall(rf'name="{name}"[^>]* value="([^"]*)"', page)[0] for name in names)

    desk.subjects.append("moe")
    assert fields("/talk") == ("parrot", "1", "0.7", "256")
    assert fields("/talk?subject=moe") == ("moe", "1", "0.7", "256")
    for subject, sampler, wanted in (
        ("moe@0.5", {"temperature": 1.25, "max_tokens": 96}, ("moe", "0.5", "1.25", "96")),
        ("moe@-1", {"temperature": 0.0}, ("moe@-1", "1", "0", "256")),
        ("moe@0.33", {"temperature": "hot", "max_tokens": 10**9}, ("moe@0.33", "1", "0.7", "256")),
    ):
        session = Session(store(desk), Parrot(subject=subject, sampler=sampler))
        session.say("Tea?")
        session.answer()
        assert fields(f"/talk/{session.conversation}") == wanted
        asked = session.path()[0]
        assert fields(f"/talk/{session.conversation}?at={asked.id}")[0] == wanted[0]  # where its answers are shown
        blind = f"/talk/{session.conversation}?at={asked.id}&of={session.at}&blind=1"
        assert fields(blind)[0] == "parrot"  # which says nothing of who is who


@pytest.mark.parametrize(
    "name", ["https://elsewhere.example/v1", "gpt-4o", "org/model", "openai/gpt-4o", "smollm2+/no"]
)
def test_whom_an_imported_talk_names_is_asked_nothing(studio: httpx.Client, desk: Desk, name: str) -> None:
    """A file from elsewhere must not choose to whom the next words go, nor what is downloaded."""
    session = Session(store(desk), Parrot(subject=name))
    session.say("Tea?")
    session.answer()
    page = studio.get(f"/talk/{session.conversation}").text
    assert re.findall(r'name="subject"[^>]* value="([^"]*)"', page) == ["parrot"]
    assert TraitReader(Models("cpu")).reader([name]).text == "smollm2"


def test_a_page_that_waits_for_an_answer_stays_as_it_is(studio: httpx.Client, desk: Desk) -> None:
    session = Session(store(desk), Parrot())
    session.say("Tea?")
    where, how = f"/talk/{session.conversation}?at={session.at}", How("parrot")
    job = desk.prepare(PAGE, "talk", session, [how])
    assert studio.get(f"{where}&waits=1").status_code == 200
    job.begun = True
    assert studio.get(f"{where}&waits=1").status_code == 204 and "under way" in studio.get(where).text
    job.begun = False
    desk.start(job.id)
    settle(desk)
    desk.start(job.id)  # it was over as somebody clicked
    desk.stop(job.id)
    assert len(store(desk).children(str(session.conversation), session.path()[0].id)) == 1


def test_undo_leads_to_before_the_first_word_of_the_same_talk(studio: httpx.Client, desk: Desk) -> None:
    _, page = ask(studio, text="Tea?", against=["moe"])
    settle(desk)
    where = page.headers["hx-push-url"]
    conversation = where.split("/")[2].partition("?")[0]
    undo = re.findall(r'id="undo" href="([^"]+)"', studio.get(where).text)
    assert undo == [f"/talk/{conversation}?at=start"]
    before = studio.get(undo[0]).text
    assert '<article class="turn' not in before and "Tea?" in before  # in the tree
    assert f'name="conversation" value="{conversation}"' in before and 'name="at" value=""' in before
    ask(studio, text="Coffee?", conversation=conversation, at="")
    settle(desk)
    assert [n.text for n in store(desk).children(conversation, None)] == ["Tea?", "Coffee?"]


def test_a_page_is_led_to_its_own_answer_wherever_the_talk_has_gone(studio: httpx.Client, desk: Desk) -> None:
    job, page = ask(studio, text="Tea?")
    settle(desk)
    conversation = page.headers["hx-push-url"].split("/")[2].partition("?")[0]
    mine = cursor(store(desk), conversation)
    other, _ = ask(studio, text="Coffee?", conversation=conversation, at="", n=2)  # in a second tab
    settle(desk)
    assert cursor(store(desk), conversation) != mine
    shown = studio.get(f"/answers/{job}")
    assert shown.headers["hx-push-url"] == f"/talk/{conversation}?at={mine}"
    assert "Tea?" in shown.text[shown.text.index("<main ") :]
    beside = studio.get(f"/answers/{other}")
    assert "hx-push-url" not in beside.headers and beside.text.count("Go on with this") == 2


def test_search_shows_where_it_was_said_in_its_place(studio: httpx.Client, desk: Desk) -> None:
    places = {}
    for place in ("talk", "private"):
        session = places[place] = Session(desk.store(place), Parrot())
        session.say("Tea? " + "And so on. " * 20 + f"The word is STRASSE, in {place}.")
    other = Session(store(desk), Parrot())
    other.say("No street.")

    def hits(**query: Any) -> list[tuple[str, str]]:
        found = studio.get("/search", params=query).text
        return re.findall(r'href="/(\w+)/[^"]+">(?:(?!</a>).)*<mark>([^<]+)</mark>, in', found)

    assert hits(q="straße") == [("talk", "STRASSE")] and hits(q="straße", place="private") == [("private", "STRASSE")]
    assert hits(q="word", conversation=other.conversation) == []
    within = studio.get("/search", params={"q": "strasse", "conversation": places["talk"].conversation}).text
    assert 'id="hits"' in within and "<mark>STRASSE</mark>" in within
    assert "No street." in studio.get("/search?q=+").text  # the talks again
    assert "Nobody said zebra." in studio.get("/search?q=zebra").text


def test_older_talks_are_a_click_away(studio: httpx.Client, desk: Desk) -> None:
    for n in range(TALKS + 3):
        Session(store(desk), Parrot()).say(f"Question {n}.")
    page = studio.get("/talk").text
    assert "Question 3." in page and "Question 2." not in page
    more = unescape(re.findall(r'hx-get="(/talks[^"]+)"', page)[0])
    older = studio.get(more).text
    assert re.findall(r"Question \d+", older) == ["Question 2", "Question 1", "Question 0"]
    assert "Older talks" not in older and "<ul" not in older


def test_an_answer_is_edited_as_a_brother_and_stays_as_it_was(studio: httpx.Client, desk: Desk) -> None:
    session = Session(store(desk), Parrot("Aye."))
    asked = session.say("Tea?")
    old = session.answer()[0]
    conversation = session.conversation or ""
    form = {"conversation": conversation, "node": old.id}
    shown = studio.post("/talk/edit", data=form | {"text": "No.\r\nNever."})
    kept = store(desk).children(conversation, asked.id)
    assert [(n.role, n.text) for n in kept] == [("assistant", "Aye."), ("assistant", "No.\nNever.")]
    assert kept[0] == old and kept[1].seed is None and kept[1].subject == ""
    assert shown.headers["hx-push-url"] == f"/talk/{conversation}?at={kept[1].id}" and "2 of 2" in shown.text
    assert cursor(store(desk), conversation) == kept[1].id
    for bad, said in (({"text": " "}, "write what it says"), ({"text": "x", "conversation": PAGE}, "not of this conv")):
        answer = studio.post("/talk/edit", data=form | bad)
        assert answer.status_code == 400 and said in answer.text, answer.text


def test_stop_keeps_what_was_said(studio: httpx.Client, desk: Desk, parrot: Parrot) -> None:
    parrot.words, parrot.pause = "one two three " * 200, 0.02
    job, page = ask(studio, text="Count.")
    conversation = page.headers["hx-push-url"].split("/")[2].partition("?")[0]
    wait_for(lambda: len(store(desk).tree(conversation).nodes) == 2)
    shown = studio.get(f"/talk/{conversation}?at={store(desk).tree(conversation).nodes[0].id}").text
    assert "An answer is under way" in shown
    assert studio.post(f"/answers/{job}/stop").status_code == 204
    settle(desk)
    _, answer = store(desk).tree(conversation).nodes
    assert answer.ending == "stopped" and 0 < len(answer.text) < len(parrot.words)
    assert "stopped" in studio.get(f"/talk/{conversation}").text
    assert studio.post(f"/answers/{job}/stop").status_code == 204  # it ended as somebody pressed the button
    assert studio.post(f"/answers/{PAGE}/stop").status_code == studio.get(f"/answers/{PAGE}").status_code == 400


def test_a_private_talk_is_nowhere_else(studio: httpx.Client, desk: Desk) -> None:
    _, page = ask(studio, "/private/say", text="The word is Rosebud.")
    settle(desk)
    where = page.headers["hx-push-url"]
    assert where.startswith("/private/") and "Rosebud" in studio.get(where).text
    assert store(desk).summaries() == []
    for address in ("/talk", "/search?q=Rosebud", where.replace("/private/", "/talk/")):
        answer = studio.get(address)
        assert "The word is" not in answer.text
    assert studio.get(where).headers["cache-control"] == "no-store"


def events(studio: httpx.Client, until: str | tuple[str, ...], after: str = "") -> list[tuple[str, str, str]]:
    """The page's events up to one whose name begins so: number, name, data."""
    found, event = [], {"data": ""}
    with studio.stream("GET", f"/events/{PAGE}", headers={"last-event-id": after} if after else {}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if line == "" and "event" in event:
                found.append((event["id"], event["event"], event["data"]))
                if event["event"].startswith(until):
                    return found
                event = {"data": ""}
            elif name == "data":
                event["data"] = value if not event["data"] else f"{event['data']}\n{value}"
            elif name:
                event[name] = value
    raise AssertionError(found)


def test_the_answer_streams_in_pieces_and_again_for_one_who_comes_back(
    studio: httpx.Client, desk: Desk, parrot: Parrot
) -> None:
    parrot.words = "<b>one</b>\ntwo <script>alert(1)</script>"
    job, _ = ask(studio, text="Count.")
    told = events(studio, "done-")
    assert [name for _, name, _ in told] == [f"piece-{job}"] * 2 + [f"done-{job}"]
    assert told[0][2] == "<span>&lt;b&gt;one&lt;/b&gt;\ntwo </span>"
    assert events(studio, "done-", after=told[0][0]) == told[1:]


def test_fifty_readers_hear_everything() -> None:
    async def read_all() -> None:
        page, count = Page(), 300

        async def read() -> list[str]:
            heard: list[str] = []
            async for text in page.read(0):
                if not text.startswith(":"):
                    heard.append(text)
                if len(heard) == count:
                    return heard
            return heard

        readers = [asyncio.create_task(read()) for _ in range(50)]
        for n in range(count):
            page.add("piece", f"{n}\nmore")
            if n % 7 == 0:
                await asyncio.sleep(0)
        wanted = [sent((n + 1, "piece", f"{n}\nmore")) for n in range(count)]
        assert await asyncio.gather(*readers) == [wanted] * 50

    asyncio.run(asyncio.wait_for(read_all(), 60))


def test_a_fault_is_a_sentence_on_the_page(desk: Desk, studio: httpx.Client) -> None:
    def no_model(how: How) -> Any:
        from charactery.errors import ModelNotFound

        raise ModelNotFound(f"no model {how.subject!r} <here>")

    desk.voice = no_model
    ask(studio, text="Tea?", subject="nobody")
    told = events(studio, "failed-")
    assert "no model &#x27;nobody&#x27; &lt;here&gt;" in told[0][2]
    settle(desk)
    over = studio.get(f"/answers/{told[-1][1].removeprefix('failed-')}")
    assert re.search(r'id="fault" role="alert"><p class="fault">no model &#39;nobody&#39; &lt;here', over.text)
    assert "aria-busy" not in over.text and 'id="stop"' not in over.text and 'id="undo"' in over.text
    for blind, said in (("", "moe: no model"), ("1", "one of them could not answer")):
        ask(studio, text="Tea?", against=["moe"], blind=blind)
        job = [name for _, name, _ in events(studio, "failed-", told[-1][0])][-1].removeprefix("failed-")
        settle(desk)
        over = studio.get(f"/answers/{job}{'?blind=1' if blind else ''}")
        assert said in over.text, over.text
    for form, said in (
        ({"text": " "}, "nothing to say"), ({"text": "x", "temperature": "hot"}, "temperature: input should be"),
        ({"text": "x", "n": "999"}, "n: input should be less"), ({"text": "x", "at": PAGE}, "not of this conversation"),
    ):  # fmt: skip
        answer = studio.post("/talk/say", data={**FORM, **form})
        assert answer.status_code == 400 and said in answer.text, answer.text
    assert studio.get("/nowhere").status_code == 400


def test_a_fault_that_nobody_foresaw_is_a_page_and_stands_in_the_log(
    studio: httpx.Client, desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(place: str) -> Any:
        raise ZeroDivisionError("of <no> use")

    monkeypatch.setattr(desk, "store", broken)
    page = studio.get("/talk")
    assert page.status_code == 500 and page.text.startswith("<!doctype html>") and 'href="/runs"' in page.text
    assert "The studio itself is at fault (ZeroDivisionError). Go back and try again" in page.text
    fragment = studio.post("/talk/say", data=FORM | {"text": "Tea?"}, headers={"HX-Request": "true"})
    assert fragment.status_code == 500 and fragment.text.startswith('<p class="fault">The studio itself is at fault')
    for answer, what in ((page, "GET /talk"), (fragment, "POST /talk/say")):
        reference = re.search(r"beside ([0-9a-f]{8})", answer.text)
        assert reference and f"{reference[1]}: {what} (ZeroDivisionError: of <no> use)" in caplog.messages


def test_what_is_asked_for_in_vain_is_told_on_a_page(studio: httpx.Client) -> None:
    for address, status, said in (
        ("/nowhere", 400, "there is no place 'nowhere'"), ("/talk/x", 400, "conversation: input should be"),
        ("/static/none", 404, "Not Found"),
    ):  # fmt: skip
        page = studio.get(address)
        assert page.status_code == status and said in unescape(page.text) and 'href="/runs"' in page.text
        fragment = studio.get(address, headers={"HX-Request": "true"})
        assert fragment.status_code == status and fragment.text.startswith('<p class="fault">')


def test_answers_that_no_page_asks_for_are_let_go_of(desk: Desk, studio: httpx.Client, parrot: Parrot) -> None:
    parrot.pause = 0.1
    job, _ = ask(studio, text="Tea?")
    session = desk.session("talk", None, None, How("parrot"))
    waiting = [desk.prepare(PAGE, "talk", session, [How("parrot")]).id for _ in range(WAITING + 5)]
    assert [*desk.jobs] == [job, *waiting[5:]]  # the one under way and the last
    assert studio.post(f"/answers/{waiting[0]}/start").status_code == 400
    settled = desk.jobs.keys() - {job}
    wait_for(lambda: desk.jobs.keys() == settled)


def test_a_page_is_told_what_it_waits_for(
    studio: httpx.Client, desk: Desk, parrot: Parrot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charactery.studio.desk.PATIENCE", 0.05)

    def slow(how: How) -> Parrot:
        time.sleep(0.3)
        desk.tell("downloading <smollm2>")
        return parrot

    desk.voice = slow
    job, page = ask(studio, text="Tea?")
    said = [data for _, name, data in events(studio, "done-") if name == f"said-{job}"]
    assert said == ["The model is made ready…", "downloading &lt;smollm2&gt;", ""]
    assert f'sse-swap="said-{job}"' in page.text


def test_an_answer_under_way_as_the_studio_is_closed_is_kept(
    desk: Desk, parrot: Parrot, caplog: pytest.LogCaptureFixture
) -> None:
    parrot.words, parrot.pause = "one two three " * 1000, 0.02
    with served(desk) as address, httpx.Client(base_url=address) as client:
        key = re.search(r'"X-Charactery": "([^"]+)"', client.get("/talk").text)
        client.headers["X-Charactery"] = key[1] if key else ""
        _, page = ask(client, text="Count.")
        conversation = page.headers["hx-push-url"].split("/")[2].partition("?")[0]
        wait_for(lambda: len(store(desk).tree(conversation).nodes) == 2)
    settle(desk)
    answer = store(desk).tree(conversation).nodes[-1]
    assert answer.ending == "stopped" and 0 < len(answer.text) < len(parrot.words) and caplog.messages == []


def test_what_was_said_is_text_and_never_markup(studio: httpx.Client, desk: Desk) -> None:
    bad = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'"
    session = Session(store(desk), Parrot(bad))
    session.say(bad)
    session.answer()
    for address in (f"/talk/{session.conversation}", "/talk", "/search?q=script", f"/search?q={bad}"):
        page = studio.get(address).text
        assert "<script>alert" not in page and "<img" not in page


def test_bookmarks_notes_and_tags(studio: httpx.Client, desk: Desk) -> None:
    session = Session(store(desk), Parrot("Aye."))
    session.say("Tea?")
    node = session.answer()[0].id
    form = {"node": node}
    assert 'aria-pressed="true"' in studio.post("/talk/mark", data={**form, "kind": "bookmark"}).text
    studio.post("/talk/mark", data={**form, "kind": "tag", "text": " knots "})
    told = studio.post("/talk/mark", data={**form, "kind": "note", "text": "<b>here</b>"}).text
    assert "&lt;b&gt;here" in told and "#knots" in told and 'hx-swap-oob="true"' in told and f"at={node}" in told
    shown = studio.get(f"/talk/{session.conversation}").text
    assert shown.count("#knots") == 2 and shown.count('id="marked"') == 1 and "hx-swap-oob" not in shown
    assert "here" in studio.get("/search?q=HERE").text
    for kind, text in (("bookmark", ""), ("tag", "knots"), ("note", "<b>here</b>")):
        told = studio.post("/talk/mark", data={**form, "kind": kind, "text": text, "off": "1"}).text
    assert "#knots" not in told and 'aria-pressed="true"' not in told and "Marked" not in told
    assert store(desk).tree(session.conversation or "").marks == ()
    for bad, said in (
        ({"kind": "note", "text": " "}, "write the note first"), ({"kind": "star", "text": "x"}, "no 'star'"),
        ({"node": PAGE, "kind": "bookmark"}, "no turn 00000000"), ({"kind": "tag", "text": "\0"}, "NUL"),
    ):  # fmt: skip
        answer = studio.post("/talk/mark", data=form | bad)
        assert answer.status_code == 400 and said in unescape(answer.text), answer.text


def test_an_answer_is_begun_for_the_model(several: httpx.Client, desk: Desk) -> None:
    session = Session(store(desk), Parrot("Aye."))
    asked = session.say("Tea?")
    form = {"conversation": session.conversation, "at": asked.id, "prefill": "Well now. ", "against": ["moe"]}
    _, page = ask(several, "/talk/again", **form)
    settle(desk)
    told = [store(desk).node(id) for id in of(page.headers["hx-push-url"])]
    assert [node.text for node in told] == [f"Well now.Tea, says {name}." for name in ("parrot", "moe")]
    assert "Begun with" in several.get(page.headers["hx-push-url"].replace("?", "/share?")).text


def test_an_answer_that_was_cut_off_is_gone_on_with(studio: httpx.Client, desk: Desk) -> None:
    conversation = store(desk).begin()
    asked = store(desk).add(conversation, None, "user", "Tea?")
    turn = store(desk).turn(conversation, asked.id, subject="parrot")
    turn.say('Aye,\n<two> "lumps\n  ')
    half = studio.get(f"/talk/{conversation}").text
    given = re.search(r'<form class="on".*?name="at" value="([^"]+)".*?name="prefill" value="([^"]+)"', half, re.S)
    assert given is not None and given[1] == asked.id and unescape(given[2]) == 'Aye,\n<two> "lumps\n  '
    assert 'name="exact" value="1"' in half
    begins = unescape(given[2]).replace("\n", "\r\n")
    ask(studio, "/talk/again", conversation=conversation, at=given[1], prefill=begins, exact="1")
    settle(desk)
    answer = store(desk).children(conversation, asked.id)[1]
    assert answer.text == 'Aye,\n<two> "lumps\n  Aye, that knot will hold.' and answer.ending == "end"
    assert "Let it go on" not in studio.get(f"/talk/{conversation}?at={answer.id}").text


# -- what is handed over


def test_a_branch_and_a_comparison_as_one_file(several: httpx.Client, desk: Desk) -> None:
    _, page = ask(several, text="Tea? <b>", against=["moe"])
    settle(desk)
    where, _, query = page.headers["hx-push-url"].partition("?")
    answer = several.get(f"{where}/share?{query}&without=marks&without=times")
    assert answer.headers["content-disposition"] == 'attachment; filename="tea-b.html"'
    assert "Tea? &lt;b&gt;" in answer.text and "Tea, says moe." in answer.text and "How this was drawn" in answer.text
    assert "How this was drawn" not in several.get(f"{where}/share?{query}&without=recipe").text
    text = unescape(several.get(f"{where}/markdown?{query}&without=times").text)
    assert "**user**\n\nTea? <b>\n\n**parrot**\n\nTea, says parrot.\n\n**moe**" in text
    assert several.get(f"{where}/share?at={PAGE}").status_code == 400
    assert several.get(f"{where}/share?{query}&without=everything").status_code == 400
    for kind, begins in {"png": b"\x89PNG", "pdf": b"%PDF"}.items():
        file = several.get(f"{where}/share?{query}&kind={kind}&dark=1")
        assert file.headers["content-disposition"] == f'attachment; filename="tea-b.{kind}"'
        assert file.content.startswith(begins) and kind in file.headers["content-type"]
    for without, extra in (("", ["tea-b-recipe.json"]), ("&without=recipe", [])):
        packed = several.get(f"{where}/share?{query}&kind=zip{without}")
        assert packed.headers["content-disposition"] == 'attachment; filename="tea-b.zip"'
        with zipfile.ZipFile(io.BytesIO(packed.content)) as both:
            assert sorted(both.namelist()) == [*extra, "tea-b.html", "tea-b.png"]
            assert both.read("tea-b.png").startswith(b"\x89PNG") and b"Tea, says" in both.read("tea-b.html")
    assert several.get(f"{where}/share?{query}&kind=gif").status_code == 400
    store(desk).rename(where.split("/")[2], "a" * 100_000)  # an imported talk's
    answer = several.get(f"{where}/share?{query}&kind=md")
    assert answer.headers["content-disposition"] == f'attachment; filename="{"a" * 60}.md"'
    private = several.get(f"{where.replace('/talk/', '/private/')}/share?{query}")
    assert private.status_code == 400 and "Tea" not in private.text


@pytest.mark.parametrize("format", FORMATS)
def test_a_talk_goes_out_and_comes_in(several: httpx.Client, desk: Desk, format: str) -> None:
    _, page = ask(several, text="Tea?", against=["moe"])
    settle(desk)
    conversation = page.headers["hx-push-url"].split("/")[2].partition("?")[0]
    kept = store(desk).tree(conversation)
    out = several.get(f"/talk/{conversation}/export?format={format}")
    assert f"{conversation}{FORMATS[format].suffix}" in out.headers["content-disposition"]
    told = several.post("/private/import", files={"file": ("talk <1>.json", out.content)})
    assert f"talk &lt;1&gt;.json ({format})" in told.text and "Tea?" in told.text
    came = desk.store("private").tree(conversation)
    assert told.headers["hx-push-url"] == f"/private/{conversation}?at={came.at()}"
    if format not in ("sharegpt", "sillytavern"):
        assert came == kept
    again = several.post("/private/import", files={"file": ("talk.json", out.content)})
    assert "0 turns new" in again.text and desk.store("private").tree(conversation) == came
    assert several.get(f"/talk/{conversation}/export?format=word").status_code == 400


def test_a_bad_file_is_a_sentence(studio: httpx.Client, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    half = b'{"type": "conversation", "id": "%s", "title": "", "time": 1}\n' % PAGE.encode()
    turn = half.replace(b'"conversation"', b'"turn"').replace(b'"title": ""', b'"turn": "x", "parent": null')
    for content, said in (
        (b"", "<b>.json:1: holds no conversation"), (b"{", "is not JSON"), (b"PK\x03\x04", "is a zip file"),
        (b'[{"mapping": 1}]', "<b>.json"), (turn, "turn is no UUID"), ("{é".encode("utf-16"), "UTF-16"),
    ):  # fmt: skip
        answer = studio.post("/talk/import", files={"file": ("<b>.json", content)})
        assert answer.status_code == 400 and said in unescape(answer.text), answer.text
        assert "<b>" not in answer.text and "/tmp" not in answer.text
    monkeypatch.setattr("charactery.studio.share.LARGEST", 3)
    answer = studio.post("/talk/import", files={"file": ("big.json", b"[1, 2]")})
    assert "big.json: is larger than" in answer.text
    assert store(desk).summaries() == []
    other = {"X-Charactery": "guess"}
    assert studio.post("/talk/import", files={"file": ("a", b"[]")}, headers=other).status_code == 403


# -- who may come in


def test_another_sites_page_gets_nothing(studio: httpx.Client, desk: Desk) -> None:
    key = studio.headers["X-Charactery"]
    form = {**FORM, "text": "Tea?"}
    for headers in (
        {"X-Charactery": ""}, {"X-Charactery": "guess"}, {"X-Charactery": key, "Origin": "https://elsewhere.example"},
        {"X-Charactery": key, "Origin": "null"},
    ):  # fmt: skip
        assert studio.post("/talk/say", data=form, headers=headers).status_code == 403
    assert studio.get("/talk", headers={"Host": "elsewhere.example"}).status_code == 421
    assert store(desk).summaries() == []
    host = studio.base_url.netloc.decode()
    assert studio.post("/talk/say", data=form, headers={"Origin": f"http://{host}"}).status_code == 200


@pytest.mark.parametrize("headers", [{"Host": "["}, {"Host": "localhost:x]"}])
def test_a_name_that_is_none_is_refused(studio: httpx.Client, headers: dict[str, str]) -> None:
    assert studio.get("/talk", headers=headers).status_code == 421


def test_what_is_too_large_is_not_taken_in(studio: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charactery.studio.guard.MARGIN", 1000)
    monkeypatch.setattr("charactery.studio.guard.FORM", 1000)
    monkeypatch.setattr("charactery.studio.guard.UPLOADS", {"/import": 5000})
    assert studio.post("/talk/say", data=FORM | {"text": "x" * 2000}).status_code == 413
    for size, status in ((4000, 400), (7000, 413)):  # what is no conversation, and what is not read
        answer = studio.post("/talk/import", files={"file": ("a.json", b"x" * size)})
        assert answer.status_code == status, answer.text
    assert studio.post("/talk/import", content=iter([b"x"])).status_code == 411
    assert studio.post("/talk/say", data=FORM, headers={"Origin": "http://["}).status_code == 403


def test_a_talk_that_is_gone_is_told(studio: httpx.Client) -> None:
    for place, said in (("talk", "it may be in another store"), ("private", "gone once the studio is closed")):
        page = studio.get(f"/{place}/{PAGE}")
        assert page.status_code == 404 and said in page.text and 'href="/runs"' in page.text
        answer = studio.post(f"/{place}/say", data=FORM | {"text": "Tea?", "conversation": PAGE})
        assert answer.status_code == 400 and said in answer.text


def test_every_page_has_its_policy(studio: httpx.Client) -> None:
    for address in ("/talk", "/static/studio.css", "/nowhere", "/talk/x"):
        headers = studio.get(address).headers
        assert "script-src 'self'" in headers["content-security-policy"] and "unsafe" not in str(headers)
        assert headers["x-content-type-options"] == "nosniff"
    page = studio.get("/talk").text
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page) and not re.search(r"<script(?![^>]* src=)", page)
    assert " style=" not in page and " onclick" not in page
    for asset in re.findall(r"(?:src|href)=\"(/static/[^\"]+)", page):
        assert studio.get(asset).status_code == 200


def test_beyond_this_machine_a_token_is_asked_for(desk: Desk) -> None:
    with served(desk, token="open sesame") as address:
        assert httpx.get(f"{address}/talk").status_code == 401
        assert httpx.get(f"{address}/talk?token=guess").status_code == 401
        with httpx.Client(base_url=address) as client:
            first = client.get("/talk", params={"token": "open sesame"})
            assert first.status_code == 303 and "HttpOnly" in first.headers["set-cookie"]
            assert client.get("/talk").status_code == 200
            theirs = "foo/bar=1; " + "; ".join(f"{k}={v}" for k, v in client.cookies.items())
            assert httpx.get(f"{address}/talk", headers={"Cookie": theirs}).status_code == 200
        assert httpx.get(f"{address}/talk", headers={"Cookie": "foo/bar=1; charactery=; x"}).status_code == 401


# -- the command


def test_the_page_is_opened_once_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    server = uvicorn.Server(uvicorn.Config(lambda: None))
    waits = threading.Thread(target=command._open_page, args=(server, "http://localhost/"))
    waits.start()
    time.sleep(0.1)
    assert opened == []
    server.started = True
    waits.join(20)
    assert opened == ["http://localhost/"]
    server.started, server.should_exit = False, True
    command._open_page(server, "http://localhost/")  # it never began
    assert opened == ["http://localhost/"]


def test_every_address_of_the_machine_has_names_that_lead_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def through(self: socket.socket, address: Any) -> None:
        connect(self, ("127.0.0.1", 9))

    connect = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", through)
    assert command._names("0.0.0.0") == command._names("::") == ["localhost", "127.0.0.1"]
    assert command._names("127.0.0.1") == ["127.0.0.1"] and command._names("::1") == ["[::1]"]


@pytest.mark.parametrize("again", [False, True])
def test_the_command_with_a_real_model(tiny_model_folder: Path, tmp_path: Path, again: bool) -> None:
    command = [sys.executable, "-m", "charactery", "studio", str(tiny_model_folder), "--no-open", "--port", "0"]
    studio = subprocess.Popen([*command, "--store", str(tmp_path / "talks.db")], stderr=subprocess.PIPE, text=True)
    try:
        assert studio.stderr is not None
        address = studio.stderr.readline().strip()
        wait_for(lambda: answers(address))
        with httpx.Client(base_url=address, timeout=60) as client:
            key = re.search(r'"X-Charactery": "([^"]+)"', client.get("/talk").text)
            assert key is not None and str(tiny_model_folder) in client.get("/talk").text
            client.headers["X-Charactery"] = key[1]
            how = {"subject": str(tiny_model_folder), "max_tokens": 12, "temperature": 1}
            ask(client, text="Tea?", n=2 if again else 1, **how)
            told = events(client, "done-")
    finally:
        studio.send_signal(signal.SIGINT)
        studio.wait(30)
    kept = open_store(tmp_path / "talks.db")
    _, *answered = kept.tree(kept.summaries()[0].id).nodes
    assert len(answered) == (2 if again else 1) and all(n.prompt and n.ending for n in answered)
    pieces = "".join(data.removeprefix("<span>").removesuffix("</span>") for _, name, data in told if "piece" in name)
    # a character that the last token leaves half is shown with the whole answer alone
    assert unescape(pieces).strip() == answered[0].text.rstrip("\ufffd") != ""


def answers(address: str) -> bool:
    """Whether somebody listens."""
    try:
        return httpx.get(f"{address}talk").status_code == 200
    except httpx.TransportError:
        return False


def test_many_branches_are_folded_and_come_when_asked_for(studio: httpx.Client, desk: Desk) -> None:
    session = Session(store(desk), Parrot())
    for n in range(12):
        session.go(None)
        session.say(f"Question {n}?")
    where, at = f"/talk/{session.conversation}", session.at
    folded = studio.get(f"{where}?at={at}").text
    assert "11 others" in folded and "Question 3?" not in folded and 'aria-current="true"' in folded
    lines = studio.get(f"{where}/branches?on=&at={at}").text
    assert lines.count("<li") == 11 and "Question 3?" in lines and "Question 11?" not in lines
    assert studio.get(f"{where}/branches?on=nobody").status_code == 400


def test_of_a_long_talk_the_end_is_shown_and_the_whole_when_asked_for(studio: httpx.Client, desk: Desk) -> None:
    session = Session(store(desk), Parrot())
    for n in range(LONG + 2):
        session.say(f"Line {n}.", "user" if n % 2 == 0 else "assistant")
    where = f"/talk/{session.conversation}?at={session.at}"
    shown, whole = studio.get(where).text, studio.get(f"{where}&whole=1").text
    assert shown.count('<article class="turn') == LONG and "2 earlier turns" in shown and "<title>Line 0." in shown
    assert f'href="{where}&amp;whole=1"' in shown
    assert whole.count('<article class="turn') == LONG + 2 and "earlier turns" not in whole
