"""Answers side by side: at once, each at its strength, and the traits in them."""

import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi")

from charactery.constitution import find_character
from charactery.constitution.library import bundled_names
from charactery.conversations import Session
from charactery.errors import CharacteryError
from charactery.judges.likelihood import each_margin, evidence
from charactery.models.chat import user
from charactery.models.speaker import Models
from charactery.models.subject import parse_subject
from charactery.studio import Desk
from charactery.studio.traits import TraitReader
from charactery.studio.views import trait_bars
from conversing import Parrot, Said
from test_models_subject import make_run
from test_studio import FORM, PAGE, ask, desk, events, job_in, of, parrot, settle, store, studio, wait_for

__all__ = ["desk", "parrot", "studio"]  # fixtures
CHARACTER = """---
name: Bo
version: 1
summary: Counts.
---

# Bo

You are Bo.

## Manner

### Counts

You count what there is to be counted, and say the number.

### Ropes

You speak of ropes and of knots.
"""


class Together(Parrot):
    """Begins, and goes on once as many others have begun; or, with `on` given, once that is set."""

    def __init__(self, subject: str, meet: threading.Barrier, on: threading.Event | None = None) -> None:
        super().__init__(subject=subject)
        self.meet, self.on = meet, on

    def answer(
        self, messages: Sequence[Any], seeds: Sequence[int], on_text: Callable[[str], None], prefill: str = ""
    ) -> list[Said]:
        self.meet.wait(20)
        on_text("Aye, ")
        if self.on:
            self.on.wait(20)
        on_text(f"**{self.subject}**")
        on_text(".")
        return [Said(f"Aye, **{self.subject}**.")]


def test_columns_answer_at_once_and_each_is_whole_when_it_has_been_said(studio: httpx.Client, desk: Desk) -> None:
    meet = threading.Barrier(3)
    desk.voice = lambda how: Together(how.subject, meet)
    job, page = ask(studio, text="Tea?", against=["moe", "bo"])
    told = events(studio, ("done-", "failed-"))
    assert told[-1][1] == f"done-{job}"  # one after another, they would wait for each other in vain
    for n, name in enumerate(["parrot", "moe", "bo"]):
        whole = [data for _, event, data in told if event == f"piece-{job}-{n}"][-1]
        assert 'hx-swap-oob="innerHTML"' in whole and f"<strong>{name}</strong>" in whole
    settle(desk)
    nodes = [store(desk).node(id) for id in of(page.headers["hx-push-url"])]
    assert [node.text for node in nodes] == [f"Aye, **{name}**." for name in ("parrot", "moe", "bo")]
    assert len({node.seed for node in nodes}) == len({node.parent for node in nodes}) == 1


def test_a_comparison_that_cannot_begin_is_told_and_over(
    studio: httpx.Client, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(session: Session, node: str) -> int:
        raise CharacteryError("the store is gone")

    monkeypatch.setattr(Session, "answered", lost)
    job, _ = ask(studio, text="Tea?", against=["moe"])
    settle(desk)
    told = events(studio, ("done-", "failed-"))
    assert told[-1][1] == f"failed-{job}" and "the store is gone" in told[-2][2]


def test_columns_in_the_middle_of_a_talk_are_beside_each_other(studio: httpx.Client, desk: Desk) -> None:
    session = Session(store(desk), Parrot("Aye."))
    asked = session.say("Tea?")
    answered = session.answer()[0]
    meet = threading.Barrier(2)
    desk.voice = lambda how: Together(how.subject, meet)
    ask(studio, "/talk/again", conversation=session.conversation, at=answered.id, against=["moe"])
    settle(desk)
    assert [n.parent for n in store(desk).tree(session.conversation or "").nodes] == [None, *[asked.id] * 3]


def test_stop_keeps_what_every_column_has_said(studio: httpx.Client, desk: Desk) -> None:
    meet, on = threading.Barrier(3), threading.Event()
    desk.voice = lambda how: Together(how.subject, meet, on)
    job, page = ask(studio, text="Tea?", against=["moe", "bo"])
    conversation = page.headers["hx-push-url"].split("/")[2].partition("?")[0]
    wait_for(lambda: len(store(desk).tree(conversation).nodes) == 4)  # what was said lies in the store at once
    assert studio.post(f"/answers/{job}/stop").status_code == 204
    on.set()
    settle(desk)
    nodes = [store(desk).node(id) for id in of(page.headers["hx-push-url"])]
    assert {(node.text, node.ending) for node in nodes} == {
        (f"Aye, **{name}**", "stopped") for name in ("parrot", "moe", "bo")
    }  # what came as it was stopped is kept
    assert studio.get(page.headers["hx-push-url"]).text.count("<small>stopped</small>") == 3


def test_who_is_picked_is_looked_up_anew_for_every_page(
    studio: httpx.Client, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "Your characters" not in studio.get("/talk").text
    Path("characters").mkdir()
    Path("characters/bo.md").write_text(CHARACTER)
    make_run(Path("runs/new"))
    own = f"smollm2+{tmp_path / 'characters/bo.md'}"
    shown = studio.get("/talk").text
    for label, name in (("Your characters", own), ("Runs", str(tmp_path / "runs/new")), ("Others", "smollm2+captain")):
        assert re.search(rf'<optgroup label="{label}">(<option>[^<]*</option>)*<option>{re.escape(name)}<', shown), (
            label
        )
    link = re.findall(r'href="([^"]+)"[^>]*>Talk', studio.get("/write/bo").text)  # and where it is written
    assert any(f'name="subject" value="{own}"' in studio.get(one).text for one in link)
    assert f'href="/talk?subject=smollm2%2B{tmp_path}/characters/bo.md"' in studio.get("/write").text


def test_the_plain_and_the_prompted_model_are_ticked(
    studio: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = make_run(Path("runs/captain"))
    (run / "character.md").write_text(Path(str(find_character("captain").path)).read_text())

    def ticked(subject: str) -> list[str]:
        shown = studio.get("/beside", params={"subject": subject})
        assert shown.status_code == 200, shown.text
        return re.findall(r'value="([^"]+)" checked', shown.text)

    assert ticked("runs/captain@0.5") == ["smollm2", "smollm2+runs/captain/character.md"]
    assert ticked("smollm2+hhh") == ["smollm2"] and ticked("smollm2") == []
    assert studio.get("/beside", params={"subject": "smolm"}).status_code == 400


def test_who_answers_at_which_strength(
    studio: httpx.Client, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs/captain"))
    desk.subjects = ["runs/captain", "smollm2+captain"]
    shown = studio.get("/talk").text
    assert 'name="strength/runs/captain"' in shown and 'name="strength/smollm2+captain"' not in shown

    def asked(**form: Any) -> list[str]:
        page = studio.post("/talk/say", data=FORM | {"text": "Tea?", "subject": "runs/captain"} | form)
        assert page.status_code == 200, page.text
        return [how.subject for how in desk.jobs[job_in(page.text)].hows]

    assert asked() == asked(strength="1") == ["runs/captain"]
    assert asked(strength="0.5") == ["runs/captain@0.5"]
    assert asked(strength="0.5", subject="runs/captain@1.5") == ["runs/captain@1.5"]
    beside = {"against": ["runs/captain", "smollm2"], "strength/runs/captain": "0.25"}
    assert asked(**beside) == ["runs/captain", "runs/captain@0.25", "smollm2"]
    ask(studio, text="Tea?", subject="runs/captain", strength="0.05")
    for form, said in (
        ({"subject": "smollm2", "strength": "0.5"}, "a stage or strength needs a run"),
        ({"strength": "3"}, "strength: input should be less"),
        ({"strength/runs/captain": "x"}, "the strength of runs/captain is a number"),
        ({"strength/runs/captain": "9"}, "the strength of runs/captain goes from 0 to 2"),
        ({"strength/runs/captain": "nan"}, "the strength of runs/captain goes from 0 to 2"),
    ):
        answer = studio.post("/talk/say", data=FORM | {"text": "Tea?", "subject": "runs/captain"} | form)
        assert answer.status_code == 400 and said in answer.text, answer.text


@pytest.fixture
def compared(studio: httpx.Client, desk: Desk, tiny_model_folder: Path, tmp_path: Path) -> tuple[str, list[str]]:
    """A comparison of the tiny model with itself as Bo, in the blind; its address, and its answers."""
    (tmp_path / "bo.md").write_text(CHARACTER)
    names = [str(tiny_model_folder), f"{tiny_model_folder}+{tmp_path / 'bo.md'}"]
    desk.voice = lambda how: Parrot("I count nine ropes." if "+" in how.subject else "Tea.", subject=how.subject)
    desk.traits = TraitReader(Models("cpu"))
    _, page = ask(studio, text="Tea?", subject=names[0], against=names[1:], blind="1")
    settle(desk)
    return page.headers["hx-push-url"], of(page.headers["hx-push-url"])


def test_the_traits_are_read_in_each_answer_once_one_may_know(
    studio: httpx.Client, desk: Desk, compared: tuple[str, list[str]], tiny_model_folder: Path, tmp_path: Path
) -> None:
    where, ids = compared
    at = store(desk).node(ids[0]).parent or ""
    assert "Traits of" not in studio.get(where).text and "traits-" not in studio.get(where).text
    form = {"conversation": where.split("/")[2].partition("?")[0], "at": at, "first": ids[0], "second": ids[1]}
    shown = studio.post("/talk/vote", data=form | {"choice": "first"}).text
    assert shown.count('sse-swap="traits-') == 2 and ">Bo</option>" in shown and ">captain</option>" in shown
    picked = re.findall(r'<option value="([^"]+)">Bo<', shown)[0]
    assert picked == str(tmp_path / "bo.md")
    wanted = {"page": PAGE, "at": at, "of": ids, "character": picked}
    assert studio.post("/talk/traits", data=wanted).status_code == 204
    told = [data for _, name, data in events(studio, "read-") if name == f"traits-{ids[1]}"]
    last = told[-1]  # trait by trait; the whole character is the last
    assert len(told) == 3 and "reads 2 more" in told[0] and "reads" not in last and last.count("<svg") == 3
    assert '<div class="all">' in last and last.rindex("<dt>") == last.index("<dt>Bo</dt>")
    answers = [store(desk).node(id).text for id in ids]
    whole, *traits = evidence(find_character(picked))
    assert desk.traits is not None
    model = desk.traits.models.base(parse_subject(str(tiny_model_folder)))
    figures = each_margin(model, [((user("Tea?"),), answer) for answer in answers], [*traits, whole])
    for title, (_, mine) in zip(("Counts", "Ropes"), figures, strict=False):
        assert f"{mine:+.2f}".replace("-", "−") in last.split(f"<dt>{title}</dt>")[1].split("</dd>")[0]


def test_what_is_asked_of_traits_amiss_is_a_sentence(
    studio: httpx.Client, desk: Desk, compared: tuple[str, list[str]]
) -> None:
    _, ids = compared
    at = store(desk).node(ids[0]).parent or ""
    for form, said in (
        ({"of": [at]}, "answers to the same turn"), ({"of": ids, "character": "captian"}, "Did you mean captain?"),
    ):  # fmt: skip
        answer = studio.post("/talk/traits", data={"page": PAGE, "at": at, "character": "captain"} | form)
        assert answer.status_code == 400 and said in answer.text, answer.text
    desk.traits = TraitReader(Models("nowhere"))
    form = {"page": PAGE, "at": at, "of": ids, "character": "captain"}
    assert studio.post("/talk/traits", data=form).status_code == 204
    assert "there is no device" in events(studio, "read-")[-2][2]
    desk.traits = None
    answer = studio.post("/talk/traits", data=form)
    assert answer.status_code == 400 and "this studio reads no traits" in answer.text


def test_traits_that_cannot_be_read_stand_in_the_log(
    studio: httpx.Client, desk: Desk, compared: tuple[str, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    _, ids = compared
    assert desk.traits is not None
    desk.traits.models = None  # type: ignore[assignment]
    form = {"page": PAGE, "at": store(desk).node(ids[0]).parent, "of": ids, "character": "captain"}
    assert studio.post("/talk/traits", data=form).status_code == 204
    told = events(studio, "read-")[-2][2]
    reference = re.search(r"the traits cannot be read \(AttributeError.*beside ([0-9a-f]{8})", told)
    assert reference and any(reference[1] in said for said in caplog.messages) and "Traceback" in caplog.text


def test_a_reading_ends_where_answers_are_wanted(studio: httpx.Client, desk: Desk) -> None:
    begun, on = threading.Event(), threading.Event()
    read: list[int] = []

    def slow() -> Any:
        for n in range(3):
            read.append(n)
            yield "traits-x", str(n)
            begun.set()
            on.wait(20)

    desk.behind(PAGE, slow())
    begun.wait(20)
    ask(studio, text="Tea?")
    on.set()
    settle(desk)
    desk.behind(PAGE, iter([("after", "")]))
    told = events(studio, "after")
    assert read == [0, 1] and [data for _, name, data in told if name == "traits-x"] == ["0"]


def test_bars_are_on_one_scale_about_nought() -> None:
    first, second = trait_bars([("a", (0.1, -0.25)), ("b", (float("nan"), 0.5))])
    assert [(bar.left, bar.width) for bar in first] == [(50, 10), (50, 0)] and first[1].nats is None
    assert [(bar.left, bar.width) for bar in second] == [(25, 25), (50, 50)]
    assert trait_bars([("a", (2.0,))])[0][0].width == 50


def test_a_character_is_found_by_what_the_subjects_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs/bo"))
    Path("runs/bo/character.md").write_text(CHARACTER)
    reader = TraitReader(Models("cpu"))
    found = reader.characters(["gpt-4o", "smollm2+captain", "runs/bo@0.5", "runs/bo"])
    assert [*found.values()][:2] == [find_character("captain").name, "Bo"] and [*found][1] == "runs/bo/character.md"
    Path("runs/bo/character.md").write_text("---\nbroken")
    assert "runs/bo/character.md" not in reader.characters(["runs/bo", "smollm2"])
    assert {*reader.characters(["gpt-4o"])} == {*bundled_names()}
    assert reader.reader(["openai/gpt-4o", "runs/bo@0.5"]).text == reader.reader([]).text == "smollm2"
