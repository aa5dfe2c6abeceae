"""What tells by looking at a session's files alone that it is as it was."""

from pathlib import Path
from typing import Tuple

from . import display_name
from .home import DATABASE

_FILES = (DATABASE, DATABASE + "-wal", display_name.FILE)


def stamp(folder: Path) -> Tuple[int, ...]:
    """The sizes and times of what a session's summary is read from; another one when they change."""
    found = []
    for name in _FILES:
        try:
            status = (folder / name).stat()
        except OSError:
            found += [0, 0]
            continue
        # An empty log is what a reader leaves behind: it says nothing.
        is_there = status.st_size > 0
        found += [status.st_size, status.st_mtime_ns if is_there else 0]
    return tuple(found)
