"""The character files that a writer works on: those of one folder, and none outside it."""

import fcntl
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from charactery.constitution import BUNDLED, Character, load_character
from charactery.constitution.library import bundled_names
from charactery.constitution.parse import MAX_BYTES
from charactery.errors import BadCharacter, CharacteryError
from charactery.models.subject import DEFAULT
from charactery.runs import disk_error, write_text

TEMPLATE = "_template"
NAMED = re.compile(r"[^\W_][\w ()'-]{0,79}")


class Changed(CharacteryError):
    """A file that has another text than the one it was opened with; `theirs` is what it holds."""

    def __init__(self, path: Path, theirs: str) -> None:
        super().__init__(
            "has changed since you opened it, so nothing was written. Save yours under another name, or load the "
            "page anew to go on from what is there",
            path,
        )
        self.theirs = theirs


@dataclass(frozen=True)
class Listed:
    """A file in a list: its name, and the character in it or why there is none."""

    name: str
    character: Character | None
    fault: str = ""


def text_hash(text: str) -> str:
    """SHA-256 of a text as a file holds it, whatever its line ends."""
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()


class Shelf:
    """A folder of character files. Names are without `.md`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Where a file of this name lies. Raises CharacteryError for a name that leads elsewhere, or is a link."""
        if not NAMED.fullmatch(name) or name != name.strip():
            raise CharacteryError(
                f"{name[:80]!r} is no name for a file here: letters, digits, spaces and - _ ' ( ) make one, "
                "beginning with a letter or digit, without .md"
            )
        path = self.folder / f"{name}.md"
        if path.is_symlink():
            raise CharacteryError("is a link; open the file that it leads to", path)
        return path

    def listed(self) -> list[Listed]:
        """The files there are, by name."""
        return [self._listed(name) for name in self.names()]

    def names(self) -> list[str]:
        """Their names, characters or not yet."""
        names = sorted(path.stem for path in self.folder.glob("*.md") if path.is_file() and not path.is_symlink())
        return [name for name in names if NAMED.fullmatch(name) and name != "README"]

    def subject(self, name: str) -> str:
        """Who one talks to to hear this character: the embedded model with the file in its prompt."""
        return f"{DEFAULT}+{self.path(name)}"

    def _listed(self, name: str) -> Listed:
        try:
            return Listed(name, load_character(self.path(name)))
        except BadCharacter as error:
            return Listed(name, None, f"line {error.line}: {error.message}" if error.line else error.message)
        except OSError as error:  # it costs no other file its place
            return Listed(name, None, f"cannot be read ({error.strerror})")

    def free(self, name: str) -> str:
        """This name, or the first with a number behind it that is not taken."""
        taken = {path.stem for path in self.folder.glob("*.md")}
        return next(n for n in (name, *(f"{name}-{k}" for k in range(2, len(taken) + 3))) if n not in taken)

    def read(self, name: str) -> str:
        """A file's text. Raises CharacteryError where there is none, or it is no text."""
        path = self.path(name)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise BadCharacter(f"is larger than {MAX_BYTES / 1e6:.0f} MB, as no character is", path)
            return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        except FileNotFoundError:
            raise BadCharacter("no such file", path) from None
        except UnicodeDecodeError as error:
            raise BadCharacter(f"is not UTF-8 text (byte {error.start}). Save it as UTF-8", path) from None
        except OSError as error:
            raise BadCharacter(f"cannot be read ({error.strerror})", path) from None

    def save(self, name: str, text: str, base: str) -> None:
        """Write a file whole or not at all.

        `base` is the hash of the text it was opened with, empty for a file that is not to be there yet. Raises Changed
        where it holds another, and CharacteryError for a text or name that cannot be kept.
        """
        path = self.path(name)
        text = text.replace("\r\n", "\n")
        if len(text.encode()) > MAX_BYTES:
            raise CharacteryError(f"a character is text of at most {MAX_BYTES / 1e6:.0f} MB, and this is longer")
        with self._held():
            there = self.read(name) if path.exists() else None
            if there is None and base:
                raise CharacteryError("is gone, so nothing was written. Save yours under a new name", path)
            if there is not None and not base:
                raise CharacteryError("is there already, so nothing was written. Give another name", path)
            if there is not None and text_hash(there) != base:
                raise Changed(path, there)
            write_text(path, text)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Against other pages, of this studio or of another."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / ".lock").open("a")
        except OSError as error:
            raise disk_error(error, self.folder) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def bundled() -> list[Listed]:
    """The characters that come with Charactery."""
    return [Listed(name, load_character(BUNDLED / f"{name}.md")) for name in bundled_names()]


def bundled_text(name: str) -> str:
    """The file of a bundled character, or the template's. Raises CharacteryError where there is none."""
    if name not in (*bundled_names(), TEMPLATE):
        raise CharacteryError(f"there is no bundled character {name[:80]!r}; there are {', '.join(bundled_names())}")
    return (BUNDLED / f"{name}.md").read_text(encoding="utf-8")
