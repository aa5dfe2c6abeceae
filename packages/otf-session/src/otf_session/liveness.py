"""Whether a process is still there: the one that trains a session, or the one that serves a home.

It holds an operating-system lock on a file in the folder. The system releases it however the
process ends, `kill -9` included, so that no process id has to be trusted.
"""

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    import filelock

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LOCK = "alive.lock"
# Long enough to wait out another reader that is looking at the same moment, where that locks.
_LOOK_SECONDS = 0.05
_CONTENTION = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)


class AliveLock:
    """Held by a trainer for as long as it has its session open, or by a server while it serves."""

    def __init__(self, folder: Path, name: str = _LOCK) -> None:
        self._lock = _file_lock(folder / name)

    def acquire(self) -> bool:
        """Take the lock; False where another process has the session open."""
        import filelock

        try:
            self._lock.acquire(timeout=1.0)
        except filelock.Timeout:
            return False
        return True

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()


def is_alive(folder: Path, name: str = _LOCK) -> Optional[bool]:
    """Whether a process holds the lock; None where it cannot be told (a read-only home)."""
    path = folder / name
    if not path.exists():
        return False
    return _is_held_for_a_moment(path) if fcntl is None else _is_held(path, fcntl)


def _is_held(path: Path, fcntl: Any) -> Optional[bool]:
    """Look by a shared lock: any number of readers may have one, and none next to the holder's."""
    try:
        # For reading: a shared lock needs no more, and a read-only home allows no more.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return True if error.errno in _CONTENTION else None
    finally:
        os.close(descriptor)
    return False


def _is_held_for_a_moment(path: Path) -> Optional[bool]:
    """Look by taking the lock, where there are no shared ones."""
    import filelock

    lock = _file_lock(path)
    try:
        lock.acquire(timeout=_LOOK_SECONDS, poll_interval=0.01)
    except filelock.Timeout:
        return True
    except OSError:
        return None
    lock.release()
    return False


def _file_lock(path: Path) -> "filelock.BaseFileLock":
    # Imported when it is needed: a shell command that only looks is quicker without.
    import filelock

    # Not thread-local: acquired by the training thread, released by whichever closes.
    return filelock.FileLock(str(path), thread_local=False)
