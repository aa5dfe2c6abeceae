"""What can still be read of a session that is cut short."""

import sqlite3
from pathlib import Path
from typing import Callable, Dict, List, Optional, TypeVar

import peewee

from . import display_name
from .models import SessionRow
from .queries import latest_values, runs_with
from .store import DamagedReader, newest_seq
from .summaries import RunSummary, SessionState, SessionSummary, current_run

_T = TypeVar("_T")


def salvaged_summary(folder: Path) -> SessionSummary:
    """The session as far as it can be read; `StoreDamaged` where nothing can.

    Its `last_seq` is 0 where that cannot be told.
    """
    with DamagedReader(folder) as reader:
        database = reader.database
        row = SessionRow.select().bind(database).get()
        latest: Dict[str, Dict[str, Optional[float]]] = _tried(lambda: latest_values(database), {})
        runs: List[RunSummary] = _tried(lambda: runs_with(database, latest), [])
        current = current_run(runs)
        return SessionSummary(
            id=row.id,
            project=row.project,
            created=row.created,
            updated=max([run.updated for run in runs], default=row.created),
            state=SessionState(current.state.value) if current else SessionState.LOST,
            runs=runs,
            last_seq=_tried(lambda: newest_seq(database), 0),
            name=display_name.read(folder),
        )


def _tried(read: Callable[[], _T], otherwise: _T) -> _T:
    """What is read, or something else where its part of the file is missing."""
    try:
        return read()
    # Of rows that are fetched, peewee passes SQLite's own errors on.
    except (peewee.DatabaseError, sqlite3.DatabaseError):
        return otherwise
