"""Every page as axe, the field's checker of accessibility, finds it: dark and light, on a phone and at a desk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright")
pytest.importorskip("axe_playwright_python")
from axe_playwright_python.sync_playwright import Axe

from charactery.report import write_report
from charactery.runs import write_json
from report_fixture import build_run
from test_studio_browser import CHROMIUM, page, say

__all__ = ["page"]  # a fixture
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
GRAVE = ("serious", "critical")


def grave_faults(page: Any) -> list[tuple[object, ...]]:
    """What on the page keeps anybody from using it, at both widths in both schemes.

    What a report says inside its frame has its own tests.
    """
    found = set()
    for width in (1400, 390):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            for fault in Axe().run(page, options={"iframes": False}).response["violations"]:
                if fault["impact"] in GRAVE:
                    where = tuple(
                        f"{' '.join(node['target'])}: {node['failureSummary']}" for node in fault["nodes"][:3]
                    )
                    found.add((width, scheme, fault["id"], where))
    page.set_viewport_size({"width": 1400, "height": 900})
    return sorted(found)


def test_talk_tree_and_share(page: Any) -> None:
    assert grave_faults(page) == []
    page.fill("#how input[name=subject]", "notes")
    say(page, "Tea?", answers=2)
    page.wait_for_selector("text=Go on with this")
    assert grave_faults(page) == []
    page.locator("text=Go on with this").first.click()
    page.wait_for_selector("text=1 of 2")
    page.click(".assistant .star")
    page.wait_for_selector(".assistant .star[aria-pressed=true]")
    for summary in page.locator("main summary, aside summary").all():
        summary.click()
    page.fill(".assistant .noting input[name=text]", "where she counts")
    page.click(".assistant .noting button:has-text('Tag')")
    page.wait_for_selector("#marked small:has-text('#where')")
    page.click("text=As markdown")
    page.wait_for_selector("#as-markdown")
    page.fill("#q", "Tea")
    page.wait_for_selector("#talks a:has-text('Tea?')")
    assert grave_faults(page) == []
    page.fill("#how input[name=n]", "1")
    page.fill("#how input[name=subject]", "slow")
    page.fill("#text", "More?")
    page.click("form.say button")
    page.wait_for_selector(".pending .text span")
    assert grave_faults(page) == []
    page.click("#stop")
    page.wait_for_selector(".turn.assistant:not(.pending) >> nth=1")


def test_compare_blind_and_votes(page: Any) -> None:
    page.fill("#how input[name=subject]", "moe")
    page.click(".compare summary")
    page.check("input[name=against][value='runs/captain']")
    page.check("input[name=blind]")
    assert grave_faults(page) == []
    page.click(".compare summary")
    say(page, "Tea?")
    page.wait_for_selector("button:has-text('A is better')")
    assert grave_faults(page) == []
    page.click("button:has-text('B is better')")
    page.wait_for_selector(".traits .all >> nth=1")
    page.click(".reading summary")
    assert grave_faults(page) == []
    page.goto("/talk/votes")
    assert grave_faults(page) == []
    page.goto("/talk")
    page.keyboard.press("Escape")
    page.locator("#text").blur()
    page.keyboard.press("?")
    page.wait_for_selector("#keys[open]")
    assert grave_faults(page) == []


def test_write_and_train(page: Any) -> None:
    page.goto("/write")
    assert grave_faults(page) == []
    page.goto("/write?from=detective")
    assert grave_faults(page) == []
    page.fill("#text", page.input_value("#text").replace("---\n", "--\n", 1))
    page.wait_for_selector("#findings .fault")
    assert grave_faults(page) == []
    page.goto("/train?character=captain")
    page.wait_for_selector("#command")
    assert grave_faults(page) == []


@pytest.fixture
def finished(page: Any) -> Iterator[None]:
    """A run with a report, and one that broke off, beside the page's."""
    run = build_run(Path("runs/good"))
    write_report(run, run.folder)
    write_json(run.stage_folder("report") / "done", {"seconds": 1, "peak_mb": 1})
    build_run(Path("runs/torn"))
    Path("runs/torn/manifest.json").write_text("{")
    return


def test_runs(page: Any, finished: None) -> None:
    for address in ("/runs", "/runs/good", "/runs/torn", "/runs/captain"):
        page.goto(address)
        for summary in page.locator("main summary").all():
            summary.click()
        assert grave_faults(page) == []


def test_what_did_not_work(page: Any) -> None:
    page.route("**/nowhere", lambda route: route.fulfill(response=route.fetch(), status=200))  # no fault of the page's
    page.goto("/nowhere")
    assert "there is no place 'nowhere'" in page.inner_text("main")
    assert grave_faults(page) == []
