"""The studio with the embedded model in a real browser: talk, fork, compare plain against prompted, share."""

from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright")
from playwright.sync_api import sync_playwright

from charactery.cli.studio import _voices
from charactery.conversations import private_store
from charactery.models.speaker import Models
from charactery.studio import Desk
from test_studio import served
from test_studio_browser import CHROMIUM, FLAGS, pictures, say

pytestmark = [
    pytest.mark.smollm2,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
ASKED = "How do I tie a knot that will hold?"


def test_talk_fork_compare_and_share(tmp_path: Path) -> None:
    desk = Desk(private_store(), _voices(Models("cpu")), ["smollm2+captain", "smollm2"])
    with served(desk) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 900}, base_url=address)
        page.set_default_timeout(240_000)
        page.goto("/")
        page.fill("#how input[name=max_tokens]", "24")
        say(page, ASKED)
        page.wait_for_selector(".turn.assistant:not(.pending)")
        first = page.inner_text(".turn.assistant .text")
        assert len(first) > 20 and page.inner_text(".turn.assistant h2").startswith("smollm2+captain")
        # fork: the same question put otherwise, beside the first
        page.click("summary:has-text('Edit')")
        page.fill("textarea[id^=edit]", "What do you fear most?")
        page.click("text=Say this instead")
        page.wait_for_selector(".turn.user:has-text('fear most')")
        page.wait_for_selector(".turn.assistant:not(.pending)")
        assert page.inner_text(".turn.assistant .text") != first and page.locator(".tree .branch").count() == 1
        page.click(".tree .branch a")
        page.wait_for_selector(f".turn.user .text:has-text('{ASKED}')")  # the tree has it too
        assert page.inner_text(".turn.assistant .text") == first  # nothing of it was lost
        # compare: the plain model and the prompted one, from one seed
        page.click(".compare summary")
        page.check("input[name=against][value=smollm2]")
        page.click(".compare summary")
        page.click("text=Answer again")
        # not the one answer that the page has of this turn before
        page.wait_for_selector(".answers:not(.pending) > .turn:nth-of-type(2)")
        told = dict(zip(
            [name.split("\n")[0].strip() for name in page.locator(".answers h2").all_inner_texts()],
            page.locator(".answers .text").all_inner_texts(), strict=True,
        ))  # fmt: skip
        names = [name.removesuffix(" cut off") for name in told]
        assert names == ["smollm2+captain", "smollm2"], names
        prompted, plain = told.values()
        assert prompted != plain and page.locator(".answers mark").count() > 0
        pictures(page, tmp_path, "smollm2")
        page.click(".share summary")
        with page.expect_download() as saved:
            page.click("button:has-text('Page alone')")
        saved.value.save_as(tmp_path / "shared.html")
        page.goto((tmp_path / "shared.html").as_uri())
        shown = page.inner_text("body")
        assert ASKED in shown and plain in shown and prompted in shown
        browser.close()
