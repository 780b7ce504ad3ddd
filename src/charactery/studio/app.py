"""The pages and what they may ask for. Every state of a page has an address: where one stands is in it."""

import asyncio
import random
import re
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import jinja2
from fastapi import FastAPI, Form, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp

from charactery.conversations import Added, Session, cursor, mark, marks_of, put, search, unmark
from charactery.conversations.formats import FORMATS, export_text, file_name, read_file
from charactery.conversations.votes import tally, vote
from charactery.errors import BadData, CharacteryError
from charactery.share.transcript import LEAVABLE, as_html, as_markdown, transcript
from charactery.studio.desk import Desk, How, Job
from charactery.studio.guard import LOOPBACK, Guard
from charactery.studio.views import bars, column_views, letters, marked_view, path_view, tree_view

MOST = 16  # answers at once
LARGEST = 200_000_000  # bytes of a file that a page takes in
Text = Annotated[str, Form()]
Texts = Annotated[list[str], Form(default_factory=list)]
Words = Annotated[list[str], Query(default_factory=list)]
Ids = Annotated[list[uuid.UUID], Query(default_factory=list)]


def create_app(desk: Desk, hosts: frozenset[str] = LOOPBACK, token: str | None = None) -> ASGIApp:
    """The studio as an ASGI application, guarded. `token` is asked of everybody where it is given."""
    return Guard(_pages(desk), hosts, token)


def _pages(desk: Desk) -> FastAPI:
    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        desk.streams.loop = asyncio.get_running_loop()
        yield

    app = FastAPI(title="Charactery studio", lifespan=running, docs_url=None, redoc_url=None)
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("charactery.studio"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))

    def drawn(
        request: Request, place: str, conversation: str | None, at: str | None, of: Sequence[str] = (),
        blind: bool = False, **more: Any,
    ) -> HTMLResponse:  # fmt: skip
        store = desk.store(place)
        if at is not None and store.conversation_of(at) != conversation:
            raise CharacteryError(f"there is no turn {at[:8]} in this conversation")
        path = store.path(at) if at else []  # before the glimpses, which then have all of it
        glimpses = store.glimpses(conversation, letters=60) if conversation else []
        asked = bool(path) and path[-1].role == "user"
        answers = store.children(conversation, at) if conversation and asked else []
        chosen = [answer for id in of for answer in answers if answer.id == id]
        named = [answer.subject for answer in chosen]
        marks = marks_of(store, conversation) if conversation else []
        shown = {
            "place": place, "conversation": conversation, "at": at, "subjects": desk.subjects,
            "path": path_view(path, glimpses),
            "answers": column_views(chosen or answers, bool(chosen), blind), "of": of, "blind": blind,
            "here": address(place, conversation, at, of, blind) if at else "", "letters": letters(MOST),
            "leavable": LEAVABLE, "formats": FORMATS,
            "bars": bars(tally(store), named) if chosen and not blind else [],
            "lines": tree_view(glimpses, at), "marked": marked_view(marks, glimpses),
            "talks": store.summaries(30), "key": request.state.key, "page": str(uuid.uuid4()), "job": None,
            "answering": conversation is not None and desk.answering(conversation), **more,
        }  # fmt: skip
        return HTMLResponse(templates.get_template("talk.html").render(shown))

    def answered(request: Request, job: Job, blind: bool) -> HTMLResponse:
        session = job.session
        page = drawn(request, job.place, session.conversation, session.at, job.ids, blind, job=job)
        page.headers["hx-push-url"] = address(job.place, session.conversation, session.at, job.ids, blind)
        return page

    def asking(
        request: Request, page: str, place: str, session: Session, hows: Sequence[How], n: int, blind: bool,
        prefill: str = "",
    ) -> Response:  # fmt: skip
        if blind:
            hows = random.SystemRandom().sample(hows, len(hows))
        return answered(request, desk.prepare(page, place, session, hows, n, prefill), blind)

    @app.exception_handler(CharacteryError)
    def said(request: Request, error: CharacteryError) -> Response:
        return HTMLResponse(templates.get_template("fault.html").render(said=str(error)), 400)

    @app.exception_handler(OSError)
    def unkept(request: Request, error: OSError) -> Response:
        return said(request, CharacteryError(f"could not be kept ({error.strerror}). Free some space and try again"))

    @app.exception_handler(RequestValidationError)
    def unfit(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        sentence = f"{first['loc'][-1]}: {first['msg'].lower()}"
        return HTMLResponse(templates.get_template("fault.html").render(said=sentence), 400)

    @app.get("/")
    def home() -> Response:
        return RedirectResponse("/talk", 303)

    @app.get("/search")
    def found(q: str = "") -> Response:
        rows = search(desk.store("talk"), q, most=50) if q.strip() else []
        return HTMLResponse(templates.get_template("found.html").render(rows=rows, q=q))

    @app.get("/events/{page}")
    def events(request: Request, page: uuid.UUID) -> Response:
        last = request.headers.get("last-event-id", "0")
        after = int(last) if last.isascii() and last.isdigit() and len(last) < 10 else 0
        return StreamingResponse(desk.streams.page(str(page)).read(after), media_type="text/event-stream")

    @app.get("/{place}")
    def begin(request: Request, place: str) -> Response:
        return drawn(request, place, None, None)

    @app.get("/{place}/votes")
    def votes(request: Request, place: str) -> Response:
        return HTMLResponse(templates.get_template("votes.html").render(
            place=place, bars=bars(tally(desk.store(place))), key=request.state.key, page=str(uuid.uuid4())
        ))  # fmt: skip

    @app.get("/{place}/{conversation}")
    def talk(
        request: Request, place: str, conversation: uuid.UUID, of: Ids, at: uuid.UUID | None = None, blind: bool = False
    ) -> Response:
        here = cursor(desk.store(place), str(conversation)) if at is None else None
        if here is not None:  # an address that goes on showing the same
            return RedirectResponse(f"/{place}/{conversation}?at={here}", 303)
        return drawn(request, place, str(conversation), str(at) if at else None, [str(id) for id in of], blind)

    @app.get("/{place}/{conversation}/share")
    def share(place: str, conversation: uuid.UUID, at: uuid.UUID, of: Ids, without: Words) -> Response:
        shared = transcript(desk.store(place), str(at), [str(id) for id in of], without)
        name = re.sub(r"[^a-z0-9]+", "-", shared.title.lower()).strip("-") or "talk"
        return _file(as_html(shared), f"{name}.html", "text/html")

    @app.get("/{place}/{conversation}/markdown")
    def markdown(place: str, conversation: uuid.UUID, at: uuid.UUID, of: Ids, without: Words) -> Response:
        text = as_markdown(transcript(desk.store(place), str(at), [str(id) for id in of], without))
        return HTMLResponse(templates.get_template("markdown.html").render(text=text))

    @app.get("/{place}/{conversation}/export")
    def export(place: str, conversation: uuid.UUID, format: str = "charactery") -> Response:
        tree = desk.store(place).tree(str(conversation))
        text, _ = export_text([tree], format)
        return _file(text, file_name(tree, FORMATS[format].suffix), "application/json")

    @app.post("/{place}/import")
    def take_in(request: Request, place: str, file: UploadFile) -> Response:
        name = file.filename or "the file"
        if (file.size or 0) > LARGEST:
            raise BadData(f"is larger than {LARGEST / 1e6:.0f} MB; `charactery conversations import` reads it", name)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            with path.open("wb") as out:
                shutil.copyfileobj(file.file, out)
            try:
                contents = read_file(path)
            except BadData as error:  # by the name that its owner knows
                raise BadData(error.message, name, error.line) from None
        if not contents.trees:
            raise BadData(f"{contents.faults[0].reason}. Nothing in it can be used", name, contents.faults[0].line)
        store, added = desk.store(place), Added()
        for tree in contents.trees:
            added += put(store, tree)
        first = contents.trees[0].id
        here = cursor(store, first)
        page = drawn(request, place, first, here, imported=(contents, added, name))
        page.headers["hx-push-url"] = address(place, first, here)
        return page

    @app.post("/{place}/say")
    def say(
        request: Request, place: str, page: Text, text: Text, subject: Text, against: Texts, conversation: Text = "",
        at: Text = "", blind: Annotated[bool, Form()] = False,
        temperature: Annotated[float, Form(ge=0, le=5)] = 0.7, seed: Annotated[int, Form(ge=0, lt=2**63)] = 0,
        max_tokens: Annotated[int, Form(ge=1, le=8192)] = 256, n: Annotated[int, Form(ge=1, le=MOST)] = 1,
    ) -> Response:  # fmt: skip
        hows = _columns(How(subject, temperature, max_tokens, seed), against, n, blind)
        if not text.strip():
            raise CharacteryError("there is nothing to say yet")
        session = desk.session(place, conversation or None, at or None, hows[0])
        session.say(text)
        return asking(request, page, place, session, hows, n, blind)

    @app.post("/{place}/again")
    def again(
        request: Request, place: str, page: Text, subject: Text, conversation: Text, at: Text, against: Texts,
        prefill: Text = "", blind: Annotated[bool, Form()] = False,
        temperature: Annotated[float, Form(ge=0, le=5)] = 0.7, seed: Annotated[int, Form(ge=0, lt=2**63)] = 0,
        max_tokens: Annotated[int, Form(ge=1, le=8192)] = 256, n: Annotated[int, Form(ge=1, le=MOST)] = 1,
    ) -> Response:  # fmt: skip
        hows = _columns(How(subject, temperature, max_tokens, seed), against, n, blind)
        session = desk.session(place, conversation, at, hows[0])
        return asking(request, page, place, session, hows, n, blind, prefill.strip())

    @app.post("/{place}/mark")
    def marked(place: str, node: Text, kind: Text, text: Text = "", off: Annotated[bool, Form()] = False) -> Response:
        store, text = desk.store(place), text.strip()
        conversation = store.conversation_of(node)
        if conversation is None:
            raise CharacteryError(f"there is no turn {node[:8]} here")
        if kind != "bookmark" and not text:
            raise CharacteryError(f"write the {kind} first")
        (unmark if off else mark)(store, node, kind, text)
        marked = marked_view(marks_of(store, conversation), store.glimpses(conversation, letters=60))
        return HTMLResponse(templates.get_template("marks.html").render(
            place=place, conversation=conversation, node=node, marked=marked, alone=True,
        ))  # fmt: skip

    @app.post("/{place}/vote")
    def voted(
        request: Request, place: str, conversation: Text, at: Text, first: Text, second: Text, choice: Text
    ) -> Response:
        vote(desk.store(place), first, second, choice)
        page = drawn(request, place, conversation, at, (first, second))
        page.headers["hx-push-url"] = address(place, conversation, at, (first, second))
        return page

    @app.post("/answers/{job}/start")
    def start(job: uuid.UUID) -> Response:
        desk.start(str(job))
        return Response(status_code=204)

    @app.post("/answers/{job}/stop")
    def stop(job: uuid.UUID) -> Response:
        desk.stop(str(job))
        return Response(status_code=204)

    return app


def address(place: str, conversation: str | None, at: str | None, of: Sequence[str] = (), blind: bool = False) -> str:
    """Where a turn is shown, or some of the answers to it side by side."""
    return f"/{place}/{conversation}?at={at}{''.join(f'&of={id}' for id in of)}{'&blind=1' if blind else ''}"


def _file(text: str, name: str, kind: str) -> Response:
    """A file to be saved, under a name that every header can carry."""
    safe = name.encode("ascii", "ignore").decode().lstrip("-.") or "talk"
    return Response(text, media_type=kind, headers={"content-disposition": f'attachment; filename="{safe}"'})


def _columns(how: How, against: Sequence[str], n: int, blind: bool) -> list[How]:
    """How each Subject is asked: the one named, and those ticked to be compared with it."""
    subjects = list(dict.fromkeys(name for name in (how.subject, *map(str.strip, against)) if name))
    if len(subjects) > MOST:
        raise CharacteryError(f"at most {MOST} Subjects are compared at once, and these are {len(subjects)}")
    if len(subjects) > 1 and n > 1:
        raise CharacteryError("a comparison has one answer of each: set Answers to 1, or tick nobody in Compare")
    if blind and len(subjects) != 2:
        raise CharacteryError("a blind comparison is of two: tick one other in Compare")
    return [replace(how, subject=subject) for subject in subjects]
