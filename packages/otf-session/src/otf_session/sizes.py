"""What a session takes on disk, and of what kind."""

import contextlib
import os
from pathlib import Path
from typing import Dict, Iterator, Sequence, Tuple

import msgspec

from . import display_name
from .events import CheckpointSaved
from .home import DATABASE

_RECORD = (DATABASE, DATABASE + "-wal", DATABASE + "-shm", display_name.FILE)


class SessionSize(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes of a session's files.

    `database` is the record, `pinned` the checkpoints that stay until they are deleted, and
    `checkpoints` those that make room for newer ones. `other` is the rest: models from a bundle,
    and checkpoints that the record does not know.
    """

    database: int = 0
    checkpoints: int = 0
    pinned: int = 0
    other: int = 0
    total: int = 0


def session_size(folder: Path, kept: Sequence[CheckpointSaved]) -> SessionSize:
    """The size of the session in a folder, which keeps these checkpoints, some elsewhere maybe."""
    kinds = {folder / name: "database" for name in _RECORD}
    for saved in kept:
        kinds[folder / saved.path] = "pinned" if saved.pinned else "checkpoints"
    found = dict.fromkeys(("database", "checkpoints", "pinned", "other"), 0)
    for path, size in {**dict(files_in(folder)), **_elsewhere(folder, kinds)}.items():
        found[kinds.get(path, "other")] += size
    return SessionSize(**found, total=sum(found.values()))


def files_in(folder: Path) -> Iterator[Tuple[Path, int]]:
    """All files in a folder and the folders in it, with their bytes; links are not followed."""
    waiting = [folder]
    while waiting:
        # What is removed meanwhile takes no room any more.
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                else:
                    with contextlib.suppress(OSError):
                        yield Path(entry.path), entry.stat(follow_symlinks=False).st_size


def _elsewhere(folder: Path, kinds: Dict[Path, str]) -> Dict[Path, int]:
    found = {}
    for path in kinds:
        if folder not in path.parents:
            with contextlib.suppress(OSError):
                found[path] = path.stat().st_size
    return found
