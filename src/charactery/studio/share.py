"""Share: a branch or a comparison as a file, a talk for another program, and files of other programs taken in."""

import re
import shutil
import tempfile
import uuid
from pathlib import Path

from fastapi import APIRouter, Request, UploadFile
from fastapi.responses import HTMLResponse, Response

from charactery.conversations import Added, cursor, put
from charactery.conversations.formats import FORMATS, export_text, file_name, read_file
from charactery.errors import BadData
from charactery.share.files import KINDS, as_files, zipped
from charactery.share.transcript import as_markdown, transcript
from charactery.studio.guard import UPLOADS
from charactery.studio.pages import Ids, Pages, Words, address

LARGEST = UPLOADS["/import"]


def share_routes(pages: Pages) -> APIRouter:
    """The addresses under which talks leave and come in."""
    router = APIRouter()
    desk, templates, drawn = pages.desk, pages.templates, pages.drawn

    @router.get("/{place}/{conversation}/share")
    def share(
        place: str, conversation: uuid.UUID, at: uuid.UUID, of: Ids, without: Words, kind: str = "html",
        dark: bool = False,
    ) -> Response:  # fmt: skip
        shared = transcript(desk.store(place), str(at), [str(id) for id in of], without)
        name = re.sub(r"[^a-z0-9]+", "-", shared.title.lower()).strip("-")[:60] or "talk"
        files = as_files(shared, kind, name, dark)
        if len(files) > 1:
            return _file(zipped(files), f"{name}.zip", "application/zip")
        name, whole = files.popitem()
        return _file(whole, name, KINDS[kind])

    @router.get("/{place}/{conversation}/markdown")
    def markdown(place: str, conversation: uuid.UUID, at: uuid.UUID, of: Ids, without: Words) -> Response:
        text = as_markdown(transcript(desk.store(place), str(at), [str(id) for id in of], without))
        return HTMLResponse(templates.get_template("markdown.html").render(text=text))

    @router.get("/{place}/{conversation}/export")
    def export(place: str, conversation: uuid.UUID, format: str = "charactery") -> Response:
        tree = desk.store(place).tree(str(conversation))
        text, _ = export_text([tree], format)
        return _file(text, file_name(tree, FORMATS[format].suffix), "application/json")

    @router.post("/{place}/import")
    def take_in(request: Request, place: str, file: UploadFile) -> Response:
        name = file.filename or "the file"
        if (file.size or 0) > LARGEST:
            raise BadData(f"is larger than {LARGEST / 1e6:.0f} MB; `charactery conversations import` reads it", name)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            with path.open("wb") as out:
                shutil.copyfileobj(file.file, out)
            try:
                contents = read_file(path, LARGEST)
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

    return router


def _file(content: str | bytes, name: str, kind: str) -> Response:
    """A file to be saved, under a name that every header can carry."""
    safe = name.encode("ascii", "ignore").decode().lstrip("-.") or "talk"
    return Response(content, media_type=kind, headers={"content-disposition": f'attachment; filename="{safe}"'})
