"""Deleting: a session, or checkpoints of one.

A session vanishes at once, by a rename, and is removed thereafter: nobody ever sees half of it. What
is left where that was cut short is removed by the next who deletes something.
"""

import contextlib
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Callable, Iterator, List, Optional, Sequence

import peewee

from .errors import NotDeleted, SessionError, SessionLive, StoreDamaged
from .events import CheckpointRemoved, CheckpointSaved
from .home import Home
from .liveness import AliveLock, is_alive
from .queries import kept_checkpoints
from .sizes import files_in
from .store import SessionReader, SessionStore

#: Told how many bytes are gone.
Report = Callable[[int], None]

_HIDDEN = ".deleted-"
#: Seconds after which a session that is still being made is not any more: that takes milliseconds.
_ABANDONED = 24 * 3600.0


def check_not_live(folder: Path) -> None:
    """Raise `SessionLive` where the session is being trained."""
    if is_alive(folder):
        raise SessionLive(
            f"The session {folder.name} is being trained right now, and is left as it is. "
            f"Stop it first: otf ctl stop --session {folder.name}"
        )


def delete_session(folder: Path, report: Optional[Report] = None) -> None:
    """Delete a session: it is gone at once, then its files are removed.

    Raises `SessionLive` or `NotDeleted`; then it is there as before. `NotDeleted` is raised too
    where it is gone, and files are left that cannot be removed.
    """
    elsewhere = _elsewhere(folder)
    hidden = folder.with_name(f"{_HIDDEN}{folder.name}-{secrets.token_hex(4)}")
    with _held(folder):
        try:
            folder.rename(hidden)
        except OSError as error:
            raise NotDeleted(
                f"The session {folder.name} cannot be deleted: {error.strerror or error}. It is "
                f"as it was. Allow this user to write {folder.parent}, or close what has it open."
            ) from error
    _remove(hidden, report)
    _unlink(elsewhere, report)
    for path in elsewhere:
        with contextlib.suppress(OSError):
            path.parent.rmdir()
    if hidden.exists():
        raise NotDeleted(
            f"The session {folder.name} is deleted, but some of its files cannot be removed. They "
            f"are in {hidden}, and may be deleted by hand."
        )


def delete_checkpoints(
    folder: Path,
    checkpoints: Sequence[CheckpointSaved],
    reason: str,
    report: Optional[Report] = None,
) -> None:
    """Delete checkpoints of a session that nobody trains; its record says so, and why.

    Raises `SessionLive` or `NotDeleted`. Those that are no files of this session's are left out.
    """
    now = time.time()
    ours = [saved for saved in checkpoints if is_ours(folder, saved)]
    events = [
        CheckpointRemoved(time=now, run=saved.run, id=saved.id or saved.path, reason=reason)
        for saved in ours
    ]
    with _held(folder):
        # First, so that a reader never looks for what the record says is there.
        is_said = _append(folder, events)
        left = _unlink([folder / saved.path for saved in ours], report)
        # A full disk has room for the record now.
        if not is_said and not _append(folder, events):
            raise NotDeleted(
                f"The checkpoints of {folder.name} are deleted, but its record cannot be written, "
                "so that it does not say so. `otf session show` tells that they are missing."
            )
    if left:
        raise NotDeleted(
            f"{len(left)} checkpoint(s) of {folder.name} cannot be removed, such as {left[0]}. "
            "The record does not count on them any more; delete them by hand."
        )


def clean_up(home: Home) -> None:
    """Remove what is left of sessions whose deletion, or whose making, was cut short."""
    from .bundles import importer, staging

    # These tell by a lock whether whoever makes something in them is still at it.
    locked = (importer.STAGING, staging.TRANSFER)
    for path in home.other_folders():
        is_draft = path.name.startswith(".") and not path.name.startswith(locked)
        if path.name.startswith(_HIDDEN) or (is_draft and _is_old(path)):
            _remove(path, None)
    for prefix in locked:
        with contextlib.suppress(OSError):
            staging.remove_abandoned(home.sessions, prefix)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keep a trainer from opening the session meanwhile."""
    check_not_live(folder)
    lock = AliveLock(folder)
    try:
        if not lock.acquire():
            raise SessionLive(f"The session {folder.name} is in use, and is left as it is.")
    except OSError as error:
        raise NotDeleted(
            f"Nothing of the session {folder.name} is deleted: {error.strerror or error}. "
            f"Allow this user to write {folder}."
        ) from error
    if os.name == "nt":
        # There no folder is renamed in which a file is open.
        lock.release()
    try:
        yield
    finally:
        lock.release()


def _append(folder: Path, events: Sequence[CheckpointRemoved]) -> bool:
    """Append to the session's record; False where the disk has no room for it."""
    try:
        store = SessionStore(folder)
        try:
            store.append(events)
        finally:
            store.close()
    except (peewee.DatabaseError, StoreDamaged) as error:
        # A full disk is told as one, or as an error of input or output.
        if not any(words in str(error) for words in ("disk is full", "disk I/O error")):
            raise NotDeleted(f"The record of {folder.name} cannot be written: {error}") from error
        return False
    return True


def is_ours(folder: Path, saved: CheckpointSaved) -> bool:
    """Whether a checkpoint lies where a trainer puts those of this session, so that it may go.

    The record of a session from elsewhere may name any path.
    """
    place, own = (folder / saved.path).parent.resolve(), (folder / "checkpoints").resolve()
    return place == own or (place != own.parent and place.name == folder.name)


def _elsewhere(folder: Path) -> List[Path]:
    """The checkpoints of a session that lie in no folder of its own; none where that is unknown."""
    try:
        with SessionReader(folder) as reader:
            kept = kept_checkpoints(reader.database)
    except SessionError:
        return []
    paths = [folder / saved.path for saved in kept if is_ours(folder, saved)]
    return [path for path in paths if folder not in path.parents]


def _remove(folder: Path, report: Optional[Report]) -> None:
    """Remove a folder as far as that can be done."""
    _unlink([path for path, _ in files_in(folder)], report)
    shutil.rmtree(folder, ignore_errors=True)


def _unlink(paths: Sequence[Path], report: Optional[Report]) -> List[Path]:
    """Remove files; those that are still there are returned."""
    left = []
    for path in paths:
        try:
            size = path.lstat().st_size
            path.unlink()
        except FileNotFoundError:
            continue
        except OSError:
            left.append(path)
            continue
        if report is not None:
            report(size)
    return left


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED
    except OSError:
        return False
