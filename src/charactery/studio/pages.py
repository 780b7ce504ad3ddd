"""A page of the studio as it is drawn, and the kinds of field that its forms have."""

import random
import uuid
from collections.abc import Sequence
from typing import Annotated, Any

import jinja2
from fastapi import Form, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response

from charactery.conversations import Session, marks_of
from charactery.conversations.formats import FORMATS
from charactery.conversations.votes import tally
from charactery.errors import CharacteryError
from charactery.models.subject import has_adapter
from charactery.share.markup import markup
from charactery.share.transcript import LEAVABLE
from charactery.studio.desk import Desk, How, Job, unknown
from charactery.studio.views import bars, column_views, how_of, letters, marked_view, path_view, tree_view

TALKS = 30  # in the list at once
MOST = 16  # answers at once
LONG = 60  # turns on a page, which a browser takes a tenth of a second for
Text = Annotated[str, Form()]
Texts = Annotated[list[str], Form(default_factory=list)]
Words = Annotated[list[str], Query(default_factory=list)]
Ids = Annotated[list[uuid.UUID], Query(default_factory=list)]


class Pages:
    """What the routes of every story draw with: the desk and the templates."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.templates = jinja2.Environment(
            loader=jinja2.PackageLoader("charactery.studio"), autoescape=True, trim_blocks=True, lstrip_blocks=True
        )
        self.templates.filters["markup"] = markup

    def drawn(
        self, request: Request, place: str, conversation: str | None, at: str | None, of: Sequence[str] = (),
        blind: bool = False, whole: bool = False, **more: Any,
    ) -> HTMLResponse:  # fmt: skip
        """The talk, or what is beside it, at the turn where one stands; of a long one its end, unless the whole is
        asked for."""
        desk = self.desk
        store = desk.store(place)
        if conversation is not None and not store.knows(conversation):
            raise HTTPException(404, unknown(place))
        if at is not None and store.conversation_of(at) != conversation:
            raise CharacteryError(f"there is no turn {at[:8]} in this conversation")
        groups, talks = desk.known(), store.summaries(TALKS + 1)
        subjects = list(dict.fromkeys([desk.subjects[0], *(name for group in groups.values() for name in group)]))
        path = store.path(at) if at else []  # before the glimpses, which then have all of it
        glimpses = store.glimpses(conversation, letters=60) if conversation else []
        asked = bool(path) and path[-1].role == "user"
        answers = store.children(conversation, at) if conversation and asked else []
        chosen = [answer for id in of for answer in answers if answer.id == id]
        named = [answer.subject for answer in chosen]
        said = next((node for node in reversed(path) if node.role == "user"), None)
        marks = marks_of(store, conversation) if conversation else []
        shown = {
            "place": place, "conversation": conversation, "at": at, "subjects": subjects, "groups": groups,
            "how": how_of([*path, *([] if blind else chosen[:1] or answers[:1])], desk.subjects[0], subjects),
            "path": path_view(path if whole else path[-LONG:], glimpses), "begins": path[0].text[:60] if path else "",
            "earlier": 0 if whole else max(0, len(path) - LONG),
            "answers": column_views(chosen or answers, bool(chosen), blind), "of": of, "blind": blind,
            "undone": said and said.parent,
            "here": address(place, conversation, at, of, blind) if at else "", "letters": letters(MOST),
            "leavable": LEAVABLE, "formats": FORMATS,
            "picks": desk.traits.characters(named) if desk.traits and chosen and not blind else {},
            "reader": desk.traits.reader(named).text if desk.traits and chosen and not blind else "",
            "strong": [name for name in subjects if has_adapter(name)],
            "bars": bars(tally(store), named) if chosen and not blind else [],
            "lines": tree_view(glimpses, at), "marked": marked_view(marks, glimpses),
            "talks": talks[:TALKS], "more": TALKS if len(talks) > TALKS else 0, "skip": 0,
            "key": request.state.key, "page": str(uuid.uuid4()), "job": None,
            "answering": conversation is not None and desk.answering(conversation), **more,
        }  # fmt: skip
        return HTMLResponse(self.templates.get_template("talk.html").render(shown))

    def answered(self, request: Request, job: Job, blind: bool) -> HTMLResponse:
        """The page on which answers are to come."""
        session, of = job.session, job.ids if job.columns else ()
        page = self.drawn(request, job.place, session.conversation, session.at, of, blind, job=job)
        page.headers["hx-push-url"] = address(job.place, session.conversation, session.at, of, blind)
        return page

    def outcome(self, request: Request, job: Job, blind: bool) -> HTMLResponse:
        """The page on which answers are that have been given: the one there is, or several to choose from."""
        store, conversation = self.desk.store(job.place), job.session.conversation
        kept = [id for id in job.ids if store.conversation_of(id)]
        at = kept[0] if kept and len(job.ids) == 1 else job.asked
        of = job.ids if job.columns else ()
        said = ["one of them could not answer"] if blind and job.faults else job.faults
        page = self.drawn(request, job.place, conversation, at, of, blind, faults=said)
        if at != job.asked:  # else its address stands there already
            page.headers["hx-push-url"] = address(job.place, conversation, at)
        return page

    def asking(
        self, request: Request, page: str, place: str, session: Session, hows: Sequence[How], n: int, blind: bool,
        prefill: str = "",
    ) -> Response:  # fmt: skip
        """Have answers prepared; blind ones in an order that nobody knows."""
        if blind:
            hows = random.SystemRandom().sample(hows, len(hows))
        return self.answered(request, self.desk.prepare(page, place, session, hows, n, prefill), blind)


def address(place: str, conversation: str | None, at: str | None, of: Sequence[str] = (), blind: bool = False) -> str:
    """Where a turn is shown, or some of the answers to it side by side."""
    return f"/{place}/{conversation}?at={at}{''.join(f'&of={id}' for id in of)}{'&blind=1' if blind else ''}"
