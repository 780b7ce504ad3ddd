"""What is on the writer's desk: the models that answer, the stores of what was said, and the answers under way."""

import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from charactery.conversations import Node, Session, Stop, Store, Voice, private_store
from charactery.errors import CharacteryError
from charactery.share.markup import markup
from charactery.share.transcript import ENDED
from charactery.studio.faults import sentence
from charactery.studio.shelf import Shelf
from charactery.studio.streams import Streams
from charactery.studio.trainings import Trainings

if TYPE_CHECKING:
    from charactery.studio.traits import TraitReader


PATIENCE = 1.0  # seconds without a word after which a page is told what it waits for
WAITING = 100  # answers that no page has asked to begin: those beyond are of pages that were closed before they could


@dataclass(frozen=True)
class How:
    """How answers are asked for."""

    subject: str
    temperature: float = 0.7
    max_tokens: int = 256
    seed: int = 0


@dataclass
class Job:
    """Answers under way. It waits for its page to be ready; `stopped` cuts it short.

    `n` answers of one Subject, or one of each of several; `ids` are those turns' own, known before anything is said.
    With `prefill` answers begin so; `told`, the page says what is done before them.
    """

    id: str
    page: str
    place: str
    session: Session
    hows: tuple[How, ...]
    n: int = 1
    ids: tuple[str, ...] = ()
    prefill: str = ""
    begun: bool = False
    told: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)


def unknown(place: str) -> str:
    """What is said of a conversation that is not there."""
    gone = "private talks are gone once the studio is closed" if place == "private" else "it may be in another store"
    return f"there is no such talk here: {gone}. Begin a new one, or choose another from the list"


class Desk:
    """Everything the pages stand on.

    One answer, batch of answers or comparison is drawn at a time, and the columns of a comparison at once: `voice` is
    called from several threads. `subjects` are who can be talked to beside the writer's own characters and runs; the
    first of them speaks at first. `traits`, if given, reads the traits in answers side by side. Character files are
    kept in the folder `characters`, trainings in `runs`.
    """

    def __init__(
        self, store: Store, voice: Callable[[How], Voice], subjects: list[str], traits: "TraitReader | None" = None,
        characters: Path = Path("characters"), runs: Path = Path("runs"),
    ) -> None:  # fmt: skip
        self.shelf, self.trainings = Shelf(characters), Trainings(runs)
        self.stores = {"talk": store, "private": private_store()}
        self.voice, self.subjects, self.traits = voice, subjects, traits
        self.streams, self.jobs = Streams(), dict[str, Job]()
        self._worker, self._lock = ThreadPoolExecutor(1, "answers"), threading.Lock()
        self._behind, self._wanted = ThreadPoolExecutor(1, "traits"), dict[str, object]()  # the latter by page

    def known(self) -> dict[str, list[str]]:
        """Who can be talked to, as files stand now: who speaks at first, the writer's own, the runs, and others."""
        own = [self.shelf.subject(name) for name in self.shelf.names()]
        runs = sorted(str(path.parent) for path in self.trainings.runs.glob("*/manifest.json"))
        others = [name for name in self.subjects if name not in own and name not in runs]
        return {"Your characters": own, "Runs": runs, "Others": others}

    def store(self, place: str) -> Store:
        """The store of a place: `talk`, or `private`, which is memory alone."""
        if place not in self.stores:
            raise CharacteryError(f"there is no place {place!r}")
        return self.stores[place]

    def session(self, place: str, conversation: str | None, at: str | None, how: How) -> Session:
        """A session that stands at a turn; for no turn, before the first word."""
        store = self.store(place)
        if conversation is not None and not store.knows(conversation):
            raise CharacteryError(unknown(place))
        session = Session(store, None, how.seed, conversation)
        session.go(at)
        return session

    def prepare(
        self, page: str, place: str, session: Session, hows: Sequence[How], n: int = 1, prefill: str = ""
    ) -> Job:
        """Answers to be given once the page asks for them, so that it hears every piece.

        Of those that no page asks for the last WAITING are kept.
        """
        ids = tuple(str(uuid.uuid4()) for _ in hows) if len(hows) > 1 else ()
        job = Job(str(uuid.uuid4()), page, place, session, tuple(hows), n, ids, prefill)
        with self._lock:
            self.jobs[job.id] = job
            for id in [one.id for one in self.jobs.values() if not one.begun][:-WAITING]:
                del self.jobs[id]
        return job

    def start(self, id: str) -> None:
        """Begin; a second time does nothing."""
        with self._lock:
            job = self._job(id)
            if job.begun:
                return
            job.begun = True
        self._wanted.pop(job.page, None)
        self._worker.submit(self._answer, job)

    def stop(self, id: str) -> None:
        """Cut short. What was said is kept."""
        self._job(id).stopped.set()

    def tell(self, line: str) -> None:
        """Say to the pages that wait for answers what is done for them: a download, say."""
        for job in list(self.jobs.values()):
            if job.begun:
                self._tell(job, line)

    def behind(self, page: str, events: Iterable[tuple[str, str]]) -> None:
        """Tell a page events, name and data, as they are worked out; until there are others, or answers, for it."""
        wanted = self._wanted[page] = object()

        def tell() -> None:
            for name, data in events:
                if self._wanted.get(page) is not wanted or self.streams.closed:
                    return
                self.streams.tell(page, name, data)

        self._behind.submit(tell)

    def answering(self, conversation: str) -> bool:
        """Whether an answer in this conversation is under way."""
        return any(job.begun and job.session.conversation == conversation for job in list(self.jobs.values()))

    def _job(self, id: str) -> Job:
        if id not in self.jobs:
            raise CharacteryError("this answer is not under way any more; load the page anew")
        return self.jobs[id]

    def _answer(self, job: Job) -> None:
        name = f"piece-{job.id}"
        try:
            failed = self._columns(job, name) if job.ids else self._told(job, job.session, job.hows[0], name, job.n)
        except Exception as error:  # the store's, say
            self._fault(job, f"{name}-0", error)
            failed = True
        with self._lock:
            del self.jobs[job.id]
        self.streams.tell(job.page, f"{'failed' if failed else 'done'}-{job.id}", "")

    def _columns(self, job: Job, name: str) -> bool:
        """Have all Subjects answer at once; returns whether one failed."""
        asked = job.session.asked()
        place = job.session.answered(asked.id) if asked else 0  # one for all: columns draw from one seed

        def column(n: int) -> bool:
            session = copy(job.session)  # it stands elsewhere while it answers
            return self._told(job, session, job.hows[n], f"{name}-{n}", 1, place, (job.ids[n],))

        with ThreadPoolExecutor(len(job.ids), "column") as columns:
            return any([*columns.map(column, range(len(job.ids)))])

    def _told(
        self, job: Job, session: Session, how: How, name: str, n: int, place: int | None = None,
        ids: tuple[str, ...] = (),
    ) -> bool:  # fmt: skip
        """Draw answers of one Subject and tell the page as they come; returns whether that failed."""

        def on_text(text: str) -> None:
            if job.stopped.is_set() or self.streams.closed:
                raise Stop
            self.streams.tell(job.page, name, f"<span>{escape(text)}</span>")

        try:
            if not job.stopped.is_set():
                voice = self._ready(job, how)
                if not ids:
                    session.voice = voice  # the talk goes on from its answer
                for node in session.again(n, on_text, voice if ids else None, place, ids, job.prefill)[: len(ids)]:
                    self.streams.tell(job.page, name, _whole(name, node))
            return False
        except Exception as error:  # the worker goes on with the next
            self._fault(job, name, error)
        return True

    def _ready(self, job: Job, how: How) -> Voice:
        """What answers; the page is told where that takes a while, as it does for a model that is not loaded yet."""
        waits = threading.Timer(PATIENCE, self._tell, (job, "The model is made ready…"))
        waits.start()
        try:
            return self.voice(how)
        finally:
            waits.cancel()
            waits.join()
            if job.told:
                self._tell(job, "")

    def _tell(self, job: Job, line: str) -> None:
        """Say what is done before its answers begin, or that it is done."""
        job.told = line != ""
        self.streams.tell(job.page, f"said-{job.id}", escape(line))

    def _fault(self, job: Job, name: str, error: Exception) -> None:
        """Tell the page why there is no answer."""
        said = sentence("the answer broke off", error)
        self.streams.tell(job.page, name, f'<strong class="fault">{escape(said)}</strong>')


def _whole(name: str, node: Node) -> str:
    """What is put in the place of a column's pieces when it has been said, while others still answer."""
    ended = escape(ENDED.get(node.ending, ""))
    return (
        f'<div id="{name}" hx-swap-oob="innerHTML">{markup(node.text)}</div>'
        f'<small id="state-{name}" hx-swap-oob="innerHTML">{ended or "answered"}</small>'
    )
