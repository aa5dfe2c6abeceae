"""A hidden folder in which something large is made, next to where it will be.

Its maker holds a lock in it. One whose maker was killed is recognised by its lock being free, and
is removed by the next who makes something there.
"""

import contextlib
import os
import secrets
import shutil
from pathlib import Path
from types import TracebackType
from typing import Optional, Type

from ..liveness import AliveLock, is_alive

#: What a server keeps for those who bring and fetch bundles, in the folder with the sessions.
TRANSFER = ".transfer-"

_LOCK = "making.lock"


class Staging:
    """A folder `parent/PREFIXxxxx` for as long as the `with` lasts; nothing is left of it.

    Raises `OSError` where it cannot be made.
    """

    def __init__(self, parent: Path, prefix: str) -> None:
        assert prefix.startswith("."), "Nobody is to take it for something finished."
        self._parent = parent
        self._prefix = prefix
        self._lock: Optional[AliveLock] = None
        self.path = parent

    def __enter__(self) -> "Staging":
        remove_abandoned(self._parent, self._prefix)
        while self._lock is None:
            path = self._parent / f"{self._prefix}{secrets.token_hex(4)}"
            path.mkdir()
            self._lock = _locked(path)
            self.path = path
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if self._lock is not None:
            _remove(self.path, self._lock)


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove what was being made here by processes that are no more."""
    for name in os.listdir(parent):
        path = parent / name
        if not name.startswith(prefix) or path.is_symlink() or not path.is_dir():
            continue
        # Looked at first, because to be refused the lock takes a while.
        lock = _locked(path) if is_alive(path, _LOCK) is False else None
        if lock is not None:
            _remove(path, lock)


def _locked(path: Path) -> Optional[AliveLock]:
    """The folder's lock, acquired; None where somebody else has it, or has removed the folder."""
    lock = AliveLock(path, _LOCK)
    try:
        if not lock.acquire():
            return None
    except OSError:
        if path.is_dir():
            raise
        return None
    if not (path / _LOCK).exists():
        # Whoever removed the folder held this lock until it was gone.
        lock.release()
        return None
    return lock


def _remove(path: Path, lock: AliveLock) -> None:
    with contextlib.suppress(OSError):
        for inside in [path / name for name in os.listdir(path) if name != _LOCK]:
            if inside.is_dir() and not inside.is_symlink():
                shutil.rmtree(inside, ignore_errors=True)
            else:
                inside.unlink()
    lock.release()
    # The lock itself last, and released: Windows deletes no file that is open.
    shutil.rmtree(path, ignore_errors=True)
