"""What is on the writer's desk: the models that answer, the stores of what was said, and the answers under way."""

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from html import escape

from charactery.conversations import Session, Stop, Store, Voice, private_store
from charactery.errors import CharacteryError
from charactery.studio.streams import Streams


@dataclass(frozen=True)
class How:
    """How answers are asked for."""

    subject: str
    temperature: float = 0.7
    max_tokens: int = 256
    seed: int = 0


@dataclass
class Job:
    """Answers under way. It waits for its page to be ready; `stopped` cuts it short."""

    id: str
    page: str
    place: str
    session: Session
    how: How
    n: int
    begun: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)


class Desk:
    """Everything the pages stand on. One answer, or batch of answers, is drawn at a time."""

    def __init__(self, store: Store, voice: Callable[[How], Voice], subjects: list[str]) -> None:
        self.stores = {"talk": store, "private": private_store()}
        self.voice, self.subjects = voice, subjects
        self.streams, self.jobs = Streams(), dict[str, Job]()
        self._worker, self._lock = ThreadPoolExecutor(1, "answers"), threading.Lock()

    def store(self, place: str) -> Store:
        """The store of a place: `talk`, or `private`, which is memory alone."""
        if place not in self.stores:
            raise CharacteryError(f"there is no place {place!r}")
        return self.stores[place]

    def session(self, place: str, conversation: str | None, at: str | None, how: How) -> Session:
        """A session that stands at a turn; for no turn, before the first word."""
        session = Session(self.store(place), None, how.seed, conversation)
        session.go(at)
        return session

    def prepare(self, page: str, place: str, session: Session, how: How, n: int) -> Job:
        """Answers to be given once the page asks for them, so that it hears every piece."""
        job = Job(str(uuid.uuid4()), page, place, session, how, n)
        self.jobs[job.id] = job
        return job

    def start(self, id: str) -> None:
        """Begin; a second time does nothing."""
        job = self._job(id)
        with self._lock:
            if job.begun:
                return
            job.begun = True
        self._worker.submit(self._answer, job)

    def stop(self, id: str) -> None:
        """Cut short. What was said is kept."""
        self._job(id).stopped.set()

    def answering(self, conversation: str) -> bool:
        """Whether an answer in this conversation is under way."""
        return any(job.begun and job.session.conversation == conversation for job in list(self.jobs.values()))

    def _job(self, id: str) -> Job:
        if id not in self.jobs:
            raise CharacteryError("this answer is not under way any more; load the page anew")
        return self.jobs[id]

    def _answer(self, job: Job) -> None:
        def on_text(text: str) -> None:
            if job.stopped.is_set():
                raise Stop
            self.streams.tell(job.page, f"piece-{job.id}", f"<span>{escape(text)}</span>")

        said = ""
        try:
            if not job.stopped.is_set():
                job.session.voice = self.voice(job.how)  # loads the model, if it is not loaded yet
                job.session.again(job.n, on_text)
        except CharacteryError as error:
            said = str(error)
        except Exception as error:  # the page is told; the worker goes on with the next
            said = f"the answer broke off ({type(error).__name__}: {error})"
        finally:
            del self.jobs[job.id]
            if said:
                self.streams.tell(job.page, f"piece-{job.id}", f'<strong class="fault">{escape(said)}</strong>')
            self.streams.tell(job.page, f"{'failed' if said else 'done'}-{job.id}", "")
