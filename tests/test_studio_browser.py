"""The studio in a real browser: the system's Chromium, where it and Playwright are here. Screenshots are kept."""

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("playwright")
from playwright.sync_api import sync_playwright

from charactery.constitution import find_character
from charactery.conversations import private_store
from charactery.errors import ModelNotFound
from charactery.models.local import LocalModel
from charactery.models.speaker import Models
from charactery.models.subject import Subject, parse_subject
from charactery.studio import Desk
from charactery.studio.desk import How
from charactery.studio.traits import TraitReader
from conversing import Parrot
from test_models_subject import make_run
from test_studio import served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
KEPT = Path(__file__).parent / "screenshots"  # which git does not keep
WORDS = "one\n two <b>three</b> four five six seven"
SHOWN = "one\ntwo <b>three</b> four five six seven"  # markdown has no space at a line's beginning


SAID = {
    "moe": "Tea, by all means. Let the leaves be counted first, and then the minutes; I keep a table of both.",
    "notes": (
        "# Tea\n\n1. **Boil** the water.\n2. Wait; `four` minutes.\n\n| leaf | minutes |\n|---|--:|\n| green | 2 |\n"
        "| black | 4 |\n\n```py\nprint('<b>tea</b>')\n```\n\n> Aye, said [he](https://elsewhere.example/). "
        "![a pot](https://elsewhere.example/pot.png)"
    ),
    "slow": "One leaf. And another. " * 100,
    "long": "Leaf by leaf it is told. " * 10 + "All told!",
    "runs/captain": "Aye, tea, and strong. Let the leaves steep till the glass has run out, then twice the minutes.",
}


def voice(how: How) -> Parrot:
    name = how.subject.partition("@")[0]
    if name == "nobody":
        raise ModelNotFound("no model 'nobody'")
    pause = 0.02 if name in SAID and name not in ("slow", "long") else 0.1
    sampler = {"temperature": how.temperature, "max_tokens": how.max_tokens}
    return Parrot(SAID.get(name, WORDS), pause, how.subject, sampler=sampler)


def pictures(page: Any, folder: Path, name: str) -> None:
    """A screenshot at both widths, in light and dark; nothing is wider than the page. The last of each are in KEPT."""
    KEPT.mkdir(exist_ok=True)
    for width in (1400, 390):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            taken = page.screenshot(path=folder / f"{name}-{width}-{scheme}.png", full_page=True)
            (KEPT / f"{name}-{width}-{scheme}.png").write_bytes(taken)
    page.set_viewport_size({"width": 1400, "height": 900})


class Tiny(Models):
    """The tiny model in every base's place."""

    def __init__(self, folder: Path) -> None:
        super().__init__("cpu")
        self.tiny = parse_subject(str(folder))

    def base(self, subject: Subject) -> LocalModel:
        return super().base(self.tiny)


@pytest.fixture
def page(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A page on a studio whose parrot speaks slowly; what the browser complains of is a fault."""
    monkeypatch.chdir(tmp_path)
    character = make_run(Path("runs/captain")) / "character.md"
    character.write_text(Path(str(find_character("captain").path)).read_text())
    subjects = ["parrot", "moe", "runs/captain", "smollm2+captain"]
    desk = Desk(private_store(), voice, subjects, TraitReader(Tiny(tiny_model_folder)))
    faults: list[str] = []
    with served(desk) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 900}, base_url=address)
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.on("request", lambda r: None if r.url.startswith((address, "data:")) else faults.append(r.url))
        page.goto("/")
        yield page
        page.wait_for_load_state()
        browser.close()
    assert [fault for fault in faults if "inline style" not in fault] == []  # a screenshot sets one


def say(page: Any, text: str, answers: int = 1) -> None:
    page.fill("#how input[name=n]", str(answers))
    page.fill("#text", text)
    page.click("form.say button")


def test_an_answer_streams_and_the_tree_stands_beside_it(page: Any, tmp_path: Path) -> None:
    say(page, "Tea?")
    page.wait_for_selector(".pending .text span:nth-child(2)")
    assert WORDS.startswith(page.inner_text(".pending .text").rstrip())
    page.wait_for_selector(".turn.assistant:not(.pending)")
    assert page.inner_text(".turn.assistant .text") == SHOWN
    assert "/talk/" in page.url and page.locator(".tree li").count() == 2
    page.reload()
    assert page.inner_text(".turn.assistant .text") == SHOWN
    pictures(page, tmp_path, "talk")


def test_compare_blind_vote_and_see_who_is_who(page: Any, tmp_path: Path) -> None:
    page.focus(".compare summary")  # all by keyboard
    page.keyboard.press("Enter")
    page.fill("#how input[name=subject]", "moe")
    page.focus("input[name=against][value='runs/captain']")
    page.keyboard.press("Space")
    page.focus("input[name=blind]")
    page.keyboard.press("Space")
    pictures(page, tmp_path, "compare-form")
    page.focus("#text")
    page.keyboard.type("Tea?")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("button:has-text('A is better')")
    assert page.locator("mark").count() > 4
    assert "captain" not in page.inner_text("main") and "blind=1" in page.url
    pictures(page, tmp_path, "blind")
    page.focus("button:has-text('B is better')")
    page.keyboard.press("Enter")
    page.wait_for_selector(".tally strong")
    assert {"moe", "runs/captain"} == {one.strip() for one in page.locator(".answers h2").all_inner_texts()}
    assert "1 of 1" in page.inner_text(".tally") or "0 of 1" in page.inner_text(".tally")
    pictures(page, tmp_path, "voted")
    page.goto("/talk/votes")
    pictures(page, tmp_path, "votes")


def test_share_a_file_markdown_and_the_way_back(page: Any, tmp_path: Path) -> None:
    page.fill("#how input[name=subject]", "moe")
    page.click(".compare summary")
    page.check("input[name=against][value='runs/captain']")
    page.click(".compare summary")
    say(page, "Tea?")
    page.wait_for_selector(".answers:not(.pending)")
    page.focus(".share summary")
    page.keyboard.press("Enter")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("text=As markdown")
    page.click("button:has-text('Copy')")
    page.wait_for_selector("button:has-text('Copied')")
    assert SAID["moe"] in page.evaluate("navigator.clipboard.readText()")
    pictures(page, tmp_path, "share")
    page.check("input[name=dark]")
    for button, ending in (("Make page and picture", "zip"), ("Page alone", "html"), ("As PDF", "pdf")):
        with page.expect_download() as drawn:
            page.click(f"button:has-text('{button}')")
        assert drawn.value.suggested_filename == f"tea.{ending}"
        drawn.value.save_as(tmp_path / f"tea.{ending}")
    with zipfile.ZipFile(tmp_path / "tea.zip") as both:
        assert sorted(both.namelist()) == ["tea-recipe.json", "tea.html", "tea.png"]
        assert both.read("tea.html") == (tmp_path / "tea.html").read_bytes()
        with Image.open(both.open("tea.png")) as picture:
            assert picture.width == 1600 and picture.convert("L").getpixel((5, 5)) < 40
        recipe = json.loads(both.read("tea-recipe.json"))
        assert [column["subject"] for column in recipe["columns"]] == ["moe", "runs/captain"]
    with page.expect_download() as exported:
        page.click("button:has-text('Export')")
    exported.value.save_as(tmp_path / "talk.jsonl")
    page.goto("/private")
    page.click(".import summary")
    page.set_input_files(".import input[type=file]", tmp_path / "talk.jsonl")
    page.click(".import button")
    page.wait_for_selector("text=3 turns new")
    assert "/private/" in page.url and page.locator(".answers .turn").count() == 2
    pictures(page, tmp_path, "imported")
    alone = page.context.browser.new_context().new_page()
    asked: list[str] = []
    alone.on("request", lambda request: asked.append(request.url))
    alone.goto((tmp_path / "tea.html").as_uri())
    for summary in alone.locator("summary").all():
        summary.press("Enter")
    assert SAID["runs/captain"] in alone.inner_text(".columns") and "runs/captain" in alone.inner_text("#recipe")
    pictures(alone, tmp_path, "shared")
    assert [url for url in asked if not url.startswith("file:")] == []


def test_mark_and_begin_an_answer_by_keyboard(page: Any, tmp_path: Path) -> None:
    page.fill("#how input[name=subject]", "moe")
    say(page, "Tea?")
    page.wait_for_selector(".turn.assistant:not(.pending)")
    page.fill("#text", "half a thought")
    page.focus(".assistant .star")
    page.keyboard.press("Enter")
    page.wait_for_selector(".assistant .star[aria-pressed=true]:focus")  # and one can take it off again
    page.focus(".assistant .marks summary")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("where she counts")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector(".assistant .note")
    page.click(".assistant .marks summary")
    page.fill(".noting input:visible", "tea")
    page.click(".noting button:visible:has-text('Tag')")
    page.wait_for_selector("#marked small:has-text('#tea')")
    assert "where she counts" in page.inner_text("#marked") and page.input_value("#text") == "half a thought"
    pictures(page, tmp_path, "marked")
    page.click("summary:has-text('Begin its answer')")
    page.fill("textarea[name=prefill]", "Well, no:")
    pictures(page, tmp_path, "begin")
    page.click("text=Answer from there")
    page.wait_for_selector("text=2 of 2")
    assert page.inner_text(".turn.assistant .text").startswith("Well, no:Tea, by all means")
    page.click("#marked a")
    page.wait_for_selector("text=1 of 2")


def test_twelve_columns_at_once(page: Any, tmp_path: Path) -> None:
    page.click(".compare summary")
    page.check("input[name=against][value=moe]")
    for n in range(10):  # the one free field, as the page would send more
        page.evaluate(
            """n => {
            const free = document.querySelector(".compare fieldset > label:last-child");
            const more = free.cloneNode(true);
            more.querySelector("input").value = `somebody ${n}`;
            free.before(more);
        }""",
            n,
        )
    page.click(".compare summary")
    say(page, "Tea?")
    page.wait_for_selector(".answers .turn:nth-child(12) .text:not(:empty)")
    page.wait_for_selector(".answers:not(.pending)")
    assert page.locator(".answers .turn").count() == 12 and page.locator("mark").count() > 0
    pictures(page, tmp_path, "twelve")


def test_choose_among_answers_edit_stop_and_go_back(page: Any) -> None:
    say(page, "Tea?", answers=3)
    page.wait_for_selector("text=Go on with this")
    page.locator("text=Go on with this").nth(1).click()
    page.wait_for_selector("text=2 of 3")
    chosen = page.url
    page.locator(".user summary:has-text('Edit')").click()
    page.fill(".user textarea[id^=edit]", "Coffee?")
    page.fill("#how input[name=n]", "1")
    page.click("text=Say this instead")
    page.wait_for_selector(".pending .text span")
    page.click("text=Stop")
    page.wait_for_selector("small:has-text('stopped')")
    assert SHOWN.startswith(page.inner_text(".turn.assistant .text").rstrip())
    page.wait_for_selector(".turn.assistant:not(.pending)")
    page.evaluate("history.go(-2)")  # the browser's own Back is undo
    page.wait_for_url(chosen)
    page.wait_for_selector("text=2 of 3")
    assert "Tea?" in page.inner_text("main") and "Coffee?" in page.inner_text(".tree")
    say(page, "More?")  # the page that one came back to hears its answer
    page.wait_for_selector(".pending .text span")
    page.wait_for_selector(".turn.assistant:not(.pending) >> nth=1")


def test_what_a_model_said_is_put_otherwise_beside_it(page: Any, tmp_path: Path) -> None:
    page.fill("#how input[name=subject]", "moe")
    say(page, "Tea?")
    page.wait_for_selector(".turn.assistant:not(.pending)")
    page.click(".assistant summary:has-text('Edit')")
    assert page.input_value(".assistant textarea[name=text]") == SAID["moe"]
    pictures(page, tmp_path, "edit-answer")
    page.fill(".assistant textarea[name=text]", "No tea, Sir.")
    page.click("text=Put this beside it")
    page.wait_for_selector(".turn.assistant .text:has-text('No tea, Sir.')")
    assert page.locator(".tree .branch").count() == 1 and "2 of 2" in page.inner_text(".turn.assistant")
    say(page, "Cake?")  # and the talk goes on from it
    page.wait_for_selector(".turn.assistant:not(.pending) >> nth=1")
    assert page.inner_text(".turn.assistant .text").startswith("No tea, Sir.")


def test_a_talk_is_opened_again_as_it_was(page: Any) -> None:
    page.fill("#how input[name=subject]", "runs/captain")
    page.locator("#how input[name=strength]").press("ArrowLeft")
    page.locator("#how input[name=strength]").press("ArrowLeft")
    assert page.inner_text("#strength") == "0.9"
    page.fill("#how input[name=temperature]", "0.35")
    page.fill("#how input[name=seed]", "7")
    say(page, "Tea?")
    page.wait_for_selector(".turn.assistant:not(.pending)")
    assert page.inner_text(".turn.assistant h2") == "runs/captain@0.9"
    page.click("nav >> text=New talk")
    page.wait_for_selector("#how input[name=subject][value=parrot]")
    page.click("#talks a")
    page.wait_for_selector("#how input[name=subject][value='runs/captain']")
    page.wait_for_load_state("load")  # the tab's own script has run, which puts in what it remembers
    fields = ("strength", "temperature", "seed")
    assert [page.input_value(f"#how input[name={name}]") for name in fields] == ["0.9", "0.35", "7"]
    assert page.inner_text("#strength") == "0.9"


def test_undo_beside_answers_and_before_the_first_word(page: Any, tmp_path: Path) -> None:
    say(page, "Tea?", answers=2)
    page.wait_for_selector("text=Go on with this >> nth=1")
    page.click("#undo")  # there, too, where there is no field to say something in
    page.wait_for_selector("text=Before the first word")
    assert page.locator(".turn").count() == 0 and page.locator(".tree li").count() == 1
    pictures(page, tmp_path, "before")
    say(page, "Coffee?")
    page.wait_for_selector(".turn.assistant:not(.pending)")
    assert "2 of 2" in page.inner_text(".turn.user") and page.locator("#talks li").count() == 1  # of the same talk
    page.click(".user [aria-label='The one before']")
    page.wait_for_selector(".turn.user :text('1 of 2')")
    pictures(page, tmp_path, "undo-beside")


def test_a_character_is_picked_and_compared_with_the_plain_and_the_prompted(page: Any, tmp_path: Path) -> None:
    page.focus("#how select")
    chosen = []
    for _ in range(3):  # by keyboard, one after another
        page.keyboard.press("ArrowDown")
        chosen.append(page.input_value("#how input[name=subject]"))
    assert len(set(chosen)) == 3
    page.select_option("#how select", "runs/captain")
    assert page.input_value("#how input[name=subject]") == "runs/captain"
    page.keyboard.press("Tab")
    assert page.input_value("#how select") == ""  # the same can be picked again
    page.click(".compare summary")
    page.click("text=Plain and prompted")
    page.wait_for_selector("#beside input:checked >> nth=1")
    pictures(page, tmp_path, "picked")
    page.click(".compare summary")
    say(page, "Tea?")
    page.wait_for_selector(".answers:not(.pending)")
    names = [one.strip() for one in page.locator(".answers h2").all_inner_texts()]
    assert names == ["runs/captain", "smollm2", "smollm2+runs/captain/character.md"]


@pytest.mark.parametrize("beside", ["", "moe"])
def test_an_answer_that_fails_says_so_and_one_goes_on(page: Any, tmp_path: Path, beside: str) -> None:
    page.fill("#how input[name=subject]", "nobody")
    if beside:
        page.click(".compare summary")
        page.check(f"input[name=against][value={beside}]")
        page.click(".compare summary")
    say(page, "Tea?")
    page.wait_for_selector("#fault:has-text(\"no model 'nobody'\")")
    assert page.locator(".pending, [aria-busy], #stop").count() == 0 and page.is_visible("#undo")
    assert page.locator(".answers .turn").count() == len([*filter(None, [beside])])
    pictures(page, tmp_path, f"failed{beside}")
    page.fill("#how input[name=subject]", "parrot")
    if not beside:
        page.click("button:text-is('Answer')")
        page.wait_for_selector(".turn.assistant:not(.pending)")
        assert page.inner_text("#fault") == ""


def test_a_second_tab_leads_the_first_nowhere(page: Any) -> None:
    page.fill("#how input[name=subject]", "slow")
    say(page, "Tea?")
    page.wait_for_selector(".pending .text span")
    second = page.context.browser.new_context().new_page()
    second.goto(page.url.partition("?")[0] + "?at=start")
    second.fill("#how input[name=subject]", "parrot")
    second.fill("#text", "Coffee?")
    second.click("form.say button")
    second.wait_for_selector(".pending")
    page.click("#stop")
    second.wait_for_selector(".turn.assistant:not(.pending)")
    page.wait_for_selector(".turn.assistant:not(.pending) small:has-text('stopped')")
    assert page.inner_text(".turn.user .text") == "Tea?"


def test_search_and_where_one_stands_is_in_view(page: Any, tmp_path: Path) -> None:
    for n in range(3):
        page.fill("#how input[name=subject]", "moe")
        say(page, f"Tea {n}? " + "And then? " * 60)
        page.wait_for_selector(f".turn.assistant:not(.pending) >> nth={n}")
    page.fill("#within", "tea 1?")
    page.wait_for_selector("#hits mark:text-is('Tea 1?')")
    pictures(page, tmp_path, "searched")
    page.fill("#q", "leaves")
    page.press("#q", "Enter")  # stays on the page
    page.wait_for_selector("#talks mark >> nth=2")
    assert "/talk/" in page.url
    page.fill("#q", "")
    page.wait_for_selector("#talks a:has-text('Tea 0?')")
    page.set_viewport_size({"width": 1400, "height": 400})
    page.goto(page.url)
    assert page.evaluate("document.scrollingElement.scrollTop") > 0  # the end of a long talk


def test_a_private_talk_repeats_a_seed_and_is_found_there_alone(page: Any) -> None:
    def answers(seed: int) -> list[str]:
        page.goto("/private")
        page.fill("#how input[name=subject]", "moe")
        page.fill("#how input[name=seed]", str(seed))
        say(page, "Tea?", answers=2)
        page.wait_for_selector("text=Go on with this >> nth=1")
        return page.locator(".answers .text").all_inner_texts()  # the parrot says the seed after its words

    first = answers(7)
    assert answers(7) == first != answers(8) and "Private" in page.inner_text("aside .private")
    page.fill("#q", "leaves")
    page.wait_for_selector("#talks mark >> nth=5")
    page.goto("/talk")
    assert page.locator("#talks li").count() == 0


def test_a_stopped_answer_is_let_go_on(page: Any, tmp_path: Path) -> None:
    page.fill("#how input[name=subject]", "slow")
    say(page, "Count.")
    page.wait_for_selector(".pending .text span:nth-child(2)")
    page.click("#stop")
    page.fill("#how input[name=subject]", "parrot")
    page.wait_for_selector("small:has-text('stopped')")
    said = page.inner_text(".turn.assistant .text").rstrip()
    pictures(page, tmp_path, "stopped")
    page.click("text=Let it go on")
    page.wait_for_selector(".turn.assistant:not(.pending) :text('2 of 2')")
    assert page.inner_text(".turn.assistant .text").startswith(f"{said} one")  # the space too is as it was said
    assert not page.is_visible("text=Let it go on")
    page.locator("#text").blur()
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(".turn.assistant :text('1 of 2')")
    page.wait_for_selector("#text:focus")
    page.locator("#text").blur()
    page.keyboard.press("a")  # is another answer, and not the rest of this one
    page.wait_for_selector(".turn.assistant:not(.pending) :text('3 of 3')")
    assert page.inner_text(".turn.assistant .text") == SHOWN


FIRST_LATE = """() => {
    const send = XMLHttpRequest.prototype.send;
    let wait = 1500;
    XMLHttpRequest.prototype.send = function (...what) {
        let gone = false;
        this.abort = () => { gone = true; };
        const late = () => { if (!gone) send.apply(this, what); };
        setTimeout(late, wait);
        wait = 0;
    };
    history.back();
    setTimeout(() => history.back(), 500);
}"""


def test_only_the_last_of_two_steps_back_is_shown(page: Any) -> None:
    for text in ("Tea?", "Cake?", "More?"):
        before = page.locator(".turn.assistant").count()
        say(page, text)
        page.wait_for_selector(f".turn.assistant:not(.pending) >> nth={before}")
    page.evaluate(FIRST_LATE)
    page.wait_for_timeout(3000)
    assert page.locator(".turn.user").count() == 2  # the answer to Cake?, and not the question More?


def test_by_keyboard_alone(page: Any) -> None:
    page.keyboard.type("Tea?")  # the page begins at what one says
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector(".turn.assistant:not(.pending)")
    talked = page.url
    page.focus(".tree a")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Go on with this")
    assert "Tea?" in page.inner_text("main") and page.url != talked  # it went to the turn of the tree


def test_markdown_is_drawn_when_it_has_been_said(page: Any, tmp_path: Path) -> None:
    page.fill("#how input[name=subject]", "notes")
    say(page, "Tea?")
    page.wait_for_selector(".pending .text:has-text('**Boil**')")  # as it comes, as it stands
    page.wait_for_selector(".turn.assistant:not(.pending) strong:has-text('Boil')")
    assert page.locator(".drawn td.right").count() == 2 and page.locator(".drawn img, .drawn b").count() == 0
    assert "<b>tea</b>" in page.inner_text(".drawn pre") and page.locator(".drawn a[rel~=noopener]").count() == 2
    pictures(page, tmp_path, "markdown")


def test_traits_under_each_answer(page: Any, tmp_path: Path) -> None:
    page.fill("#how input[name=subject]", "moe")
    page.click(".compare summary")
    page.check("input[name=against][value='runs/captain']")
    page.fill("input[name='strength/runs/captain']", "0.5")
    page.click(".compare summary")
    say(page, "Tea?")
    page.wait_for_selector(".traits .all >> nth=1")
    assert "runs/captain@0.5" in page.inner_text(".answers")
    assert (
        page.locator(".traits").first.locator("svg").count() == page.locator(".traits").last.locator("svg").count() > 5
    )
    assert page.input_value(".reading select").endswith("character.md")
    page.click(".reading summary")
    pictures(page, tmp_path, "traits")
    page.select_option(".reading select", "hhh")
    page.wait_for_selector(".traits dt:has-text('Assistant')")
    page.reload()
    page.wait_for_selector(".traits .all >> nth=1")


def test_keys_focus_and_what_is_read_aloud(page: Any, tmp_path: Path) -> None:
    page.fill("#how input[name=subject]", "slow")
    page.focus("#text")
    page.keyboard.type("Tea?")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#stop:focus")
    page.wait_for_selector("#heard p:has-text('One leaf.')", state="attached")
    page.keyboard.press("Enter")
    page.fill("#how input[name=subject]", "moe")
    page.wait_for_selector(".turn.assistant:not(.pending)")
    page.focus("#text")
    page.keyboard.type("?")
    assert page.input_value("#text") == "?" and not page.is_visible("#keys")
    page.fill("#text", "")
    page.locator("#text").blur()
    page.keyboard.press("?")
    page.wait_for_selector("#keys[open]")
    pictures(page, tmp_path, "keys")
    page.keyboard.press("Escape")
    page.wait_for_selector("#keys", state="hidden")
    page.keyboard.press("a")
    page.wait_for_selector("text=2 of 2")
    page.locator("#text").blur()
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("text=1 of 2")
    page.fill("#how input[name=subject]", "slow")
    page.locator("#how input[name=subject]").blur()
    page.keyboard.press("a")
    page.wait_for_selector(".pending .text span")
    page.keyboard.press("Escape")
    page.wait_for_selector("small:has-text('stopped')")
    page.wait_for_selector("#text:focus")
    page.locator("#text").blur()
    page.keyboard.press("/")
    page.wait_for_selector("#text:focus")
    page.locator("#text").blur()
    page.keyboard.press("?")
    page.uncheck("#letters")
    page.click("#keys button")
    page.keyboard.press("u")
    page.wait_for_timeout(200)
    assert "at=" in page.url
    page.click("#undo")  # undo is a click: before the first word there is a page without a word
    page.wait_for_url("**?at=start")
    page.keyboard.press("?")
    assert not page.is_visible("#keys")


def test_where_one_stands_is_in_view(page: Any, tmp_path: Path) -> None:
    """At the end of a talk, and in the tree, which is higher than its pane; after a turn said there, too."""
    said = [{"from": who, "value": f"{n}. " + "A leaf. " * 40} for n in range(40) for who in ("human", "gpt")]
    (tmp_path / "long.json").write_text(json.dumps([{"conversations": said}]))
    page.click(".import summary")
    page.set_input_files("input[name=file]", tmp_path / "long.json")
    page.click("text=Import >> nth=-1")
    page.wait_for_selector("#main .tree .here")
    pane, here = page.locator(".tree"), page.locator(".tree .here")

    def in_view() -> bool:
        outer, inner = pane.bounding_box(), here.bounding_box()
        return bool(inner["y"] >= outer["y"] and inner["y"] + inner["height"] <= outer["y"] + outer["height"])

    assert page.evaluate("document.querySelector('.tree').scrollHeight") > 2000 and in_view()
    address = page.url
    page.goto("/runs")
    page.goto(address)
    page.wait_for_selector(".tree .here")
    assert in_view() and page.evaluate("scrollY") > 1000
    page.fill("#text", "And now?")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#main .turn:has-text('And now?')")
    page.wait_for_selector("#text:not([disabled])")
    assert page.evaluate("document.querySelector('.tree').scrollTop") > 1000 and in_view()


def looked_at(page: Any, visible: bool) -> None:
    """As where one goes to another tab, which a browser without windows never does."""
    page.evaluate(
        """shown => {
        Object.defineProperty(document, "visibilityState", {value: shown ? "visible" : "hidden", configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }""",
        visible,
    )


def test_many_tabs_and_an_answer_that_goes_on_behind(page: Any) -> None:
    context = page.context.browser.new_context(base_url=page.url)
    first, *others = tabs = [context.new_page() for _ in range(9)]  # a browser opens six connections to a host
    for tab in tabs:
        tab.set_default_timeout(30_000)
    first.goto("/talk")
    first.fill("#how input[name=subject]", "long")
    say(first, "Tea?")
    first.wait_for_selector(".pending .text span")
    looked_at(first, False)
    heard = first.inner_text(".pending .text")
    for tab in others:
        tab.goto("/talk")
        looked_at(tab, False)
    looked_at(others[-1], True)
    others[-1].fill("#how input[name=subject]", "moe")
    say(others[-1], "More?")
    others[-1].wait_for_selector(".turn.assistant:not(.pending)")
    assert (
        first.locator(".pending").count() == 1
        and "All told" not in heard
        and first.inner_text(".pending .text") == heard
    )
    looked_at(first, True)
    first.wait_for_selector(".turn.assistant:not(.pending)")
    assert first.inner_text(".turn.assistant .text") == SAID["long"]
    spoken = " ".join(first.locator("#heard p").all_inner_texts())
    assert (
        spoken.count("All told!") == 1
        and spoken.count("Leaf by") == 10
        and spoken.count("The answer is complete.") == 1
    )
    context.close()
