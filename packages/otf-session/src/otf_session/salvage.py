"""What can still be read of a session that is cut short."""

import contextlib
from pathlib import Path
from typing import Any, Callable, List, TypeVar

import peewee

from . import display_name
from .models import RunRow, SessionRow
from .queries import newest_seq, run_summaries
from .store import DamagedReader
from .summaries import RunSummary, SessionState, SessionSummary, current_run

_T = TypeVar("_T")


def salvaged_summary(folder: Path) -> SessionSummary:
    """The session as far as it can be read; `StoreDamaged` where nothing can.

    Its `last_seq` is 0 where that cannot be told.
    """
    with DamagedReader(folder) as reader:
        database = reader.database
        row = SessionRow.select().bind(database).get()
        runs = _tried(lambda: run_summaries(database), [])
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
