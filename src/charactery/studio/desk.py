"""What is on the writer's desk: the models that answer, the stores of what was said, and the answers under way."""

import threading
import uuid
from collections import OrderedDict
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

OVER = 500  # answers that are over and remembered: every open page asks once what came of its own
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

    `n` answers of one Subject, or one of each of several, to the turn `asked`; `ids` are those turns' own, known before
    anything is said. With `prefill` answers begin so; `told`, the page says what is done before them. `faults` say why
    an answer is not there, or not whole.
    """

    id: str
    page: str
    place: str
    session: Session
    hows: tuple[How, ...]
    n: int = 1
    ids: tuple[str, ...] = ()
    asked: str | None = None
    prefill: str = ""
    faults: list[str] = field(default_factory=list)
    begun: bool = False
    told: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def columns(self) -> bool:
        """Whether several Subjects answer."""
        return len(self.hows) > 1


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
        self.streams, self.jobs, self.over = Streams(), dict[str, Job](), OrderedDict[str, Job]()
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
        ids, asked = tuple(str(uuid.uuid4()) for _ in range(max(n, len(hows)))), session.asked()
        job = Job(str(uuid.uuid4()), page, place, session, tuple(hows), n, ids, asked.id if asked else None, prefill)
        with self._lock:
            self.jobs[job.id] = job
            for id in [one.id for one in self.jobs.values() if not one.begun][:-WAITING]:
                del self.jobs[id]
        return job

    def start(self, id: str) -> None:
        """Begin; a second time does nothing."""
        with self._lock:
            if id in self.over:
                return
            job = self._job(id)
            if job.begun:
                return
            job.begun = True
        self._wanted.pop(job.page, None)
        self._worker.submit(self._answer, job)

    def stop(self, id: str) -> None:
        """Cut short. What was said is kept. Where it has just ended, there is nothing to do."""
        with self._lock:
            if id not in self.over:
                self._job(id).stopped.set()

    def outcome(self, id: str) -> Job:
        """Answers that are over."""
        job = self.over.get(id)  # asked once: the worker lets old ones go meanwhile
        if job is None:
            raise CharacteryError("what came of this answer is not remembered; it is in the tree, if there is one")
        return job

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
            if job.columns:
                self._columns(job, name)
            else:
                self._told(job, job.session, job.hows[0], name)
        except Exception as error:  # the store's, say
            self._fault(job, f"{name}-0", error)
        with self._lock:
            self.over[job.id] = self.jobs.pop(job.id)
            while len(self.over) > OVER:
                self.over.popitem(last=False)
        self.streams.tell(job.page, f"{'failed' if job.faults else 'done'}-{job.id}", "")

    def _columns(self, job: Job, name: str) -> None:
        """Have all Subjects answer at once."""
        asked = job.session.asked()
        place = job.session.answered(asked.id) if asked else 0  # one for all: columns draw from one seed

        def column(n: int) -> None:
            session = copy(job.session)  # it stands elsewhere while it answers
            self._told(job, session, job.hows[n], f"{name}-{n}", place, job.ids[n])

        with ThreadPoolExecutor(len(job.ids), "column") as columns:
            list(columns.map(column, range(len(job.ids))))

    def _told(
        self, job: Job, session: Session, how: How, name: str, place: int | None = None, column: str = ""
    ) -> None:
        """Draw answers of one Subject, or the one that is a column, and tell the page as they come."""

        def on_text(text: str) -> None:
            if job.stopped.is_set() or self.streams.closed:
                raise Stop
            if text:
                self.streams.tell(job.page, name, f"<span>{escape(text)}</span>")

        try:
            if not (job.stopped.is_set() or self.streams.closed):
                voice = self._ready(job, how)
                if column:
                    for node in session.again(1, on_text, voice, place, [column], job.prefill):
                        self.streams.tell(job.page, name, _whole(name, node))
                else:
                    session.voice = voice  # the talk goes on from its answer
                    session.again(job.n, on_text, None, place, job.ids, job.prefill)
        except Exception as error:  # the worker goes on with the next
            self._fault(job, name, error, how.subject if column else "")

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

    def _fault(self, job: Job, name: str, error: Exception, who: str = "") -> None:
        """Tell the page why there is no answer."""
        said = sentence("the answer broke off", error)
        job.faults.append(f"{who}: {said}" if who else said)
        self.streams.tell(job.page, name, f'<strong class="fault">{escape(said)}</strong>')


def _whole(name: str, node: Node) -> str:
    """What is put in the place of a column's pieces when it has been said, while others still answer."""
    ended = escape(ENDED.get(node.ending, ""))
    return (
        f'<div id="{name}" hx-swap-oob="innerHTML">{markup(node.text)}</div>'
        f'<small id="state-{name}" hx-swap-oob="innerHTML">{ended or "answered"}</small>'
    )
