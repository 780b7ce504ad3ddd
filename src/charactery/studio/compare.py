"""Compare: votes on answers side by side, and what they come to."""

import uuid

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from charactery.conversations.votes import tally, vote
from charactery.studio.pages import Pages, Text, address
from charactery.studio.views import bars


def compare_routes(pages: Pages) -> APIRouter:
    """The addresses under which one votes. They go before the talk's, whose patterns take these in."""
    router = APIRouter()
    desk, templates, drawn = pages.desk, pages.templates, pages.drawn

    @router.get("/{place}/votes")
    def votes(request: Request, place: str) -> Response:
        return HTMLResponse(templates.get_template("votes.html").render(
            place=place, bars=bars(tally(desk.store(place))), key=request.state.key, page=str(uuid.uuid4())
        ))  # fmt: skip

    @router.post("/{place}/vote")
    def voted(
        request: Request, place: str, conversation: Text, at: Text, first: Text, second: Text, choice: Text
    ) -> Response:
        vote(desk.store(place), first, second, choice)
        page = drawn(request, place, conversation, at, (first, second))
        page.headers["hx-push-url"] = address(place, conversation, at, (first, second))
        return page

    return router
