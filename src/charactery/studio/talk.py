"""Talk: where one stands, saying something, having it answered again, marking turns."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from charactery.conversations import cursor, mark, marks_of, search, set_cursor, unmark
from charactery.errors import CharacteryError
from charactery.models.subject import at_strength
from charactery.studio.desk import How
from charactery.studio.pages import MOST, TALKS, Ids, Pages, Text, Texts, address
from charactery.studio.views import STRONG, HowView, excerpt, marked_view, tree_view

Strength = Annotated[float, Form(ge=0, le=STRONG)]


async def _strengths(request: Request) -> dict[str, float]:
    """By Subject, the strength that stands beside it in Compare."""
    found = {}
    for key, value in (await request.form()).items():
        kind, _, name = key.partition("/")
        if kind == "strength" and name:
            try:
                found[name] = float(str(value) or 1)
            except ValueError:
                raise CharacteryError(f"the strength of {name} is a number, and not {value!r}") from None
            if not 0 <= found[name] <= STRONG:
                raise CharacteryError(f"the strength of {name} goes from 0 to {STRONG}")
    return found


Beside = Annotated[dict[str, float], Depends(_strengths)]


@dataclass(frozen=True)
class Wish:
    """How answers are asked for: a column each, and how many of one."""

    hows: list[How]
    n: int
    blind: bool


def _wish(
    subject: Text, against: Texts, beside: Beside, blind: Annotated[bool, Form()] = False,
    temperature: Annotated[float, Form(ge=0, le=5)] = 0.7, seed: Annotated[int, Form(ge=0, lt=2**63)] = 0,
    max_tokens: Annotated[int, Form(ge=1, le=8192)] = 256, n: Annotated[int, Form(ge=1, le=MOST)] = 1,
    strength: Strength = 1.0,
) -> Wish:  # fmt: skip
    """As the form says that every answer is drawn by."""
    how = How(at_strength(subject.strip(), strength), temperature, max_tokens, seed)
    return Wish(_columns(how, _worn(against, beside), n, blind), n, blind)


Wished = Annotated[Wish, Depends(_wish)]


def talk_routes(pages: Pages) -> APIRouter:
    """The addresses under which one talks."""
    router = APIRouter()
    desk, templates, drawn, asking = pages.desk, pages.templates, pages.drawn, pages.asking

    @router.get("/")
    def home() -> Response:
        return RedirectResponse("/talk", 303)

    @router.get("/search")
    def found(q: str = "", place: str = "talk", conversation: uuid.UUID | None = None) -> Response:
        """Where it was said, in one talk or in all of a place; for nothing the talks themselves."""
        if not q.strip() and conversation is None:
            return talks(place)
        within = str(conversation) if conversation else None
        rows = search(desk.store(place), q, within, most=50) if q.strip() else []
        hits = [(row, excerpt(row.text, q)) for row in rows]
        return HTMLResponse(templates.get_template("found.html").render(
            hits=hits, q=q, place=place, conversation=conversation
        ))  # fmt: skip

    @router.get("/talks")
    def talks(place: str = "talk", skip: Annotated[int, Query(ge=0, lt=2**31)] = 0) -> Response:
        """The talks, or the next ones of a long list."""
        rows = desk.store(place).summaries(TALKS + 1, skip)
        return HTMLResponse(templates.get_template("talks.html").render(
            talks=rows[:TALKS], more=skip + TALKS if len(rows) > TALKS else 0, skip=skip, place=place, conversation=None
        ))  # fmt: skip

    @router.get("/events/{page}")
    def events(request: Request, page: uuid.UUID, after: Annotated[int, Query(ge=0)] = 0) -> Response:
        last = request.headers.get("last-event-id", "")
        after = int(last) if last.isascii() and last.isdigit() and len(last) < 10 else after
        return StreamingResponse(desk.streams.page(str(page)).read(after), media_type="text/event-stream")

    @router.get("/answers/{job}")
    def outcome(request: Request, job: uuid.UUID, blind: bool = False) -> Response:
        """What came of answers: their own turns, wherever else the talk has gone meanwhile."""
        return pages.outcome(request, desk.outcome(str(job)), blind)

    @router.get("/{place}")
    def begin(request: Request, place: str, subject: str = "") -> Response:
        return drawn(request, place, None, None, how=HowView(subject or desk.subjects[0]))

    @router.get("/{place}/{conversation}")
    def talk(
        request: Request, place: str, conversation: uuid.UUID, of: Ids, at: uuid.UUID | Literal["start"] | None = None,
        blind: bool = False, whole: bool = False, waits: bool = False,
    ) -> Response:  # fmt: skip
        if waits and desk.answering(str(conversation)):
            return Response(status_code=204)  # the page stays as it is, with what is half written on it
        if at == "start":  # before the first word
            return drawn(request, place, str(conversation), None)
        here = cursor(desk.store(place), str(conversation)) if at is None else None
        if here is not None:  # an address that goes on showing the same
            return RedirectResponse(f"/{place}/{conversation}?at={here}", 303)
        return drawn(request, place, str(conversation), str(at) if at else None, [str(id) for id in of], blind, whole)

    @router.get("/{place}/{conversation}/branches")
    def branches(
        place: str, conversation: uuid.UUID, on: uuid.UUID | Literal[""] = "", at: uuid.UUID | Literal[""] = ""
    ) -> Response:
        """The lines of the tree that were folded at a fork."""
        glimpses = desk.store(place).glimpses(str(conversation), letters=60)
        lines = tree_view(glimpses, str(at) or None, str(on) or None)
        return HTMLResponse(templates.get_template("tree.html").render(
            place=place, conversation=conversation, at=at, lines=lines
        ))  # fmt: skip

    @router.post("/{place}/say")
    def say(
        request: Request, place: str, page: Text, text: Text, wish: Wished, conversation: Text = "", at: Text = ""
    ) -> Response:
        if not text.strip():
            raise CharacteryError("there is nothing to say yet")
        session = desk.session(place, conversation or None, at or None, wish.hows[0])
        session.say(text)
        return asking(request, page, place, session, wish.hows, wish.n, wish.blind)

    @router.post("/{place}/again")
    def again(
        request: Request, place: str, page: Text, conversation: Text, at: Text, wish: Wished, prefill: Text = "",
        exact: Annotated[bool, Form()] = False,
    ) -> Response:  # fmt: skip
        session = desk.session(place, conversation, at, wish.hows[0])
        begins = prefill.replace("\r\n", "\n")  # as it was said; what somebody wrote may end in a slip of the hand
        return asking(request, page, place, session, wish.hows, wish.n, wish.blind, begins if exact else begins.strip())

    @router.post("/{place}/edit")
    def edit(request: Request, place: str, conversation: Text, node: Text, text: Text) -> Response:
        """What a model or another said, put otherwise, beside it."""
        if not text.strip():
            raise CharacteryError("write what it says instead first")
        store = desk.store(place)
        old = store.node(node)
        if store.conversation_of(node) != conversation:
            raise CharacteryError(f"the turn {node[:8]} is not of this conversation")
        new = store.add(conversation, old.parent, old.role, text.replace("\r\n", "\n"))
        set_cursor(store, conversation, new.id)
        page = drawn(request, place, conversation, new.id)
        page.headers["hx-push-url"] = address(place, conversation, new.id)
        return page

    @router.post("/{place}/mark")
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

    @router.post("/answers/{job}/start")
    def start(job: uuid.UUID) -> Response:
        desk.start(str(job))
        return Response(status_code=204)

    @router.post("/answers/{job}/stop")
    def stop(job: uuid.UUID) -> Response:
        desk.stop(str(job))
        return Response(status_code=204)

    return router


def _worn(against: Sequence[str], beside: dict[str, float]) -> list[str]:
    """Those to compare with, each at the strength that stands beside it."""
    return [at_strength(name, beside.get(name, 1.0)) for name in map(str.strip, against)]


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
