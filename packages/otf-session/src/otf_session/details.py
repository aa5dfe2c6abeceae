"""One session in detail: its summary, the checkpoints that are kept of it, and what it takes."""

from pathlib import Path
from typing import Any, List

import msgspec

from .events import CheckpointSaved
from .queries import kept_checkpoints, session_summary
from .sizes import SessionSize, session_size
from .store import SessionReader
from .summaries import SessionSummary


class KeptCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint as the record has it. `missing`: its file is gone, though nobody removed it."""

    id: str
    run: str
    step: int
    epoch: int
    label: str
    time: float
    path: str
    size: int
    pinned: bool
    missing: bool


class SizedSession(SessionSummary, frozen=True, kw_only=True):
    """A session at a glance, with what it takes on disk."""

    size: SessionSize


class SessionDetails(SizedSession, frozen=True, kw_only=True):
    """A session, its checkpoints, and where it lies."""

    folder: str
    checkpoints: List[KeptCheckpoint]


def sized_session(reader: SessionReader) -> SizedSession:
    """A session at a glance, with its size."""
    kept = kept_checkpoints(reader.database)
    return SizedSession(**_fields(session_summary(reader)), size=session_size(reader.folder, kept))


def session_details(reader: SessionReader) -> SessionDetails:
    """Everything about a session but its numbers."""
    kept = kept_checkpoints(reader.database)
    return SessionDetails(
        **_fields(session_summary(reader)),
        size=session_size(reader.folder, kept),
        folder=str(reader.folder),
        checkpoints=[
            _kept(reader.folder, saved) for saved in sorted(kept, key=lambda saved: saved.time)
        ],
    )


def _kept(folder: Path, saved: CheckpointSaved) -> KeptCheckpoint:
    return KeptCheckpoint(
        id=saved.id or saved.path,
        run=saved.run,
        step=saved.step,
        epoch=saved.epoch,
        label=saved.label,
        time=saved.time,
        path=saved.path,
        size=saved.size,
        pinned=saved.pinned,
        missing=not (folder / saved.path).is_file(),
    )


def _fields(summary: SessionSummary) -> "dict[str, Any]":
    return {name: getattr(summary, name) for name in summary.__struct_fields__}
