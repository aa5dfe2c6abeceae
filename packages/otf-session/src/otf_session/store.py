"""The store of one session: opened by its trainer to append, by everyone else to read."""

import contextlib
import os
import sqlite3
import time
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Dict, Iterator, List, Optional, Sequence, Type

import msgspec
import peewee

from . import access, migrations, projections, statements
from .damage import diagnosis, missing_bytes
from .errors import SchemaTooOld, StoreDamaged
from .events import AnyEvent, LogLine, Metrics
from .home import DATABASE, Home
from .liveness import is_alive
from .models import (
    EventRow,
    LogRow,
    MetricBatchRow,
    MetricColumnRow,
    SessionRow,
)

_json = msgspec.json.Encoder()


class SessionStore:
    """A session opened for appending. One process has it so, and one thread of it appends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._database = peewee.SqliteDatabase(
            str(folder / DATABASE),
            pragmas={"journal_mode": "wal", "synchronous": "normal", "foreign_keys": 1},
            timeout=5.0,
        )
        with storage_errors(folder):
            migrations.migrate(self._database)
            self.last_seq = newest_seq(self._database)
            self._database.close()

    @classmethod
    def create(cls, home: Home, project: str) -> "SessionStore":
        """A new session in a folder of its own under `home`."""
        # Before its id is made, so that both say the same of which session is the newest.
        created = time.time()

        def fill(folder: Path, session_id: str) -> None:
            database = cls(folder)._database  # noqa: SLF001
            row = {"id": session_id, "project": project, "created": created}
            with database.connection_context():
                SessionRow.insert(row).execute(database)

        return cls(home.new_session(fill))

    @property
    def id(self) -> str:
        """The session's id, which is its folder's name."""
        return self.folder.name

    @property
    def checkpoints(self) -> Path:
        """The folder for the session's checkpoints."""
        return self.folder / "checkpoints"

    def append(self, events: Sequence[AnyEvent]) -> int:
        """Append events in one transaction; the `seq` of the first of them is returned.

        Raises `peewee.DatabaseError` where that fails; then none of them has been appended.
        """
        first = self.last_seq + 1
        database = self._database
        with database.atomic("IMMEDIATE"):
            self._insert(database, first, events)
            projections.apply(database, first, events)
        self.last_seq += len(events)
        return first

    def close(self) -> None:
        """Close this thread's connection; the WAL is folded into the database by SQLite."""
        self._database.close()

    def _insert(self, database: Any, first: int, events: Sequence[AnyEvent]) -> None:
        rows: List[Dict[str, Any]] = []
        logs: List[Dict[str, Any]] = []
        batches: List[Dict[str, Any]] = []
        columns: List[Dict[str, Any]] = []
        for seq, event in enumerate(events, first):
            if isinstance(event, Metrics):
                batches.append(_batch_row(seq, event))
                columns.extend(_column_rows(seq, event))
            elif isinstance(event, LogLine):
                logs.append(_log_row(seq, event))
            else:
                rows.append(_event_row(seq, event))
        statements.insert(database, EventRow, rows)
        statements.insert(database, LogRow, logs)
        statements.insert(database, MetricBatchRow, batches)
        statements.insert(database, MetricColumnRow, columns)


class SessionReader:
    """A session opened for reading, by any process at any time. Use it as a context manager.

    All reads inside one `with` see the same state. A session of an older schema is brought to the
    newest one first, also while its trainer has it open: what migrations add harms no older writer.
    """

    #: Executed on every connection before anything is read.
    _pragmas: ClassVar[Dict[str, Any]] = {}

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = peewee.SqliteDatabase(None)
        self._errors = contextlib.ExitStack()

    def __enter__(self) -> "SessionReader":
        with storage_errors(self.folder):
            try:
                if self._begin() < migrations.NEWEST:
                    self.database.close()
                    self._upgrade()
                    self._begin()
            except BaseException:
                self.database.close()
                raise
        self._errors.enter_context(storage_errors(self.folder))
        return self

    def _begin(self) -> int:
        """Begin the one read transaction; the schema's number is returned."""
        *others, last = access.ways(self.folder)
        for way in others:
            try:
                return self._begin_by(way)
            except peewee.OperationalError as error:
                self.database.close()
                if not access.may_try_another(self.folder, error):
                    raise
        return self._begin_by(last)

    def _begin_by(self, way: access.Access) -> int:
        pragmas = {**way.pragmas, **self._pragmas}
        self.database.init(way.uri(self.folder), uri=True, timeout=5, pragmas=pragmas)
        self.database.connect()
        self.database.begin()
        found = migrations.check(self.database)
        # The row is missing where the trainer was killed while it made the session.
        if found == 0 or not SessionRow.select().bind(self.database).exists():
            seen = diagnosis(self.folder)
            raise StoreDamaged(f"{self.folder / DATABASE} holds no session. {seen}".rstrip())
        return found

    def _upgrade(self) -> None:
        _upgrade(self.folder)

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.database.rollback()
        self.database.close()
        self._errors.__exit__(kind, error, trace)


class DamagedReader(SessionReader):
    """A session whose database is cut short, read as far as it reaches.

    What is missing is found when a query comes to it, which then raises `peewee.DatabaseError`.
    """

    # With it SQLite opens a file that is shorter than its header says. Nothing is written.
    _pragmas: ClassVar[Dict[str, Any]] = {"writable_schema": 1}

    def _upgrade(self) -> None:
        raise StoreDamaged(
            f"The session in {self.folder} was recorded by an older version of OnTheFly, and is "
            f"not brought up to date, because it is damaged. {diagnosis(self.folder)}".rstrip()
        )


def _upgrade(folder: Path) -> None:
    """Bring a session of an older schema to the newest one; its trainer may be writing meanwhile."""
    path = folder / DATABASE
    if is_alive(folder) is False and missing_bytes(path):
        # What is left of it is left as it is.
        raise peewee.DatabaseError("it is damaged")
    # Its writer's transactions take milliseconds: whoever comes second waits for the first.
    database = peewee.SqliteDatabase(str(path), timeout=5.0)
    try:
        if not (os.access(folder, os.W_OK) and os.access(path, os.W_OK)):
            raise _too_old(folder)
        migrations.migrate(database)
    except peewee.OperationalError as error:
        # A file system that is mounted read-only shows only now.
        if "readonly" in str(error):
            raise _too_old(folder) from error
        raise
    finally:
        database.close()


def _too_old(folder: Path) -> SchemaTooOld:
    return SchemaTooOld(
        f"The session in {folder} was recorded by an older version of OnTheFly, and has to be "
        "brought up to date before it is read, but it cannot be written. Allow this user to write "
        "the folder, or copy it to the sessions of a home that you can write."
    )


def newest_seq(database: Any) -> int:
    """The highest `seq` in the store; 0 where it is empty."""
    query = "SELECT max(seq) FROM (SELECT max(seq) AS seq FROM {} UNION ALL {} UNION ALL {})"
    tables = ["SELECT max(seq) FROM log", "SELECT max(seq) FROM metric_batch"]
    found = database.execute_sql(query.format("event", *tables)).fetchone()[0]
    return int(found or 0)


@contextlib.contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Say in which session a database could not be used, and what is to be seen of it."""
    try:
        yield
    except (peewee.DatabaseError, sqlite3.DatabaseError) as error:
        seen = diagnosis(folder) if is_alive(folder) is not True else ""
        raise StoreDamaged(
            f"The session in {folder} cannot be read: {error}. {seen}{' ' if seen else ''}"
            "Its checkpoints are untouched; other sessions are not affected."
        ) from error


def _event_row(seq: int, event: AnyEvent) -> Dict[str, Any]:
    kind = type(event).__struct_config__.tag
    body = _json.encode(event).decode()
    return {"seq": seq, "kind": kind, "run": getattr(event, "run", ""), "body": body}


def _log_row(seq: int, line: LogLine) -> Dict[str, Any]:
    row: Dict[str, Any] = {name: getattr(line, name) for name in line.__struct_fields__}
    row["seq"] = seq
    return row


def _batch_row(seq: int, event: Metrics) -> Dict[str, Any]:
    return {
        "seq": seq,
        "run": event.run,
        "steps": _json.encode(event.steps).decode(),
        "times": _json.encode(event.times).decode(),
    }


def _column_rows(seq: int, event: Metrics) -> List[Dict[str, Any]]:
    return [_column_row(seq, event, name) for name in event.values]


def _column_row(seq: int, event: Metrics, name: str) -> Dict[str, Any]:
    values = event.values[name]
    steps = event.steps
    if None in values:
        finite = [(step, value) for step, value in zip(steps, values) if value is not None]
        kept_steps, kept = zip(*finite) if finite else ((), ())
    else:
        kept_steps, kept = tuple(steps), tuple(values)
    low, high = (min(kept), max(kept)) if kept else (None, None)
    return {
        "seq": seq,
        "run": event.run,
        "name": name,
        "size": len(values),
        "nonfinite": len(values) - len(kept),
        "first_step": min(event.steps),
        "last_step": max(event.steps),
        "low": low,
        "low_step": kept_steps[kept.index(low)] if kept else None,
        "high": high,
        "high_step": kept_steps[kept.index(high)] if kept else None,
        "values": _json.encode(values).decode(),
        "until": None,
    }
