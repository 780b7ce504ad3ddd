"""Where conversations are kept: a file of the user's, a PostgreSQL server, or memory alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from charactery.conversations import schema
from charactery.errors import CharacteryError
from charactery.runs import disk_error

WAIT = 30  # seconds for another writer
PRIVATE = "sqlite://"


def default_place() -> str:
    """CHARACTERY_CONVERSATIONS, else a file in the user's data folder."""
    given = os.environ.get("CHARACTERY_CONVERSATIONS")
    return given or str(Path(platformdirs.user_data_dir("charactery")) / "conversations.db")


def open_engine(place: str) -> Engine:
    """An engine whose tables are there. Raises CharacteryError where the place cannot be used."""
    url = _url(place)
    try:
        if url == PRIVATE:  # one connection, for all threads in turn: a second would be another memory
            engine = create_engine(
                url, poolclass=QueuePool, pool_size=1, max_overflow=0, connect_args={"check_same_thread": False}
            )
        elif url.startswith("sqlite"):
            engine = create_engine(url, connect_args={"timeout": WAIT})
        else:
            engine = create_engine(url, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise CharacteryError(f"needs {error.name}: `pip install charactery[postgres]`", shown(place)) from None
    except (SQLAlchemyError, NoSuchModuleError, ValueError) as error:
        raise CharacteryError(f"is no file and no database's address ({_first(error)})", shown(place)) from None
    if url.startswith("sqlite"):
        event.listen(engine, "connect", _set_up)
        event.listen(engine, "begin", _begin)
    with writing(engine, shown(place)) as connection:
        schema.create(connection)
    return engine


def _url(place: str) -> str:
    if place == PRIVATE:
        return place
    scheme, found, rest = place.partition("://")
    if found:
        if scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
            raise CharacteryError(
                f"conversations are kept in a file or at postgresql://…, and not at {scheme}://", shown(place)
            )
        return f"postgresql+psycopg://{rest}"
    path = Path(place).expanduser()
    if path.is_dir():
        raise CharacteryError("is a folder; give a file in it", path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # for nobody else's eyes
    except OSError as error:
        raise disk_error(error, path) from error
    return f"sqlite:///{path.absolute()}"


def shown(place: str) -> str:
    """A place as it may be printed: without a password."""
    if place == PRIVATE:
        return "memory"
    scheme, found, rest = place.partition("://")
    before, at, host = rest.rpartition("@")
    return f"{scheme}://{before.partition(':')[0]}{at}{host}" if found else place


def _set_up(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # `_begin` says how a transaction begins
    connection.create_function("folded", 1, _folded, deterministic=True)
    for pragma in ("foreign_keys = on", "temp_store = memory", "journal_mode = wal"):
        connection.execute(f"pragma {pragma}")


def _folded(text: str | None) -> str | None:
    return None if text is None else text.casefold()


def _begin(connection: Connection) -> None:
    """A writer takes the lock at once, rather than find out half-way that another has it."""
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("begin immediate" if writes else "begin")


@contextmanager
def writing(engine: Engine, place: str) -> Iterator[Connection]:
    """A transaction that writes: whole or not at all."""
    with _sentences(place), engine.connect() as plain:
        connection = plain.execution_options(writes=True)
        with connection.begin():
            yield connection


@contextmanager
def reading(engine: Engine, place: str) -> Iterator[Connection]:
    """A connection that sees one state of the store."""
    with _sentences(place), engine.connect() as connection:
        yield connection


@contextmanager
def _sentences(place: str) -> Iterator[None]:
    """What a database cannot do, as a sentence about the place."""
    try:
        yield
    except DBAPIError as error:
        said = _first(error.orig or error)
        if "is full" in said or "No space left" in said:
            mend = "the disk is full, and this was not kept; all that was said before is. Free some space"
        elif "locked" in said:
            mend = f"another program has been writing for {WAIT} seconds; stop it, or try again"
        elif "not a database" in said or "malformed" in said:
            mend = "is damaged, or no file of conversations; put it aside and restore a copy"
        elif "readonly" in said or "read-only" in said or "unable to open" in said:
            mend = f"cannot be written ({said}); see to its permissions"
        elif schema.NEVER in said:
            mend = f"{schema.NEVER}: an edit is a turn beside the old one"
        elif schema.VOTED in said:
            mend = f"{schema.VOTED}: vote again, and the later one counts"
        else:
            mend = said
        raise CharacteryError(mend, place) from error


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
