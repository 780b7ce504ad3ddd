"""The gallery of runs, the page of each, and the way in and out for bundles."""

import shutil
import tempfile
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from fastapi import APIRouter, Request, UploadFile
from fastapi.responses import FileResponse, HTMLResponse, Response

from charactery.constitution import parse_character, slug
from charactery.constitution.formats.plate import plate
from charactery.errors import BadData, CharacteryError
from charactery.models.speaker import Models
from charactery.share.opening import open_bundle
from charactery.share.packing import share
from charactery.studio.desk import Desk
from charactery.studio.gallery import Card, card, cards
from charactery.studio.guard import POLICY, UPLOADS
from charactery.studio.pages import Text, Texts
from charactery.studio.trainings import NAMED
from charactery.studio.views import shell

LARGEST = UPLOADS["/runs/open"]
# A report may be a stranger's: it runs nothing, asks for nothing, and cannot lead this page elsewhere.
REPORT = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox"
)
PARTS = {
    "report": "the report, in which answers are shown too", "figures": "the figures",
    "conversations": "what it said to held-out prompts", "card": "the character card",
    "modelfile": "the Modelfile for Ollama",
}  # fmt: skip


@lru_cache(64)
def _plate(text: str) -> bytes:
    return plate(parse_character(text))


def run_routes(desk: Desk, templates: jinja2.Environment) -> APIRouter:
    """`/runs` and what lies under it."""
    router, trainings, runs = APIRouter(), desk.trainings, desk.trainings.runs
    made, opening = tempfile.TemporaryDirectory(prefix="charactery-"), threading.Lock()

    def page(request: Request, template: str, **shown: Any) -> HTMLResponse:
        answer = HTMLResponse(templates.get_template(template).render(**shell(request), **shown))
        answer.headers["content-security-policy"] = f"{POLICY}; frame-src 'self'"
        return answer

    def one(request: Request, name: str) -> HTMLResponse:
        return shown(request, card(runs, name, trainings))

    def shown(request: Request, run: Card, later: bool = False) -> HTMLResponse:
        name = run.name
        return page(
            request, "run.html", run=run, lines=trainings.lines(name), parts=PARTS, talk=quote(run.subject), later=later
        )

    @router.get("/runs")
    def gallery(request: Request) -> Response:
        return page(request, "runs.html", runs=cards(runs, trainings), folder=runs, quote=quote)

    @router.post("/runs/open")
    def take_in(file: UploadFile, name: Text = "", base: Text = "") -> Response:
        given = file.filename or "the bundle"
        if (file.size or 0) > LARGEST:
            raise BadData(f"is larger than {LARGEST / 1e9:.0f} GB; `charactery open` takes it in a terminal", given)
        name = name.strip() or slug(Path(given).stem) or "character"
        if not NAMED.fullmatch(name):
            raise CharacteryError(f"{name[:80]!r} is no name for a run: letters, digits and . _ - make one")
        if (runs / name).exists() or name in trainings.names():
            raise CharacteryError(f"there is a run {name} already; open the bundle under another name")
        with tempfile.TemporaryDirectory() as folder, opening:
            path = Path(folder) / f"{slug(Path(given).stem) or 'bundle'}.zip"
            with path.open("wb") as out:
                shutil.copyfileobj(file.file, out)
            try:
                opened = open_bundle(path, Models("cpu"), runs / name, base.strip() or None)
            except CharacteryError as error:  # by the name that its owner knows
                if error.path == path:
                    error.path = given
                raise
        return HTMLResponse(templates.get_template("opened.html").render(
            name=name, warnings=opened.warnings, run=card(runs, name, trainings), talk=quote(str(opened.folder)),
        ))  # fmt: skip

    @router.get("/runs/{name}")
    def run(request: Request, name: str) -> Response:
        return one(request, name)

    @router.get("/runs/{name}/card.png")
    def plate_of(name: str) -> Response:
        """The picture of the run's character card."""
        card(runs, name, trainings)  # raises for a name that is none
        return Response(_plate((runs / name / "character.md").read_text(encoding="utf-8")), media_type="image/png")

    @router.get("/runs/{name}/progress")
    def progress(request: Request, name: str) -> Response:
        """The part of the page that changes while a run is at work; the whole page once it is not."""
        run = card(runs, name, trainings)
        answer = shown(request, run, later=run.state == "working")
        if run.state == "working":
            answer.headers.update({"hx-retarget": "#progress", "hx-reselect": "#progress"})
        return answer

    @router.post("/runs/{name}/stop")
    def stop(request: Request, name: str) -> Response:
        trainings.stop(name)
        return one(request, name)

    @router.post("/runs/{name}/go-on")
    def go_on(request: Request, name: str) -> Response:
        trainings.go_on(name)
        return one(request, name)

    @router.post("/runs/{name}/forget")
    def forget(name: str) -> Response:
        trainings.forget(name)
        return Response(status_code=204, headers={"hx-redirect": "/runs"})

    @router.get("/runs/{name}/report")
    def report(name: str) -> Response:
        run = card(runs, name, trainings)
        if not run.report:
            raise CharacteryError(f"{name} has no report yet")
        headers = {"content-security-policy": REPORT, "x-frame-options": "SAMEORIGIN"}
        return FileResponse(runs / name / "report.html", media_type="text/html", headers=headers)

    @router.post("/runs/{name}/bundle")
    def bundle(name: str, without: Texts) -> Response:
        card(runs, name, trainings)  # raises for a name that is none
        with tempfile.TemporaryDirectory(dir=made.name) as folder:
            path = share(runs / name, Path(folder) / f"{name}.zip", Models("cpu"), without)
            path.replace(Path(made.name) / path.name)
        size = (Path(made.name) / f"{name}.zip").stat().st_size / 1e6
        return HTMLResponse(templates.get_template("bundle.html").render(name=name, size=size))

    @router.get("/runs/{name}/bundle")
    def taken(name: str) -> Response:
        card(runs, name, trainings)
        path = Path(made.name) / f"{name}.zip"
        if not path.exists():
            raise CharacteryError(f"make the bundle of {name} first, on its page")
        return FileResponse(path, media_type="application/zip", filename=path.name)

    return router
