"""The studio's pages put together. Every state of a page has an address: where one stands is in it."""

import asyncio
import errno
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from charactery.errors import CharacteryError
from charactery.studio.compare import compare_routes
from charactery.studio.desk import Desk
from charactery.studio.faults import logged
from charactery.studio.guard import LOOPBACK, Guard
from charactery.studio.pages import Pages
from charactery.studio.run_pages import run_routes
from charactery.studio.share import share_routes
from charactery.studio.talk import talk_routes
from charactery.studio.views import shell
from charactery.studio.write_pages import write_routes


def create_app(desk: Desk, hosts: frozenset[str] = LOOPBACK, token: str | None = None) -> ASGIApp:
    """The studio as an ASGI application, guarded. `token` is asked of everybody where it is given."""
    return Guard(_pages(desk), hosts, token)


def _pages(desk: Desk) -> FastAPI:
    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        desk.streams.loop = asyncio.get_running_loop()
        yield

    app = FastAPI(title="Charactery studio", lifespan=running, docs_url=None, redoc_url=None)
    pages = Pages(desk)
    templates = pages.templates
    app.include_router(write_routes(desk, templates))
    app.include_router(run_routes(desk, templates))
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))

    def fault(request: Request, said: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
        """A sentence in the place that a page has for it, or as a page of its own."""
        if "hx-request" in request.headers:
            html = templates.get_template("fault.html").render(said=said)
        else:
            html = templates.get_template("problem.html").render(**shell(request), said=said)
        return HTMLResponse(html, status, headers)

    @app.exception_handler(CharacteryError)
    def said(request: Request, error: CharacteryError) -> Response:
        return fault(request, str(error), 400)

    @app.exception_handler(HTTPException)
    def missed(request: Request, error: HTTPException) -> Response:
        return fault(request, error.detail, error.status_code, error.headers)

    @app.exception_handler(OSError)
    def unkept(request: Request, error: OSError) -> Response:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = "Free some space" if full else "See to the folder and its permissions"
        return fault(request, f"the disk refused ({error.strerror}). {mend} and try again", 400)

    @app.exception_handler(RequestValidationError)
    def unfit(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return fault(request, f"{first['loc'][-1]}: {first['msg'].lower()}", 400)

    @app.exception_handler(Exception)
    def unforeseen(request: Request, error: Exception) -> Response:
        reference = logged(f"{request.method} {request.url.path}", error, traced=False)  # the server logs where
        said = (
            f"The studio itself is at fault ({type(error).__name__}). Go back and try again; if it happens again, "
            f"report it with what the studio's terminal says beside {reference}."
        )
        return fault(request, said, 500)

    for routes in (share_routes, compare_routes, talk_routes):  # those with a fixed word before /{place}/{conversation}
        app.include_router(routes(pages))
    return app
