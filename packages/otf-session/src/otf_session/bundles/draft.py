"""The record of a session while it is being copied: row by row into a database of our own.

What is copied is the rows and nothing else, so that the outcome depends on them alone: the same
rows make the same file, byte for byte. That holds for what is exported, and keeps out of a home
whatever else a database from elsewhere may have in it.
"""

import contextlib
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import (
    AbstractSet,
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Protocol,
    Sequence,
    Tuple,
    Type,
)

import msgspec
import peewee

from .. import migrations
from ..events import AnyEvent, CheckpointSaved
from .work import Work, portions

#: "otfs": which kind of SQLite file it is, for tools that look.
APPLICATION_ID = 0x6F746673

Row = Tuple[Any, ...]


class Rows(Protocol):
    """The rows that a query finds, for as long as they are not closed."""

    def __iter__(self) -> Iterator[Row]: ...

    def close(self) -> None:
        """Have done with the query."""


#: Executes a query of the database that is copied.
Select = Callable[[str], Rows]
#: Looks at a row of a table before it is copied; what it raises ends the copying.
Check = Callable[[str, Row], None]

_ROWS = 200  # rows between two looks at whether the work was cancelled
_encoder = msgspec.json.Encoder()
_saved = msgspec.json.Decoder(CheckpointSaved)


class NotWritten(OSError):
    """The database that is being made cannot be written: the disk is full, or breaks."""


class Table(NamedTuple):
    """A table of the schema, with its columns and those of its key."""

    name: str
    columns: List[str]
    key: List[str]

    @property
    def query(self) -> str:
        """Selects all rows in the order of their keys."""
        listed = ", ".join(f'"{name}"' for name in self.columns)
        order = ", ".join(f'"{name}"' for name in self.key)
        return f'SELECT {listed} FROM "{self.name}" ORDER BY {order}'  # noqa: S608


def make(path: Path, schema: int = migrations.NEWEST) -> None:
    """An empty database of this schema; the file must not exist. Raises `NotWritten`."""
    database = peewee.SqliteDatabase(str(path), pragmas={"synchronous": "off"})
    try:
        with contextlib.closing(database):
            migrations.migrate(database, schema)
    except peewee.PeeweeException as error:
        raise NotWritten(f"its database cannot be made ({error})") from error


def tables(connection: sqlite3.Connection) -> List[Table]:
    """The tables of a database, in the order in which they were made."""
    made = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid"
    found = []
    for (name,) in connection.execute(made).fetchall():
        columns = connection.execute(f'PRAGMA table_info("{name}")').fetchall()
        # The last of a column's properties is its place in the key, from 1; 0 where it has none.
        key = sorted((place, column) for _, column, *_, place in columns if place)
        found.append(Table(name, [each[1] for each in columns], [each for _, each in key]))
    return found


class Draft:
    """A database in the making, for as long as the `with` lasts. No other process looks at it.

    Raises `NotWritten` where the disk is full, and `sqlite3.IntegrityError` where a row does not
    fit: neither says anything of the database that is copied.
    """

    def __init__(self, path: Path, work: Work) -> None:
        make(path)
        self._work = work
        self._connection = sqlite3.connect(str(path), isolation_level=None)
        self._tables = tables(self._connection)

    def __enter__(self) -> "Draft":
        # Where it fails it is thrown away: neither a journal nor the disk's word is needed.
        for pragma in ("journal_mode = off", "synchronous = off", "temp_store = file"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._connection.execute("BEGIN")
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._connection.close()

    def copy(
        self,
        select: Select,
        *,
        runs: Optional[AbstractSet[str]] = None,
        check: Optional[Check] = None,
    ) -> None:
        """Copy every row that `select` finds, or those of `runs` and of no run at all."""
        for table in self._tables:
            listed = ", ".join(f'"{name}"' for name in table.columns)
            marks = ", ".join("?" * len(table.columns))
            insert = f'INSERT INTO "{table.name}" ({listed}) VALUES ({marks})'  # noqa: S608
            with contextlib.closing(select(table.query)) as found:
                rows = self._wanted(table, found, runs, check)
                # Read first and written then, so that a fault is known to be the one's or the other's.
                for some in portions(rows, _ROWS):
                    self._work.did(0)
                    with _writing():
                        self._connection.executemany(insert, some)
        if runs is not None:
            with _writing():
                self._number_anew()

    def _wanted(
        self,
        table: Table,
        rows: Iterable[Row],
        runs: Optional[AbstractSet[str]],
        check: Optional[Check],
    ) -> Iterator[Row]:
        owner = _owner(table) if runs is not None else None
        for row in rows:
            if check is not None:
                check(table.name, row)
            if owner is None or not row[owner] or row[owner] in (runs or ()):
                yield row

    def _number_anew(self) -> None:
        """Close the gaps that left-out rows leave: readers count on there being none."""
        with_seq = [table.name for table in self._tables if "seq" in table.columns]
        # A batch has its number once, and its columns have it again.
        numbered = " UNION ".join(f'SELECT seq FROM "{name}"' for name in with_seq)  # noqa: S608
        run = self._connection.execute
        run("CREATE TEMP TABLE numbering (old INTEGER PRIMARY KEY, new INTEGER NOT NULL)")
        run(f"INSERT INTO numbering SELECT seq, row_number() OVER (ORDER BY seq) FROM ({numbered})")  # noqa: S608
        for name in with_seq:
            # By way of numbers that nobody has, so that no two are ever the same.
            new = "SELECT -new FROM numbering WHERE old = seq"
            run(f'UPDATE "{name}" SET seq = ({new})')  # noqa: S608
            run(f'UPDATE "{name}" SET seq = -seq')  # noqa: S608
        run("DROP TABLE numbering")

    def move_checkpoints(self, paths: Dict[str, str]) -> None:
        """Say of checkpoints, by `key_of`, that their files lie elsewhere in the session."""
        rows = self._connection.execute(
            "SELECT seq, body FROM event WHERE kind = 'checkpoint-saved' ORDER BY seq"
        ).fetchall()
        for seq, body in rows:
            event = _saved.decode(body)
            path = paths.get(key_of(event), event.path)
            if path != event.path:
                moved = msgspec.structs.replace(event, path=path)
                self._connection.execute(
                    "UPDATE event SET body = ? WHERE seq = ?",
                    (_encoder.encode(moved).decode(), seq),
                )

    def append(self, events: Sequence[AnyEvent]) -> None:
        """Append events that change neither runs nor series."""
        last = self.last_seq()
        self._connection.executemany(
            "INSERT INTO event (seq, kind, run, body) VALUES (?, ?, ?, ?)",
            [
                (
                    seq,
                    type(event).__struct_config__.tag,
                    getattr(event, "run", ""),
                    _encoder.encode(event).decode(),
                )
                for seq, event in enumerate(events, last + 1)
            ],
        )

    def last_seq(self) -> int:
        """The number of the newest event."""
        newest = "SELECT max(seq) AS seq FROM"
        query = f"{newest} event UNION ALL {newest} log UNION ALL {newest} metric_batch"
        return int(self._connection.execute(f"{newest} ({query})").fetchone()[0] or 0)

    def keep(self) -> None:
        """Make the file what a session's database is, ready for its readers and its trainer."""
        self._connection.execute("COMMIT")
        self._connection.execute("PRAGMA synchronous = full")
        self._connection.execute("PRAGMA journal_mode = wal")

    def compact(self, path: Path) -> None:
        """Write the rows into a file of their own, without a gap, which must not exist."""
        self._connection.execute("COMMIT")
        self._connection.execute("VACUUM INTO ?", (str(path),))


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise NotWritten(str(error)) from error


def set_session(path: Path, session_id: str, project: str, created: float) -> None:
    """Say in an empty database which session it is of. `created` is in seconds."""
    with contextlib.closing(sqlite3.connect(str(path), isolation_level=None)) as connection:
        row = (session_id, project, created)
        connection.execute("INSERT INTO session (id, project, created) VALUES (?, ?, ?)", row)


def set_id(path: Path, session_id: str) -> None:
    """Give the session whose database is at `path` another id."""
    with contextlib.closing(sqlite3.connect(str(path), isolation_level=None)) as connection:
        connection.execute("UPDATE session SET id = ?", (session_id,))


def key_of(event: CheckpointSaved) -> str:
    """What a checkpoint is known by: its id, or its path where it is older than ids."""
    return event.id or event.path


def _owner(table: Table) -> Optional[int]:
    """The place of the column that says which run a row belongs to."""
    column = "name" if table.name == "run" else "run"
    return table.columns.index(column) if column in table.columns else None
