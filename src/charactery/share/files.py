"""A transcript as files of a kind: a page, pictures, a PDF, markdown, or page and pictures at once."""

import io
import zipfile
from collections.abc import Mapping

from charactery.errors import CharacteryError
from charactery.share.transcript import Transcript, as_html, as_markdown

KINDS = {
    "html": "text/html", "png": "image/png", "pdf": "application/pdf", "md": "text/markdown", "zip": "application/zip",
}  # fmt: skip


def as_files(shared: Transcript, kind: str, name: str, dark: bool = False) -> dict[str, bytes]:
    """Files of a kind of KINDS by their names: NAME.kind, or NAME-1.png and on where one picture would be too tall.

    A zip holds the page, the pictures, and NAME-recipe.json with how it was drawn, unless that is left out.
    `dark` is for pictures and PDF; a page goes by its reader's choice. Raises CharacteryError for another kind.
    """
    if kind not in KINDS:
        raise CharacteryError(f"a talk cannot be shared as {kind!r}; it can as {', '.join(KINDS)}")
    if kind == "zip":
        files = as_files(shared, "html", name) | as_files(shared, "png", name, dark)
        if shared.recipe:
            files[f"{name}-recipe.json"] = shared.recipe.encode("utf-8", "replace")
        return {f"{name}.zip": zipped(files)}
    if kind in ("html", "md"):
        text = as_html(shared) if kind == "html" else as_markdown(shared)
        return {f"{name}.{kind}": text.encode("utf-8", "replace")}
    from charactery.share.pictures import as_pdf, as_pictures  # not before: both are much to load

    pages = as_pictures(shared, dark) if kind == "png" else [as_pdf(shared, dark)]
    if len(pages) == 1:
        return {f"{name}.{kind}": pages[0]}
    return {f"{name}-{n:0{len(str(len(pages)))}}.{kind}": page for n, page in enumerate(pages, 1)}


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Files as one zip file, the same for the same files."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for name, data in files.items():
            file.writestr(zipfile.ZipInfo(name), data)
    return packed.getvalue()
