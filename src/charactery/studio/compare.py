"""Compare: votes on answers side by side and what they come to, and the traits in them."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from charactery.constitution import Character, find_character
from charactery.conversations import Node
from charactery.conversations.votes import tally, vote
from charactery.errors import CharacteryError
from charactery.models.subject import Subject, parse_subject, prompted, untrained
from charactery.studio.faults import sentence
from charactery.studio.pages import Pages, Text, Texts, address
from charactery.studio.views import bars, trait_bars

if TYPE_CHECKING:
    from charactery.studio.traits import TraitReader


def compare_routes(pages: Pages) -> APIRouter:
    """The addresses under which one votes. They go before the talk's, whose patterns take these in."""
    router = APIRouter()
    desk, templates, drawn = pages.desk, pages.templates, pages.drawn

    @router.get("/beside")
    def beside(subject: str) -> Response:
        """Those to compare a Subject with: the same model plainly, and with the character in its prompt."""
        mine = parse_subject(subject.strip())
        both: list[Subject | None] = [untrained(mine)]
        with suppress(CharacteryError):  # the run's character file is gone, which keeps nobody from the plain model
            both.append(prompted(mine))
        others = [one.text for one in both if one and one.text != mine.text]
        return HTMLResponse(templates.get_template("beside.html").render(others=others))

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

    @router.post("/{place}/traits")
    def traits(place: str, page: Text, at: Text, of: Texts, character: Text) -> Response:
        store = desk.store(place)
        asked, answers = store.node(at), [store.node(id) for id in of]
        if not answers or any(answer.parent != at for answer in answers):
            raise CharacteryError("traits are read in answers to the same turn")
        if desk.traits is None:
            raise CharacteryError(
                "this studio reads no traits; give its Desk a TraitReader, as `charactery studio` does"
            )
        desk.behind(page, _read(pages, desk.traits, find_character(character), asked, answers))
        return Response(status_code=204)

    return router


def _read(
    pages: Pages, reader: "TraitReader", character: Character, asked: Node, answers: Sequence[Node]
) -> Iterator[tuple[str, str]]:
    """What is told under each answer, trait after trait."""
    subjects, template = [answer.subject for answer in answers], pages.templates.get_template("traits.html")
    read: list[tuple[str, Sequence[float]]] = []
    count = len([*character.traits()]) + 1
    try:
        for one in reader.read(character, subjects, asked.text, [answer.text for answer in answers]):
            read.append((one[0] or character.name, one[1]))
            for answer, bars in zip(answers, trait_bars(read), strict=True):
                html = template.render(bars=bars, whole=len(read) == count, left=count - len(read))
                yield f"traits-{answer.id}", html
    except Exception as error:  # the page is told
        said = sentence("the traits cannot be read", error)
        yield f"traits-{answers[0].id}", pages.templates.get_template("fault.html").render(said=said)
    yield f"read-{asked.id}", ""
