"""What is handed to others: one file that asks for nothing, the recipe, and what is left out of it."""

import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from charactery.conversations import Session, Store, mark, private_store
from charactery.conversations.tree import last_prompt
from charactery.errors import CharacteryError
from charactery.share.transcript import LEAVABLE, _name, as_html, as_markdown, transcript
from conversing import Parrot

BAD = "<script>alert(1)</script><img src=//elsewhere.example/x>\n\n  two </pre> é茶"


@pytest.fixture
def store() -> Store:
    return private_store()


def talk(store: Store, words: str = "Aye.") -> Session:
    session = Session(store, Parrot(words, subject="/home/ada/runs/captain@0.5+x", weights="abcdef0123456789"))
    for text in ("Tea?", "Green?"):
        session.say(text)
        node = session.answer()[0]
    mark(store, node.id, "note", "not for others")
    return session


def recipe(page: str) -> dict[str, list[dict[str, object]]]:
    found = re.search(r'<pre id="recipe">\n(.*?)</pre>', page, re.DOTALL)
    assert found is not None
    return json.loads(unescape(found[1]))  # type: ignore[no-any-return]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_one_file_that_asks_for_nothing_and_shows_text_as_text(store: Store) -> None:
    page = as_html(transcript(store, talk(store, BAD).at or ""))
    tags = Tags()
    tags.feed(page)
    assert not {"script", "img", "link", "iframe"} & {tag for tag, _ in tags.seen}
    assert not any(key in ("src", "href", "style") or key.startswith("on") for _, attrs in tags.seen for key in attrs)
    assert "default-src 'none'" in page and BAD in tags.text and "url(" not in page
    assert [turn["text"] for turn in recipe(page)["turns"]] == ["Tea?", BAD, "Green?", BAD]


def test_the_recipe_is_what_was_read_and_drawn(store: Store) -> None:
    session = talk(store)
    rows = recipe(as_html(transcript(store, session.at or "")))["turns"]
    kept = store.path(session.at or "")
    assert [row.get("seed") for row in rows] == [node.seed for node in kept]
    assert rows[1]["subject"] == "captain@0.5+x" and rows[1]["weights"] == "abcdef0123456789"
    text = ""
    for row in (row["prompt"] for row in rows if "prompt" in row):
        text = text[: row["kept"]] + row["rest"]  # type: ignore[index]
    assert text == last_prompt(kept) != ""


@pytest.mark.parametrize("left", LEAVABLE)
def test_what_is_left_out_is_nowhere(store: Store, left: str) -> None:
    session = talk(store)
    node = store.node(session.at or "")
    signs = {
        "names": ["captain", "abcdef0123456789"], "recipe": ["abcdef0123456789", str(node.seed), "0.7"],
        "prompts": ["<assistant>"], "marks": ["not for others"], "times": [" UTC"],
    }  # fmt: skip
    whole = transcript(store, node.id)
    less = transcript(store, node.id, (), [left])
    for sign in signs[left]:
        assert sign in unescape(as_html(whole)) and sign not in unescape(as_html(less))
        assert sign not in as_markdown(less)
    assert "Aye." in as_html(less) and "/home" not in as_html(whole) + as_markdown(whole)
    with pytest.raises(CharacteryError, match="'x' cannot be left out"):
        transcript(store, node.id, (), ["x"])


def test_a_comparison_has_its_columns(store: Store) -> None:
    session = talk(store)
    asked = session.asked()
    assert asked is not None
    others = [session.again(1, voice=Parrot(f"Says {name}.", subject=name))[0] for name in ("ada", "bo")]
    shared = transcript(store, asked.id, [node.id for node in others])
    assert [said.name for said in shared.columns] == ["ada", "bo"] and shared.turns[-1].text == "Green?"
    hidden = transcript(store, asked.id, [node.id for node in others], ["names"])
    assert [said.name for said in hidden.columns] == ["answer A", "answer B"] and "bo" not in as_markdown(
        hidden
    ).split()
    assert re.findall("<mark>(.*?)</mark>", as_html(shared)) == ["ada", "bo"]
    assert "**ada**\n\nSays ada." in as_markdown(shared).replace(f" ({shared.columns[0].time})", "")
    with pytest.raises(CharacteryError, match="the same turn"):
        transcript(store, session.at or "", [others[0].id])


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        ("/home/me/runs/captain@0.5", "captain@0.5"), ("~/m/x.gguf+captain", "x.gguf+captain"),
        ("runs/captain", "runs/captain"),
        ("http://localhost:8000/v1#runs/a", "http://localhost:8000/v1#runs/a"), ("org/model", "org/model"),
        ("C:\\Users\\me\\model", "model"), ("smollm2+/home/me/ada.md", "smollm2+ada.md"),
        ("../me/runs/a:dpo/40", "a:dpo/40"),
    ],
)  # fmt: skip
def test_no_folder_of_this_machine_is_told(subject: str, shown: str) -> None:
    assert _name(subject) == shown


@pytest.mark.parametrize("prefill", ["", "Aye, and"])
def test_an_answer_is_drawn_again_from_its_recipe(tiny_model_folder: Path, store: Store, prefill: str) -> None:
    from charactery.models.local import Sampler
    from charactery.models.speaker import Models
    from charactery.models.voice import SpeakerVoice

    session = Session(store, SpeakerVoice(Models("cpu").speaker(str(tiny_model_folder)), Sampler(12, 1.0)))
    session.say("Tea?")
    session.answer(prefill=prefill)
    *before, row = recipe(as_html(transcript(store, session.at or "")))["turns"]
    again = SpeakerVoice(Models("cpu").speaker(str(tiny_model_folder)), Sampler(**row["sampler"]))  # type: ignore[arg-type]
    messages = [{"role": turn["role"], "content": turn["text"]} for turn in before]
    assert again.weights == row["weights"] and row["made_of"]["base"]  # type: ignore[index]
    assert again.prompt(messages, prefill) == row["prompt"]["rest"] and row["prefill"] == prefill  # type: ignore
    (drawn,) = again.answer(messages, [row["seed"]], lambda text: None, prefill)  # type: ignore[arg-type,list-item]
    assert prefill + drawn.text == row["text"]
