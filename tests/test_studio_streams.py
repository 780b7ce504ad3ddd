"""One stream of events a page: twelve columns come through it, and fifty readers hear all of it."""

import asyncio
import re

import httpx
import pytest

pytest.importorskip("fastapi")

from charactery.studio import Desk
from conversing import Parrot
from test_studio import PAGE, ask, desk, events, job_in, parrot, served, settle, studio

__all__ = ["desk", "parrot", "studio"]  # fixtures


def test_twelve_columns_come_whole_through_the_one_stream_of_their_page(studio: httpx.Client, desk: Desk) -> None:
    desk.voice = lambda how: Parrot(f"Tea, says {how.subject}.", subject=how.subject)
    names = ["parrot", *(f"model {n}" for n in range(11))]
    job, _ = ask(studio, text="Tea?", against=names[1:])
    told = events(studio, "done-")
    settle(desk)
    for n, subject in enumerate(names):
        pieces = [data for _, name, data in told if name == f"piece-{job}-{n}"]
        assert f"Tea, says {subject}." in re.sub("<.*?>", "", "".join(pieces)), n
    assert [int(number) for number, _, _ in told] == [*range(1, len(told) + 1)]


def test_fifty_readers_of_the_server_hear_every_event(desk: Desk, parrot: Parrot) -> None:
    parrot.words = " ".join(f"w{n}" for n in range(60))

    async def read(client: httpx.AsyncClient, ready: list[int]) -> list[tuple[str, str]]:
        heard: list[tuple[str, str]] = []
        async with client.stream("GET", f"/events/{PAGE}") as answer:
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if line.startswith(":"):
                    ready.append(1)
                elif name in ("id", "event"):
                    heard.append((name, value))
                    if value.startswith("done-"):
                        break
        return heard

    async def all_read(address: str) -> list[list[tuple[str, str]]]:
        async with httpx.AsyncClient(base_url=address, timeout=60, limits=httpx.Limits(max_connections=60)) as client:
            key = re.search(r'"X-Charactery": "([^"]+)"', (await client.get("/talk")).text)
            assert key is not None
            client.headers["X-Charactery"] = key[1]
            ready: list[int] = []
            readers = [asyncio.create_task(read(client, ready)) for _ in range(50)]
            while len(ready) < 50:
                await asyncio.sleep(0.01)
            said = await client.post("/talk/say", data={"page": PAGE, "subject": "parrot", "text": "Count."})
            await client.post(f"/answers/{job_in(said.text)}/start")
            return await asyncio.gather(*readers)

    with served(desk) as address:
        heard = asyncio.run(asyncio.wait_for(all_read(address), 120))
    assert len(heard) == 50 and all(one == heard[0] for one in heard)
    assert [value for name, value in heard[0] if name == "id"] == [str(n) for n in range(1, 62)]
