"""The tables, and the triggers that hold what was said: no row of it is ever changed or taken away.

A turn is a row in `nodes` (who spoke, after what, and how the answer was drawn) and one in `texts` (what was said, and
how it ended), which is written last. While an answer comes, what there is of it lies in `pieces`; a node that has no
row in `texts` is half an answer, under way or cut off by a kill. `cursors` and `marks` lie beside and may change;
`votes`, which of two answers was preferred, lie beside and may not.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    inspect,
    select,
)

from charactery.errors import CharacteryError

VERSION = 2  # 1 had no votes
ROLES = ("system", "user", "assistant", "tool")
ENDINGS = ("end", "length", "stopped", "error")
KINDS = ("bookmark", "note", "tag")
CHOICES = ("first", "second", "neither")

metadata = MetaData()
NUMBER = BigInteger().with_variant(Integer, "sqlite")


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    return CheckConstraint(f"{column} in ({', '.join(repr(v) for v in values)})")


about = Table("charactery", metadata, Column("version", Integer, nullable=False))
conversations = Table(
    "conversations",
    metadata,
    Column("number", NUMBER, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("title", Text, nullable=False),
    Column("time", Double, nullable=False),
    sqlite_autoincrement=True,
)
nodes = Table(
    "nodes",
    metadata,
    Column("number", NUMBER, primary_key=True),  # the order in which they were written
    Column("id", String, nullable=False, unique=True),
    Column("conversation", String, ForeignKey(conversations.c.id), nullable=False),
    Column("parent", String),
    Column("role", String, nullable=False),
    Column("time", Double, nullable=False),  # seconds since 1970
    Column("subject", Text, nullable=False),
    Column("weights", String, nullable=False),
    Column("prompt_kept", Integer),
    Column("prompt_rest", Text),
    Column("sampler", Text),  # JSON
    Column("seed", BigInteger),
    UniqueConstraint("conversation", "id"),
    # a parent is of the same conversation, so no path leads from one into another
    ForeignKeyConstraint(["conversation", "parent"], ["nodes.conversation", "nodes.id"]),
    _one_of("role", ROLES),
    Index("nodes_of_conversation", "conversation", "number"),
    Index("nodes_of_parent", "parent", "number"),
    sqlite_autoincrement=True,
)
texts = Table(
    "texts",
    metadata,
    Column("node", String, ForeignKey(nodes.c.id), primary_key=True),
    Column("text", Text, nullable=False),
    Column("ending", String, nullable=False),
    _one_of("ending", ENDINGS),
)
pieces = Table(
    "pieces",
    metadata,
    Column("number", NUMBER, primary_key=True),
    Column("node", String, ForeignKey(nodes.c.id), nullable=False, index=True),
    Column("text", Text, nullable=False),
    sqlite_autoincrement=True,
)
cursors = Table(
    "cursors",
    metadata,
    Column("conversation", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("node", String, nullable=False),
    ForeignKeyConstraint(["conversation", "node"], ["nodes.conversation", "nodes.id"]),
)
marks = Table(
    "marks",
    metadata,
    Column("number", NUMBER, primary_key=True),
    Column("node", String, ForeignKey(nodes.c.id), nullable=False, index=True),
    Column("kind", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("time", Double, nullable=False),
    _one_of("kind", KINDS),
    sqlite_autoincrement=True,
)
votes = Table(
    "votes",
    metadata,
    Column("number", NUMBER, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("conversation", String, nullable=False, index=True),
    Column("first", String, nullable=False),  # the answers, as they were shown
    Column("second", String, nullable=False),
    Column("choice", String, nullable=False),
    Column("time", Double, nullable=False),
    ForeignKeyConstraint(["conversation", "first"], ["nodes.conversation", "nodes.id"]),
    ForeignKeyConstraint(["conversation", "second"], ["nodes.conversation", "nodes.id"]),
    _one_of("choice", CHOICES),
    sqlite_autoincrement=True,
)

# What may not be done: table, deed, when (a condition on the row; "" is always), and what the database says.
NEVER = "what was said is never changed"
VOTED = "a vote is never changed"
_WHOLE = "exists (select 1 from texts where texts.node = {row}.node)"
_KNOWN = "exists (select 1 from {table} where {table}.{key} = new.{key})"
FORBIDDEN = (
    ("nodes", "update", "", NEVER),
    ("nodes", "delete", "", NEVER),
    ("nodes", "insert", _KNOWN.format(table="nodes", key="id"), NEVER),  # else INSERT OR REPLACE would delete
    ("texts", "update", "", NEVER),
    ("texts", "delete", "", NEVER),
    ("texts", "insert", _KNOWN.format(table="texts", key="node"), NEVER),
    ("pieces", "update", "", NEVER),
    ("pieces", "delete", f"not {_WHOLE.format(row='old')}", "a half answer is kept until it is whole"),
    ("pieces", "insert", _WHOLE.format(row="new"), "this answer is whole"),
    ("conversations", "delete", "", NEVER),
    ("conversations", "update", "new.id <> old.id or new.time <> old.time", NEVER),
    ("votes", "update", "", VOTED),
    ("votes", "delete", "", VOTED),
    ("votes", "insert", _KNOWN.format(table="votes", key="id"), VOTED),
)


def create(connection: Connection) -> None:
    """Make the tables that are not there, in the caller's transaction. Raises CharacteryError for a newer store."""
    postgres = connection.dialect.name == "postgresql"
    if postgres:  # two processes may come at once; on SQLite the transaction is the lock
        connection.exec_driver_sql("select pg_advisory_xact_lock(20107)")
    old = inspect(connection).has_table(about.name)
    if old:
        kept = connection.execute(select(about.c.version)).scalar()
        if kept == VERSION:
            return
        if kept != 1:
            raise CharacteryError(f"these conversations are of version {kept}, and {VERSION} is read here: update it")
    metadata.create_all(connection)
    for place, (table, deed, when, said) in enumerate(FORBIDDEN):
        if old and table != votes.name:
            continue
        for statement in (_postgres if postgres else _sqlite)(f"{table}_{deed}_{place}", table, deed, when, said):
            connection.exec_driver_sql(statement)
    connection.execute(about.update().values(version=VERSION) if old else about.insert().values(version=VERSION))


def _sqlite(name: str, table: str, deed: str, when: str, said: str) -> list[str]:
    condition = f"when {when} " if when else ""
    return [f"create trigger {name} before {deed} on {table} {condition}begin select raise(abort, '{said}'); end"]


def _postgres(name: str, table: str, deed: str, when: str, said: str) -> list[str]:
    test = f"if {when} then {{}} end if;" if when else "{}"
    refuse = test.format(f"raise exception '{said}';")
    row = "old" if deed == "delete" else "new"
    statements = [
        f"create function {name}() returns trigger language plpgsql as $$ begin {refuse} return {row}; end $$",
        f"create trigger {name} before {deed} on {table} for each row execute function {name}()",
    ]
    if deed == "delete" and not when:
        statements.append(f"create trigger {name}_all before truncate on {table} execute function {name}()")
    return statements
