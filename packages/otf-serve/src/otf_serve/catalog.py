"""The sessions of the home, as the server last saw them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from otf_session.errors import SessionError, SessionNotFound
from otf_session.home import Home
from otf_session.liveness import is_alive
from otf_session.queries import session_summary
from otf_session.stamps import stamp
from otf_session.store import SessionReader
from otf_session.summaries import SessionState, SessionSummary

_logger = logging.getLogger("otf_serve")

#: What changes whenever a summary may: the files' times and sizes, and whether a trainer is there.
_Stamp = Tuple[object, ...]

_ENDED = (SessionState.FINISHED, SessionState.STOPPED, SessionState.FAILED)


class Catalog:
    """Reads summaries, and reads them again only where something has changed.

    Its methods read files; the server calls them in threads.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._known: Dict[str, Tuple[_Stamp, SessionSummary]] = {}
        self._unreadable: Dict[str, str] = {}

    def folder(self, session: str) -> Path:
        """The folder of the session with exactly this id; `SessionNotFound` where there is none."""
        folder = self._home.session_folder(session)
        if folder.name != session:
            raise SessionNotFound(
                f"There is no session '{session}' in {self._home.sessions}. This takes a whole id, "
                f"such as {folder.name}."
            )
        return folder

    def find(self, name: str) -> Path:
        """The folder of the session that answers to a name: an id, a part of it, or `latest`."""
        return self._home.session_folder(name)

    def summaries(self, connected: frozenset[str]) -> List[SessionSummary]:
        """All sessions that can be read, the newest last."""
        found = [self._read(folder, connected) for folder in self._home.session_folders()]
        return [summary for summary in found if summary is not None]

    def summary(self, session: str, connected: frozenset[str]) -> SessionSummary:
        """One session; raises `SessionError` where there is none or it cannot be read."""
        return self._fresh(self.folder(session), connected)

    def _read(self, folder: Path, connected: frozenset[str]) -> Optional[SessionSummary]:
        try:
            return self._fresh(folder, connected)
        except SessionError as error:
            if self._unreadable.get(folder.name) != str(error):
                self._unreadable[folder.name] = str(error)
                _logger.warning("Session %s is left out: %s", folder.name, error)
            return None

    def _fresh(self, folder: Path, connected: frozenset[str]) -> SessionSummary:
        linked = folder.name in connected
        known = self._known.get(folder.name)
        # Taken before it is read: what is written meanwhile makes another one.
        seen = _stamp(folder, linked, known[1] if known else None)
        if known is not None and known[0] == seen:
            return known[1]
        with SessionReader(folder) as reader:
            summary = session_summary(reader, connected=linked)
        if summary.state in _ENDED:
            seen = (*seen[:-1], None)
        self._known[folder.name] = (seen, summary)
        return summary


def _stamp(folder: Path, linked: bool, summary: Optional[SessionSummary]) -> _Stamp:
    # Nothing is written when a process is killed; only its lock is gone.
    ended = summary is not None and summary.state in _ENDED
    return (linked, *stamp(folder), None if linked or ended else is_alive(folder))
