"""How a session's database is opened for reading, also where nothing can be written beside it.

To read a database that has a WAL, SQLite wants to make files next to it. A read-only home and a full
disk do not let it, and there it has to be told that nobody else is at work.
"""

import os
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

from .home import DATABASE
from .liveness import is_alive


class Access(NamedTuple):
    """The parameters of SQLite's URI, and the pragmas that follow."""

    parameters: str
    pragmas: Dict[str, Any]

    def uri(self, folder: Path) -> str:
        """The address of a session's database, opened this way."""
        return f"{(folder / DATABASE).absolute().as_uri()}?{self.parameters}"


#: Beside a writer, and with the WAL that it keeps.
_SHARED = Access("mode=ro", {})
#: With the WAL that a writer left behind. Its index is kept in memory, which SQLite does for those
#: who have the file to themselves; no lock is taken, because that would be a write.
_ALONE = Access(
    f"mode=ro&vfs={'win32-none' if os.name == 'nt' else 'unix-none'}",
    {"locking_mode": "exclusive"},
)
#: The file alone. A WAL beside it would be ignored.
_UNCHANGING = Access("mode=ro&immutable=1", {})


def ways(folder: Path) -> List[Access]:
    """The ways to open a session's database, the first to be tried first; there is always one."""
    wal = folder / (DATABASE + "-wal")
    try:
        is_there, is_empty = wal.exists(), not wal.stat().st_size
    except OSError:
        is_there, is_empty = False, True
    last = _UNCHANGING if is_empty else _ALONE
    return [_SHARED, last] if os.access(folder, os.W_OK) or is_there else [last]


def may_try_another(folder: Path, error: Exception) -> bool:
    """Whether a database that could not be opened may be opened without any lock."""
    return "locked" not in str(error) and is_alive(folder) is not True
