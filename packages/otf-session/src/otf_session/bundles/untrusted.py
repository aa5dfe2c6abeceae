"""A session's database that comes from elsewhere: looked at with care before a row is believed.

It is opened read-only. It has to be sound, and to have our schema and nothing else: no trigger or
view but our own. Its rows have to be what our own code writes.
"""

import contextlib
import sqlite3
from functools import cache
from pathlib import Path
from typing import FrozenSet, Generator, Iterator, List, NamedTuple, Tuple

import peewee

from .. import migrations
from ..errors import BundleRefused, BundleTooNew
from ..events import CheckpointSaved
from ..home import DATABASE
from ..queries import kept_checkpoints
from . import draft, rows

#: The longest text in a row, in bytes: what has a longer one was not written by us.
_LONGEST = 256 << 20
#: How many faults SQLite is asked to list.
_FAULTS = 3

#: A table, an index or a view: what it is, and everything it was made with.
Object = Tuple[str, str, str, str]


class Contents(NamedTuple):
    """What a database says it holds."""

    session_id: str
    project: str
    runs: List[str]
    checkpoints: List[CheckpointSaved]


class Source:
    """A database that is open, has our schema and is sound; its rows are still to be checked."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self.checks = rows.Checks(connection)

    def select(self, query: str) -> Generator[draft.Row, None, None]:
        """The rows that a query finds."""
        with refusing():
            yield from self._connection.execute(query)

    def contents(self) -> Contents:
        """What it holds, after each row has been checked."""
        with refusing():
            rows.check_numbers(self._connection)
            return contents(self._path)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Source]:
    """The database at `path`; one of an older schema is brought to the newest in its place.

    It is looked at first. Raises `BundleRefused` or `BundleTooNew`.
    """
    with refusing(), contextlib.closing(read_only(path)) as connection:
        version = check_schema(connection)
    if version < migrations.NEWEST:
        with refusing(), contextlib.closing(peewee.SqliteDatabase(str(path))) as database:
            migrations.migrate(database)
    with contextlib.closing(read_only(path)) as connection:
        yield Source(path, connection)


def contents(path: Path) -> Contents:
    """What a database of the newest schema, whose rows have been checked, says it holds."""
    with contextlib.closing(peewee.SqliteDatabase(_address(path), uri=True)) as database:
        sessions = database.execute_sql("SELECT id, project FROM session").fetchall()
        if len(sessions) != 1:
            raise BundleRefused(f"Its session.sqlite holds {len(sessions)} sessions, and not one.")
        runs = [name for (name,) in database.execute_sql("SELECT name FROM run").fetchall()]
        ((session_id, project),) = sessions
        return Contents(session_id, project, runs, kept_checkpoints(database))


def _address(path: Path) -> str:
    # Nobody writes it: neither locks nor files beside it are needed.
    return f"{path.absolute().as_uri()}?mode=ro&immutable=1"


def read_only(path: Path) -> sqlite3.Connection:
    """A connection through which nothing is written, and no code of the database's own runs."""
    connection = sqlite3.connect(_address(path), uri=True, isolation_level=None)
    # Python limits lengths since 3.11.
    if hasattr(connection, "setlimit"):
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)  # type: ignore[attr-defined]
    for pragma in ("trusted_schema = off", "cell_size_check = on", "query_only = on"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def check_schema(connection: sqlite3.Connection) -> int:
    """The number of the database's schema, which is ours; it is also found to be sound."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != draft.APPLICATION_ID or version < 1:
        raise BundleRefused("Its session.sqlite is not one of OnTheFly.")
    if version > migrations.NEWEST:
        raise BundleTooNew(
            f"The bundle's session has the schema {version}, and this version of OnTheFly knows "
            f"schemas up to {migrations.NEWEST}. Upgrade it: pip install --upgrade onthefly-ai"
        )
    different = sorted(_schema(connection) ^ _our_schema(version))
    if different:
        kind, name, *_ = different[0]
        raise BundleRefused(
            f"Its session.sqlite has not the schema {version} of OnTheFly: the {kind} '{name}' "
            "is another, or should not be there, or is missing."
        )
    found = faults(connection)
    if found:
        raise BundleRefused(f"Its session.sqlite is damaged: {'; '.join(found)}.")
    return int(version)


def faults(connection: sqlite3.Connection) -> List[str]:
    """What SQLite finds wrong with a database: some of it, or nothing."""
    lines = connection.execute(f"PRAGMA integrity_check({_FAULTS})").fetchall()
    return [text for (text,) in lines if text != "ok"]


@cache
def _our_schema(version: int) -> FrozenSet[Object]:
    database = peewee.SqliteDatabase(":memory:")
    with database.connection_context():
        migrations.migrate(database, version)
        return _schema(database.connection())


def _schema(connection: sqlite3.Connection) -> FrozenSet[Object]:
    query = "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master"
    # SQLite's versions may differ in where they break a line.
    return frozenset(
        (kind, name, table, " ".join(sql.split()))
        for kind, name, table, sql in connection.execute(query).fetchall()
    )


@contextlib.contextmanager
def refusing(name: str = DATABASE) -> Iterator[None]:
    """Say of whatever SQLite finds wrong with the bundle's database that the bundle is."""
    try:
        yield
    except (sqlite3.Error, peewee.PeeweeException) as error:
        raise BundleRefused(f"Its {name} cannot be read: {error}.") from error
