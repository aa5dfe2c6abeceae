"""Where sessions lie on disk, and how a person names one.

<home>/token                     the secret that dashboards and trainers show the server
<home>/summaries.json            derived: sessions that have ended, at a glance
<home>/sessions/<id>/            one session
session.sqlite  alive.lock  checkpoints/
"""

import os
import shutil
import time
from pathlib import Path
from typing import Callable, List, Optional, Union

import platformdirs

from . import display_name
from .errors import AmbiguousSession, HomeUnusable, SessionNotFound
from .ids import new_id

HOME_VARIABLE = "ONTHEFLY_HOME"

DATABASE = "session.sqlite"

# Longer ones are no ids, and file systems refuse to look them up.
_LONGEST_NAME = 60
#: Seconds until a full second of sessions has a key to spare, or another process has its id.
_RETRY_SECONDS = 0.01


class Home:
    """The folder that holds the sessions of one person on one machine."""

    def __init__(self, path: Union[str, Path]) -> None:
        self.path = Path(path).expanduser().absolute()

    @classmethod
    def find(cls, path: Optional[Union[str, Path]] = None) -> "Home":
        """The home that was named, else `$ONTHEFLY_HOME`, else the user's data folder."""
        chosen = path or os.environ.get(HOME_VARIABLE) or platformdirs.user_data_dir("onthefly")
        return cls(chosen)

    @property
    def sessions(self) -> Path:
        """The folder with one folder per session."""
        return self.path / "sessions"

    @property
    def token_file(self) -> Path:
        """The file with the server's token; only its owner can read it."""
        return self.path / "token"

    def ensure(self) -> None:
        """Create the home where it does not exist; raise `HomeUnusable` where that fails."""
        try:
            self.sessions.mkdir(parents=True, exist_ok=True)
            os.listdir(self.sessions)
        except OSError as error:
            raise self._unusable(error) from error
        if not os.access(self.sessions, os.W_OK | os.X_OK):
            raise HomeUnusable(
                f"The OnTheFly home {self.path} is not writable for this user. "
                f"Change its permissions, or set {HOME_VARIABLE} to a folder you can write."
            )

    def new_session(self, fill: Callable[[Path, str], None]) -> Path:
        """Make a new session's folder, which appears complete or not at all.

        `fill` is called with a hidden folder and the session's id, which is the folder's name
        afterwards.
        """
        self.ensure()
        try:
            draft = self._draft()
        except OSError as error:
            raise self._unusable(error) from error
        try:
            (draft / "checkpoints").mkdir()
            session_id = draft.name[1:]
            fill(draft, session_id)
            return draft.rename(self.sessions / session_id)
        except OSError as error:
            raise self._unusable(error) from error
        finally:
            # Where all went well it is gone already.
            shutil.rmtree(draft, ignore_errors=True)

    def _draft(self) -> Path:
        """A hidden folder for a new session, whose id is nobody else's and the newest of all."""
        while True:
            # Those that are being made count: they began earlier.
            session_id = new_id(name.lstrip(".") for name in os.listdir(self.sessions))
            draft = self.sessions / f".{session_id}"
            if session_id is not None and _is_made(draft):
                # Whoever makes a session has its draft: it cannot appear from now on.
                if not (self.sessions / session_id).exists():
                    return draft
                draft.rmdir()
            time.sleep(_RETRY_SECONDS)

    def session_folders(self) -> List[Path]:
        """All sessions' folders, the newest last; none where there is no home yet."""
        # A hidden one is being made, or was when its trainer was killed.
        return self._folders(lambda path: not _is_hidden(path) and (path / DATABASE).is_file())

    def other_folders(self) -> List[Path]:
        """The folders among the sessions that are none: hidden ones, and those without a record."""
        return self._folders(
            lambda path: path.is_dir() and (_is_hidden(path) or not (path / DATABASE).is_file())
        )

    def _folders(self, is_wanted: Callable[[Path], bool]) -> List[Path]:
        try:
            folders = [path for path in self.sessions.iterdir() if is_wanted(path)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unusable(error) from error
        return sorted(folders, key=lambda folder: folder.name)

    def session_folder(self, name: str) -> Path:
        """The folder of one session.

        `name` is its id, an unambiguous beginning of the id or of its last part (`k7fq` of
        `20261124-093000-k7fq`), the name that a person gave it, or `latest`.
        """
        exact = self.sessions / name
        try:
            if _is_plain_name(name) and (exact / DATABASE).is_file():
                return exact
        except OSError as error:
            raise self._unusable(error) from error
        folders = self.session_folders()
        if name == "latest" and folders:
            return folders[-1]
        found = [folder for folder in folders if name and _answers_to(folder.name, name)]
        how = "begin with"
        if name and not found:
            found = [folder for folder in folders if display_name.read(folder) == name]
            how = "are called"
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(folder.name for folder in found[:5])
            raise AmbiguousSession(
                f"{len(found)} sessions {how} '{name}': {listed}. Type more of the id."
            )
        raise SessionNotFound(
            f"There is no session '{name}' in {self.sessions}. "
            "`otf session list` shows the sessions that exist."
        )

    def _unusable(self, error: OSError) -> HomeUnusable:
        return HomeUnusable(
            f"The OnTheFly home {self.path} cannot be used: {error.strerror or error}. "
            f"Set {HOME_VARIABLE} to a folder you can read and write."
        )


def _is_made(folder: Path) -> bool:
    """Make a folder; False where there is one already."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _answers_to(session_id: str, name: str) -> bool:
    return session_id.startswith(name) or session_id.rpartition("-")[2].startswith(name)


def _is_plain_name(name: str) -> bool:
    is_short = 0 < len(name) <= _LONGEST_NAME
    return is_short and not name.startswith(".") and not {"/", "\\", "\0"} & set(name)
