"""Whether a process is still there: the one that trains a session, or the one that serves a home.

It holds an operating-system lock on a file in the folder. The system releases it however the
process ends, `kill -9` included, so that no process id has to be trusted.
"""

from pathlib import Path
from typing import Optional

import filelock

_LOCK = "alive.lock"
# Long enough to wait out another reader that is looking at the same moment.
_LOOK_SECONDS = 0.05


class AliveLock:
    """Held by a trainer for as long as it has its session open, or by a server while it serves."""

    def __init__(self, folder: Path, name: str = _LOCK) -> None:
        # Not thread-local: acquired by the training thread, released by whichever closes.
        self._lock = filelock.FileLock(str(folder / name), thread_local=False)

    def acquire(self) -> bool:
        """Take the lock; False where another process has the session open."""
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
    lock = filelock.FileLock(str(path), thread_local=False)
    try:
        lock.acquire(timeout=_LOOK_SECONDS, poll_interval=0.01)
    except filelock.Timeout:
        return True
    except OSError:
        return None
    lock.release()
    return False
