"""The studio in Chromium: how soon a first word is there, twelve columns, fifty readers, a tree of 20,000 turns.

    python benchmarks/studio.py [--row NAME] [--rounds N] [--store postgresql://…]

Writes benchmarks/STUDIO.md and studio.json (`make bench-studio`). A real server on a free port, the system's Chromium
by Playwright; `first word` takes the embedded model, the others a model that says what it is told. A row that is asked
for alone is put among those that are there.
"""

import argparse
import asyncio
import json
import re
import shutil
import socket
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from playwright.sync_api import Page, sync_playwright

from charactery.conversations import Node, Tree, Voice, open_store, private_store, put, search
from charactery.conversations.formats import export_file, import_file
from charactery.studio import Desk, create_app
from charactery.studio.desk import How

HERE = Path(__file__).parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
DEPTH, FAN, TURNS = 500, 50, 20_000
COLUMNS, READERS, WORDS = 12, 50, 400


@dataclass(frozen=True)
class Row:
    """What was measured. `value` and `wanted` are in `unit`; `met` says whether it is reached."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    wanted: str
    met: bool
    about: str
    when: str = ""


@dataclass(frozen=True)
class Said:
    """An answer of the scripted model."""

    text: str
    ended: bool = True
    error: str = ""


@dataclass
class Script:
    """A model that says numbered words."""

    subject: str
    words: int = WORDS
    pause: float = 0.0
    weights: str = "0" * 16

    @property
    def sampler(self) -> dict[str, Any]:
        return {"temperature": 0.0}

    def prompt(self, messages: Sequence[Any], prefill: str = "") -> str:
        return str(list(messages))

    def answer(
        self, messages: Sequence[Any], seeds: Sequence[int], on_text: Callable[[str], None], prefill: str = ""
    ) -> list[Said]:
        for n in range(self.words):
            on_text(f"w{n} ")
            time.sleep(self.pause)
        return [Said("".join(f"w{n} " for n in range(self.words)).strip()) for _ in seeds]


@contextmanager
def served(desk: Desk) -> Iterator[str]:
    """The studio on a free port."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(desk), log_level="critical", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


@contextmanager
def browsed(desk: Desk) -> Iterator[Page]:
    """A page on the studio."""
    with served(desk) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 900}, base_url=address)
        page.set_default_timeout(300_000)
        page.goto("/talk")
        yield page
        browser.close()


def row(name: str, values: Sequence[float], unit: str, wanted: str, met: bool, about: str) -> Row:
    """A row of the table: the median of the values, and their range."""
    when = datetime.now(UTC).date().isoformat()
    return Row(name, statistics.median(values), min(values), max(values), unit, wanted, met, about, when)


def timed(work: Callable[[], object], rounds: int) -> list[float]:
    """Seconds of each round."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return seconds


# -- the first word

FIRST_WORD = """() => new Promise(done => {
    const began = performance.now();
    new MutationObserver((_, seen) => {
        if (!document.querySelector(".pending .text span")) return;
        seen.disconnect();
        done((performance.now() - began) / 1000);
    }).observe(document.body, {childList: true, subtree: true});
    document.querySelector("form.say button").click();
})"""


def first_word(rounds: int, subject: str) -> Row:
    """From the click on Say to the first word on the page, over what the engine alone takes to its first token."""
    from charactery.models.chat import user
    from charactery.models.local import Sampler
    from charactery.models.speaker import Models
    from charactery.models.subject import parse_subject
    from charactery.models.voice import SpeakerVoice

    models = Models("cpu")

    def voice(how: How) -> Voice:
        return SpeakerVoice(models.speaker(parse_subject(how.subject)), Sampler(how.max_tokens, how.temperature))

    def engine(text: str, seed: int) -> float:
        began, first = time.perf_counter(), []
        asked = voice(How(subject, max_tokens=8))
        asked.answer([user(text)], [seed], lambda piece: first.append(time.perf_counter() - began))
        return float(first[0])

    alone, shown = [], []
    with browsed(Desk(private_store(), voice, [subject])) as page:
        for n in range(rounds + 1):  # the first of both is to warm up
            text = f"What would you take along on a long walk in the rain, and why? ({n})"
            page.goto("/talk")
            page.fill("#how input[name=max_tokens]", "8")
            page.fill("#text", text)
            page.wait_for_timeout(300)
            shown.append(float(page.evaluate(FIRST_WORD)))
            page.wait_for_selector(".turn.assistant:not(.pending)")
            alone.append(engine(text, n))
    ratios = [there / here for there, here in zip(shown[1:], alone[1:], strict=True)]
    about = (
        f"{subject}, a first turn of one sentence: click to first word {statistics.median(shown[1:]):.3f} s, the "
        f"engine to its first token {statistics.median(alone[1:]):.3f} s, in turn, {rounds} rounds"
    )
    return row(f"first word, {subject}", ratios, "times the engine's own", "at most 1.5",
               statistics.median(ratios) <= 1.5, about)  # fmt: skip


# -- columns and readers


def columns(rounds: int) -> Row:
    """Twelve Subjects answer one question: every word of each is there, and the page opened one stream."""
    desk = Desk(private_store(), lambda how: Script(how.subject), [f"model {n}" for n in range(COLUMNS)])
    seconds, streams, whole = [], [], []
    with browsed(desk) as page:
        page.on("request", lambda request: streams.append(request.url) if "/events/" in request.url else None)
        for n in range(rounds):
            streams.clear()
            page.goto("/talk")
            page.click(".compare summary")
            for k in range(1, COLUMNS):
                page.check(f"input[name=against][value='model {k}']")
            page.fill("#text", f"Count. {n}")
            began = time.perf_counter()
            page.click("form.say button")
            page.wait_for_selector(".answers:not(.pending)")
            seconds.append(time.perf_counter() - began)
            texts = page.locator(".answers .text").all_inner_texts()
            own = page.get_attribute("body", "sse-connect") or "none"
            said = len(texts) == COLUMNS and {text.count("w") for text in texts} == {WORDS}
            whole.append(said and [own in url for url in streams].count(True) == 1)
    about = f"{COLUMNS} columns of {WORDS} words; all of them and one request for events in {sum(whole)} of {rounds}"
    return row("twelve columns", seconds, "s until all are whole", "one stream", all(whole), about)


def readers(rounds: int) -> Row:
    """Fifty readers of one page hear every piece, in order."""
    desk = Desk(private_store(), lambda how: Script(how.subject, WORDS, 0.001), ["script"])

    async def read(client: httpx.AsyncClient, page: str, ready: list[int]) -> list[str]:
        heard, name = [], ""
        async with client.stream("GET", f"/events/{page}") as answer:
            async for line in answer.aiter_lines():
                if line == ": here":
                    ready.append(1)
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                if line.startswith("data: ") and name.startswith("piece-"):
                    heard.append(re.sub("<.*?>", "", line.removeprefix("data: ")).strip())
                if line == "" and name.startswith("done-"):
                    return heard
        return heard

    async def round(address: str) -> tuple[float, int]:
        limits = httpx.Limits(max_connections=READERS + 5)
        async with httpx.AsyncClient(base_url=address, timeout=300, limits=limits) as client:
            key = re.search(r'"X-Charactery": "([^"]+)"', (await client.get("/talk")).text)
            assert key
            client.headers["X-Charactery"] = key[1]
            page, ready = str(uuid.uuid4()), list[int]()
            listening = [asyncio.create_task(read(client, page, ready)) for _ in range(READERS)]
            while len(ready) < READERS:
                await asyncio.sleep(0.01)
            said = await client.post("/talk/say", data={"page": page, "subject": "script", "text": "Count."})
            job = re.search(r"/answers/([0-9a-f-]{36})/start", said.text)
            assert job, said.text
            began = time.perf_counter()
            await client.post(f"/answers/{job[1]}/start")
            heard = await asyncio.gather(*listening)
            wanted = [f"w{n}" for n in range(WORDS)]
            return time.perf_counter() - began, sum(one != wanted for one in heard)

    with served(desk) as address:
        done = [asyncio.run(round(address)) for _ in range(rounds)]
    short = sum(lost for _, lost in done)
    about = f"{READERS} connections to one page's events, {WORDS} pieces each, {short} of {READERS * rounds} lacked one"
    return row("fifty readers", [seconds for seconds, _ in done], "s until all have all", "no event dropped",
               short == 0, about)  # fmt: skip


# -- a large tree


def large() -> Tree:
    """A line of DEPTH turns, with FAN answers beside each of the first ones."""
    ids = [str(uuid.uuid4()) for _ in range(TURNS)]
    roles, words = ("user", "assistant"), "the sea was calm that night and the stars stood still "
    nodes = [
        Node(ids[n], ids[n - 1] if 0 < n < DEPTH else None if n == 0 else ids[(n - DEPTH) // FAN],
             roles[n % 2] if n < DEPTH else "assistant", words * 5 + str(n), float(n))
        for n in range(TURNS)
    ]  # fmt: skip
    return Tree(str(uuid.uuid4()), "large", 0.0, tuple(nodes))


SCROLL = """pane => new Promise(done => {
    const main = document.querySelector(pane), frames = [];
    main.scrollTop = 0;
    let at = performance.now(), left = 60;
    const step = now => {
        frames.push(now - at);
        at = now;
        main.scrollTop += 400;
        if (--left) requestAnimationFrame(step); else done([Math.max(...frames.slice(1)) / 1000, main.scrollTop]);
    };
    requestAnimationFrame(step);
})"""


def tree(rounds: int, place: str | None) -> list[Row]:
    """A tree of 20,000 turns in the store, and opened in the browser at its deepest turn."""
    told = []

    def kept(name: str, work: Callable[[], object], rounds: int = rounds) -> None:
        seconds = timed(work, rounds)
        told.append(f"{name} {statistics.median(seconds):.2f} s")

    with tempfile.TemporaryDirectory() as name:
        folder, whole = Path(name), large()
        place = place or str(folder / "talks.db")
        store = open_store(place)
        kept("written", lambda: put(store, whole), rounds=1)
        kept("all first letters", lambda: open_store(place).glimpses(whole.id))
        kept("everything", lambda: open_store(place).tree(whole.id))
        kept("a path of 500", lambda: store.path(whole.nodes[DEPTH - 1].id))
        kept("the 51 answers to a turn", lambda: store.children(whole.id, whole.nodes[1].id))
        kept("a search", lambda: search(store, "CALM THAT NIGHT and the stars stood still 19999"))
        export_file([whole], folder / "out.jsonl")
        kept("imported again", lambda: import_file(store, folder / "out.jsonl"), rounds=1)
        deep, shallow = (f"/talk/{whole.id}?at={whole.nodes[n].id}" for n in (DEPTH - 1, 5))
        opened: dict[str, list[float]] = {deep: [], shallow: []}
        gaps = []
        with browsed(Desk(store, lambda how: Script(how.subject), ["script"])) as page:
            for _ in range(rounds):
                for where, seconds in opened.items():
                    began = time.perf_counter()
                    page.goto(where)
                    page.wait_for_selector(".tree .here")
                    seconds.append(time.perf_counter() - began)
                page.goto(f"{deep}&whole=1")
                page.wait_for_selector(".tree .here")
                for pane in ("html", ".tree"):
                    gap, down = page.evaluate(SCROLL, pane)
                    assert down > 10_000, (pane, down)
                    gaps.append(float(gap))
            lines = page.locator(".tree li").count()
    at_deep, at_shallow = (statistics.median(seconds) for seconds in opened.values())
    about = (
        f"{TURNS:,} turns, depth {DEPTH}, {FAN} beside each of the first; at the deepest turn (its last 60 turns and "
    )
    about += (
        f"{lines} lines of the tree on the page); near the root {at_shallow:.2f} s. In the store: {', '.join(told)}"
    )
    return [
        row("a tree opens", opened[deep], "s to the page with its tree", "less than 2", at_deep < 2, about),
        row("and scrolls", gaps, "s, the longest frame of 60", "smoothly", statistics.median(gaps) < 0.1,
            "the page with all 500 turns, and then the tree beside it, 400 pixels a frame"),
    ]  # fmt: skip


def page_of(rows: Sequence[Row]) -> str:
    """STUDIO.md."""
    head = "| what | measured | range | wanted | met |\n|---|---|---|---|---|"
    lines = [
        f"| {one.name} | **{one.value:.2f}** {one.unit} | {one.low:.2f} to {one.high:.2f} | {one.wanted} | "
        f"{'yes' if one.met else 'no'} |"
        for one in rows
    ]
    told = [f"**{one.name}**: {one.about}. {one.when}." for one in rows]
    intro = "Written by `make bench-studio`: a real server, the system's Chromium, medians; `studio.json` has the same."
    return "\n\n".join(["# The studio's speed", intro, "\n".join([head, *lines]), *told]) + "\n"


def main() -> None:
    names = ("first word", "columns", "readers", "tree")
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--row", choices=names)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--subject", nargs="+", default=["smollm2", "smollm2+captain"], help="who says the first word")
    asked.add_argument("--store", help="the tree's store; else a new SQLite file")
    given = asked.parse_args()
    rows: list[Row] = []
    for name in [given.row] if given.row else names:
        if name == "first word":
            rows += [first_word(given.rounds, subject) for subject in given.subject]
        elif name == "tree":
            rows += tree(given.rounds, given.store)
        else:
            rows.append(columns(given.rounds) if name == "columns" else readers(given.rounds))
        print(*rows[-2:], sep="\n")
    kept = HERE / "studio.json"
    before = [Row(**one) for one in json.loads(kept.read_text())] if kept.exists() else []
    fresh = {one.name: one for one in rows}
    rows = [fresh.pop(one.name, one) for one in before] + list(fresh.values())
    kept.write_text(json.dumps([asdict(one) for one in rows], indent=1, ensure_ascii=False) + "\n")
    (HERE / "STUDIO.md").write_text(page_of(rows))


if __name__ == "__main__":
    main()
