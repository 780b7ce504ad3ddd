"""Pictures and PDF of a talk: every word is on them, nothing is cut, text is never run, the recipe is inside."""

import io
import json
import re
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from charactery import typeset
from charactery.constitution.formats import png
from charactery.conversations import Prompt, Session, Store, open_store, private_store
from charactery.errors import CharacteryError
from charactery.share import markdown
from charactery.share.files import as_files, zipped
from charactery.share.formula import formula
from charactery.share.markdown import blocks, direction
from charactery.share.pictures import RECIPE, TALLEST, as_pdf, as_pictures
from charactery.share.transcript import Transcript, transcript
from conversing import Parrot
from test_conversations_cli import run

pypdf = pytest.importorskip("pypdf")

RICH = """## A knot's duties

1. hold, **even wet**
   - by `hand`
3. come ~~undone~~ *loose*

> Two half hitches never lost a ship.

| Knot | Holds |
|:-----|------:|
| Bowline | always |

```python
def tie(rope: str) -> int:
	return len(rope)
```
"""
WORLD = "中文：茶要趁热喝。 日本語のお茶。 한국어 차. Ελληνικά Русский हिन्दी नमस्ते ไทยชา ∀x∈ℝ ♜ 😀 ❤️ 🏴‍☠️ 1️⃣"
HOSTILE = [
    '#panic("x") #import "@preview/x:1.0.0": * #read("/etc/passwd") #{1 + 1} #let a = 2; *#sys.version*',
    "$x$ $ #panic() $ $$ \\input{/etc/passwd} $$ \\(\\write18{ls}\\) \\[ \\loop \\]",
    '<script>alert(1)</script> <img src=x> &amp; &#x41; [words](http://a.example "title") ![alt](x.png)\n\n[ref]: http://b',
    "Wort" * 250 + " " + "https://example.org/" + "a/b" * 90,
    "bell \x07 escape \x1b[31m over \u202eabc\u202c mark \ufeff line \u2028 page \x0c end",
    ">" * 400 + " deep\n\n" + "".join("  " * n + "- level\n" for n in range(60)) + "a\n---\nb\n\n    four spaces",
    "| a | b |\n|---|---|\n| one | two | three too many |\n\n" + "|".join(["", *["cell"] * 12, "\n", *["-"] * 12, ""]),
    "`" * 7 + "```js\nlet a = `#panic()`;\n" + "x" * 300 + "\n```` ```",
]  # fmt: skip


def talk(*answers: str, store: Store | None = None) -> tuple[Store, Session]:
    """A talk of an exchange an answer, each with another question."""
    store = store or private_store()
    session = Session(store, None)
    for n, answer in enumerate(answers):
        session.voice = Parrot(answer, subject="runs/captain@0.5", weights="abcdef0123456789")
        session.say(f"Question number {n}?")
        session.answer()
    return store, session


def shown(*answers: str, without: tuple[str, ...] = ()) -> Transcript:
    store, session = talk(*answers)
    return transcript(store, session.at or "", (), without)


def said(pdf: bytes) -> str:
    """The letters and figures on a PDF's pages, in order."""
    return letters("".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages))


def letters(text: str) -> str:
    return "".join(letter for letter in text if letter.isalnum())


def nothing_is_cut(pictures: list[bytes]) -> None:
    """Pictures of two pixels a point have something on them, and an empty border of 20 points beside and below."""
    for data in pictures:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        paper = Image.new("RGB", image.size, image.getpixel((0, 0)))
        left, _, right, bottom = ImageChops.difference(image, paper).getbbox() or (0, 0, 0, 0)
        assert image.width in (1200, 1600, 2000) and image.height <= 2 * TALLEST
        assert 40 <= left < right <= image.width - 40 and bottom <= image.height - 40


@pytest.mark.parametrize("exchanges", [1, 4, 40])
def test_every_word_is_on_it_and_nothing_is_cut(exchanges: int) -> None:
    answers = [f"Answer {n}, " + f"which goes on for word{n} after word. " * (n % 9) for n in range(exchanges)]
    answers[0] = RICH
    shared = shown(*answers)
    pictures, pdf = as_pictures(shared), as_pdf(shared)
    nothing_is_cut(pictures)
    assert (len(pictures) == 1) == (exchanges < 40)
    read, at = said(pdf), 0
    for turn in shared.turns:
        at = read.find(letters(turn.text), at)
        assert at >= 0, turn.text
    assert read.count("Question") == exchanges + 1  # the title is the first


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_drawn_as_text(hostile: str) -> None:
    shared = shown(hostile)
    nothing_is_cut(as_pictures(shared))
    read = said(as_pdf(shared))
    for word in re.findall("[a-zA-Z0-9]{2,}", re.sub("\u202e.*?\u202c", "", hostile)):
        assert word in read


def test_text_that_no_store_takes_is_drawn_all_the_same() -> None:
    shared = shown("Aye.")
    turns = [replace(turn, text="half \ud800 null \0 end", name="a\ud800") for turn in shared.turns]
    odd = replace(shared, title="\ud800 title", turns=tuple(turns))
    nothing_is_cut(as_pictures(odd))
    assert all(word in said(as_pdf(odd)) for word in ("half", "null", "end", "title"))


def test_a_hundred_thousand_letters() -> None:
    pictures = as_pictures(shown("x" * 20_000, "short"))
    nothing_is_cut(pictures)
    tall = [Image.open(io.BytesIO(page)).height > 1.9 * TALLEST for page in pictures]
    assert tall == [False, True, True, False, False]  # of one turn, the last as tall as what is left of it
    pdf = pypdf.PdfReader(io.BytesIO(as_pdf(shown("x" * 100_000))))
    assert sum(page.extract_text().count("x") for page in pdf.pages) == 100_000


def test_letters_of_the_world_have_fonts_and_emoji_have_colour() -> None:
    shared = shown(WORLD)
    assert "Nofonthere" not in said(as_pdf(shared))
    assert all(part in said(as_pdf(shared)) for part in ("茶要趁热喝", "한국어", "Русский", "Ελληνικά"))
    colours = []
    for text in ("😀", "x"):
        image = np.asarray(Image.open(io.BytesIO(as_pictures(shown(text, without=("names",)))[0])).convert("RGB"))
        colours.append(int((image.max(axis=2).astype(int) - image.min(axis=2)).max()))
    assert colours[0] > 180 > 150 > colours[1]  # names are blue


def test_what_no_font_has_is_told() -> None:
    shared = shown("cuneiform \U00012000 here")
    assert "Nofonthere" in said(as_pdf(shared)) and "U12000" in said(as_pdf(shared))
    read = [replace(turn.recipe, prompt=Prompt(0, "\U00012000")) if turn.recipe else None for turn in shared.turns]
    turns = [replace(turn, text="Aye.", recipe=recipe) for turn, recipe in zip(shared.turns, read, strict=True)]
    assert "Nofonthere" not in said(as_pdf(replace(shared, turns=tuple(turns))))  # a prompt is not on the page


def test_a_machines_own_fonts_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typeset, "FAMILIES", {"Inter": typeset.FAMILIES["Inter"]})
    assert typeset._not_in_fonts("a♜\u200d\n") == {"♜"}
    assert typeset._in_system_fonts(frozenset("♜\U00012000")) == {"♜"}  # of DejaVu Sans, found as any other


def test_what_is_written_from_the_right_stands_at_the_right() -> None:
    def right(text: str) -> float:
        page = Image.open(io.BytesIO(as_pictures(shown(text, without=("names", "recipe", "times")))[0])).convert("L")
        drawn = np.abs(np.asarray(page).astype(int) - 252) > 60
        rows = drawn[330:400]  # of the answer
        return float(np.nonzero(rows.any(axis=0))[0].max())

    assert right("مرحبا بك") > 1100 and right("Hello there") < 400
    assert [direction(text) for text in ("שלום hi", "1. مرحبا", "hi שלום", "12", "")] == ["rtl"] * 2 + ["ltr"] * 3


def test_formulae_are_drawn_or_shown_as_they_are_written() -> None:
    (paragraph, displayed) = blocks("So $x_i \\le \\frac{1}{2}$, at $5 or $6, and\n\n\\[ \\sum_i x_i \\]")
    assert [run[0] for run in paragraph["runs"] if run[1] == "m"] == ["x_i \\le \\frac{1}{2}"]
    assert all("path" in it["svg"] for it in (paragraph["runs"][1][2], displayed))
    assert [formula(tex) for tex in (r"\begin{matrix}1\end{matrix}", "x" * 1000, r"\text{茶}", "{" * 50)] == [None] * 4
    assert [formula(tex) for tex in ("~", r"\mathrm{}", r"\phantom{x}", r"\!")] == [None] * 4  # nothing to draw
    read = said(as_pdf(shown(r"Take \(\begin{matrix}1\end{matrix}\) now.")))
    assert "beginmatrix1endmatrix" in read
    nothing_is_cut(as_pictures(shown(r"\[" + "x + " * 90 + r"y\]")))


def test_formulae_are_drawn_by_several_at_once() -> None:
    draw = formula.__wrapped__  # none is drawn already
    asked = [rf"\frac{{x_{n}^2}}{{\sqrt{{y+{n}}}}}" for n in range(16)]
    wanted, every = [draw(tex) for tex in asked], sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as several:
            found = [*several.map(draw, [rf"{tex}\," for tex in asked])]  # mathtext keeps some, too
    finally:
        sys.setswitchinterval(every)
    assert [one and one.svg.count("M") for one in found] == [one and one.svg.count("M") for one in wanted]


def test_joined_letters_without_an_emoji_take_no_longer_the_more_there_are() -> None:
    text = "a\u200d" * 100_000  # with the square of it, it would be a minute and more
    assert "".join(run[0] for run in markdown.runs(text)).replace(markdown.BREAK, "") == text
    family = "👩\u200d❤\ufe0f\u200d👨"
    assert [family, "e"] in markdown.runs(f"A {family} at sea")


SIGNS = [*"*_`~|>#-+1. \n\t$\\()[]<!&;:x", "a ", "word", "\n\n", "```", "$$", "é", "茶", "\\[", "|-|\n"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(SIGNS)).map("".join))
def test_no_letter_of_any_markdown_is_lost(text: str) -> None:
    found = blocks(text)
    assert letters(markdown._text_of(found)) == letters(text)


def test_the_recipe_is_at_the_foot_and_whole_inside() -> None:
    shared = shown("Aye.", "Aye, aye.")
    (picture,), pdf = as_pictures(shared), as_pdf(shared)
    (chunk,) = [part for part in png.chunks(picture) if png.keyword(part) == RECIPE]
    assert png.text(chunk).decode() == shared.recipe != ""
    (attached,) = pypdf.PdfReader(io.BytesIO(pdf)).attachments["recipe.json"]
    assert json.loads(attached) == json.loads(shared.recipe)
    read = said(pdf)
    seeds = [turn.recipe.seed for turn in shared.turns if turn.recipe]
    assert all(str(part) in read for part in ("abcdef0123456789", "temperature07", *seeds))
    for left in ("names", "recipe"):
        less = shown("Aye.", "Aye, aye.", without=(left,))
        assert "abcdef" not in said(as_pdf(less)) and b"recipe" not in as_pictures(less)[0]
        assert not pypdf.PdfReader(io.BytesIO(as_pdf(less))).attachments


def test_a_prompt_is_told_by_the_hash_of_all_of_it() -> None:
    import hashlib

    store, session = talk("Aye.", "Aye, aye.")
    prompt = store.prompt(session.at or "") or ""
    read = said(as_pdf(transcript(store, session.at or "")))
    assert f"{len(prompt)}letterswithSHA256{hashlib.sha256(prompt.encode()).hexdigest()[:16]}" in read
    assert "SHA256" not in said(as_pdf(transcript(store, session.at or "", (), ("prompts",))))


@pytest.mark.parametrize("answers", [2, 3, 12])
def test_answers_side_by_side(answers: int) -> None:
    store, session = talk("Aye.")
    asked = session.say("Tea?")
    names = "abcdefghijkl"[:answers]
    others = [session.answer(voice=Parrot(f"*Words* of {name}.\n\n" * 9, subject=name))[0] for name in names]
    shared = transcript(store, asked.id, [node.id for node in others])
    nothing_is_cut(as_pictures(shared))
    assert all(said(as_pdf(shared)).count(f"Wordsof{name}") == 9 for name in names)
    marked = {run[0] for line in markdown.plain(shared.columns[0].parts) for run in line["runs"] if "h" in run[1]}
    assert marked == {"a"}


def test_dark_is_dark() -> None:
    shared = shown("Aye.")
    light, dark = (Image.open(io.BytesIO(as_pictures(shared, dark)[0])).convert("L") for dark in (False, True))
    assert light.getpixel((5, 5)) > 240 and dark.getpixel((5, 5)) < 40
    assert as_pictures(shared) == as_pictures(shared) and as_pdf(shared) == as_pdf(shared)


def test_files_of_each_kind() -> None:
    short, long = shown("Aye."), shown(*["many words " * 60] * 12)
    assert {kind: list(as_files(short, kind, "tea")) for kind in ("html", "png", "pdf", "md")} == {
        "html": ["tea.html"], "png": ["tea.png"], "pdf": ["tea.pdf"], "md": ["tea.md"],
    }  # fmt: skip
    files = as_files(long, "png", "tea")
    assert list(files)[:2] == ["tea-1.png", "tea-2.png"]
    with zipfile.ZipFile(io.BytesIO(zipped(files))) as packed:
        assert {name: packed.read(name) for name in packed.namelist()} == files
    (whole,) = as_files(long, "zip", "tea").items()
    with zipfile.ZipFile(io.BytesIO(whole[1])) as packed:
        assert whole[0] == "tea.zip" and {name: packed.read(name) for name in packed.namelist()} == {
            **files, "tea.html": as_files(long, "html", "tea")["tea.html"], "tea-recipe.json": long.recipe.encode(),
        }  # fmt: skip
    with pytest.raises(CharacteryError, match="'gif'; it can as html, png, pdf, md, zip"):
        as_files(short, "gif", "tea")


def test_the_command_writes_files(tmp_path: Path) -> None:
    place = tmp_path / "c.db"
    _, session = talk("Aye.", store=open_store(place))
    asked = session.path()[0]
    other = session.again(1, voice=Parrot("No.", subject="moe"))[0]
    share = ["conversations", "share", "--store", str(place), "--without", "times", asked.id, "--out"]
    for ending, begins in {
        "png": png.SIGNATURE,
        "pdf": b"%PDF",
        "html": b"<!doctype html>",
        "md": b"# Question",
    }.items():
        out = tmp_path / f"talk.{ending}"
        assert run(*share, str(out), "--of", other.id).exit_code == 0
        assert out.read_bytes().startswith(begins)
    assert "moe" in (tmp_path / "talk.md").read_text()
    assert "is there already" in str(run(*share, str(tmp_path / "talk.png")).exception)
    assert "'doc'" in str(run(*share, str(tmp_path / "talk.doc")).exception)
