"""The summaries of many sessions, of which those that have ended are kept in a file of the home.

The file is derived from the sessions and from nothing else: where it is missing, damaged, of another
version or cannot be written, they are read as if there were none.
"""

import contextlib
import secrets
import time
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import msgspec

from . import package_version
from .errors import SessionError
from .home import Home
from .queries import session_summary
from .stamps import stamp
from .store import SessionReader
from .summaries import SessionState, SessionSummary

FILE = "summaries.json"

_ENDED = (SessionState.FINISHED, SessionState.STOPPED, SessionState.FAILED)
#: Nanoseconds. What has changed a moment ago may change again without its time telling.
_SETTLED = 2_000_000_000


class _Kept(msgspec.Struct, frozen=True):
    stamp: Tuple[int, ...]
    summary: SessionSummary


class _File(msgspec.Struct, frozen=True):
    version: str
    sessions: Dict[str, _Kept]


def summaries(home: Home, warn: Callable[[SessionError], None]) -> List[SessionSummary]:
    """All sessions of a home that can be read, the newest first; `warn` is told of the others."""
    path = home.path / FILE
    known = _load(path)
    kept: Dict[str, _Kept] = {}
    found: List[SessionSummary] = []
    for folder in home.session_folders()[::-1]:
        # Taken before it is read: what is written meanwhile makes another one.
        seen, entry = stamp(folder), known.get(folder.name)
        if entry is None or entry.stamp != seen:
            try:
                with SessionReader(folder) as reader:
                    entry = _Kept(seen, session_summary(reader))
            except SessionError as error:
                warn(error)
                continue
        found.append(entry.summary)
        if entry.summary.state in _ENDED and time.time_ns() - max(seen) > _SETTLED:
            kept[folder.name] = entry
    if kept != known:
        _save(path, kept)
    return found


def _load(path: Path) -> Dict[str, _Kept]:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_File)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return {}
    return found.sessions if found.version == package_version() else {}


def _save(path: Path, kept: Dict[str, _Kept]) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    text = msgspec.json.encode(_File(package_version(), kept))
    # A home that cannot be written, or has no room, is listed all the same.
    with contextlib.suppress(OSError):
        try:
            draft.write_bytes(text)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
