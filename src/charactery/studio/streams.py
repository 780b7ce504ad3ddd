"""What the server tells a page: one stream of events a page, in order, none lost while a reader is away."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator

KEPT, PAGES = 20_000, 500  # events of a page that a reader who comes back is told; pages that are remembered
QUIET = 15  # seconds without an event after which the connection is shown to be alive

Event = tuple[int, str, str]  # number, name, data


class Page:
    """The events of one page. Reading begins after the last one a reader has had."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque(maxlen=KEPT)
        self.count = 0
        self.readers: set[asyncio.Queue[Event]] = set()

    def add(self, name: str, data: str) -> None:
        """Tell all readers. For the event loop's thread."""
        self.count += 1
        event = (self.count, name, data)
        self.events.append(event)
        for reader in self.readers:
            reader.put_nowait(event)

    async def read(self, after: int) -> AsyncIterator[str]:
        """Events as they are sent, and a comment where nothing happens for a while."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        for event in self.events:
            if event[0] > after:
                queue.put_nowait(event)
        self.readers.add(queue)
        try:
            yield ": here\n\n"
            while True:
                try:
                    yield sent(await asyncio.wait_for(queue.get(), QUIET))
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            self.readers.discard(queue)


def sent(event: Event) -> str:
    """An event in the form of server-sent events."""
    number, name, data = event
    lines = "".join(f"data: {line}\n" for line in data.replace("\r", "").split("\n"))
    return f"id: {number}\nevent: {name}\n{lines}\n"


class Streams:
    """The streams of all open pages. `tell` may be called from any thread."""

    def __init__(self) -> None:
        self.pages: OrderedDict[str, Page] = OrderedDict()
        self.loop: asyncio.AbstractEventLoop | None = None

    def page(self, id: str) -> Page:
        """A page's stream, begun where there is none; the ones longest unused are forgotten."""
        page = self.pages.setdefault(id, Page())
        self.pages.move_to_end(id)
        while len(self.pages) > PAGES and not next(iter(self.pages.values())).readers:
            self.pages.popitem(last=False)
        return page

    @property
    def closed(self) -> bool:
        """Whether the studio has been closed, and nobody hears any more."""
        return self.loop is not None and self.loop.is_closed()

    def tell(self, page: str, name: str, data: str) -> None:
        """Send an event to a page; to nobody, once the studio is closed."""
        assert self.loop is not None
        try:
            self.loop.call_soon_threadsafe(lambda: self.page(page).add(name, data))
        except RuntimeError:
            if not self.closed:
                raise
