"""Import: what a bundle holds becomes a session of this home, after all of it has been checked."""

import contextlib
import os
import re
import shutil
import sqlite3
import time
from pathlib import Path
from typing import List, Optional

import msgspec

from .. import display_name
from ..errors import BundleRefused, BundleTooNew, InvalidName, NotImported, SessionExists
from ..home import DATABASE, Home
from . import draft, names, provenance, untrusted
from .archive import Archive
from .manifest import Manifest
from .staging import Staging
from .work import IsCancelled, Report, Work

#: Where an import is made, in the folder with the sessions: hidden, as what is not finished is.
STAGING = ".import-"

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """A session that was imported. `size` is in bytes; `original` is the id that it had."""

    session: str
    folder: str
    project: str
    original: str
    runs: List[str]
    checkpoints: int
    final_models: int
    size: int
    notes: List[str] = []


def import_bundle(
    home: Home,
    path: Path,
    *,
    as_new: bool = False,
    called: str = "",
    report: Optional[Report] = None,
    is_cancelled: Optional[IsCancelled] = None,
) -> Imported:
    """Take the bundle at `path` into `home`, whole or not at all.

    With `as_new` the session gets a new id, so that it can be there beside one that has its own.
    A folder is taken for a bundle of the predecessor: its session always gets a new id. The bundle
    is spoken of as `called`, by default as its path.

    Raises `BundleRefused` or `BundleTooNew` where the bundle is not sound, `SessionExists`,
    `NotImported`, `HomeUnusable` or `Cancelled`; then nothing is left behind.
    """
    work, called = Work(report, is_cancelled), called or str(path)
    try:
        if path.is_dir():
            from .predecessor import import_folder

            return import_folder(home, path, work)
        with Archive(path) as archive:
            return _import(home, archive, work, called, as_new=as_new)
    except (BundleRefused, BundleTooNew) as error:
        message = f"{called} is refused; nothing of it was imported. {error}"
        raise type(error)(message) from error
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise NotImported(
            f"{called} cannot be imported into {home.path}: {reason}. Nothing was left behind."
        ) from error


def _import(home: Home, archive: Archive, work: Work, called: str, *, as_new: bool) -> Imported:
    entry = archive.manifest.session
    # A device's name is no folder's on every system.
    is_plain = not names.problem(f"{names.CHECKPOINTS}/{entry.id}")
    if not (_ID.fullmatch(entry.id) and is_plain) or entry.id == "latest":
        raise BundleRefused(f"Its session has the id '{entry.id[:60]}', which is none.")
    if not as_new and (home.sessions / entry.id).exists():
        raise _exists(entry.id)
    home.ensure()
    _check_room(home, archive, called)
    with Staging(home.sessions, STAGING) as staging:
        made = staging.path / "session"
        found = _unpack(archive, made, staging.path / "incoming.sqlite", work)
        provenance.write(
            made,
            provenance.Provenance(
                time=time.time(), bundle=Path(called).name, manifest=archive.manifest
            ),
        )
        _name(made, entry.name)
        folder = publish_as_new(home, made) if as_new else _publish(home, made, entry.id)
    members = archive.manifest.members
    return Imported(
        session=folder.name,
        folder=str(folder),
        project=found.project,
        original=entry.id,
        runs=found.runs,
        checkpoints=len(found.checkpoints),
        final_models=sum(each.name.startswith(f"{names.FINAL_MODELS}/") for each in members),
        size=archive.size,
    )


def _name(made: Path, name: str) -> None:
    """Call the session what it was called; what is no name it is not called."""
    with contextlib.suppress(InvalidName):
        display_name.write(made, display_name.check(name))


def _check_room(home: Home, archive: Archive, called: str) -> None:
    # The record is there twice for a moment: as it came, and as it is copied.
    record = sum(each.size for each in archive.manifest.members if each.name == DATABASE)
    needed, free = archive.size + record, shutil.disk_usage(home.sessions).free
    if needed > free:
        raise NotImported(
            f"{called} needs {needed:,} bytes in {home.path}, where {free:,} are free. Make "
            "room, or name another home with --home."
        )


def _unpack(archive: Archive, made: Path, incoming: Path, work: Work) -> untrusted.Contents:
    """Write every member into the folder `made`, checked; what the record holds is returned."""
    for folder in ("", names.CHECKPOINTS, names.FINAL_MODELS):
        (made / folder).mkdir()
    work.expect(archive.size)
    for member in archive.manifest.members:
        target = incoming if member.name == DATABASE else made / member.name
        with target.open("xb") as file:
            archive.copy(member, file, work)
            file.flush()
            os.fsync(file.fileno())
    found = copy_record(incoming, made / DATABASE, work)
    check_agreement(archive.manifest, found)
    if not any((made / names.FINAL_MODELS).iterdir()):
        (made / names.FINAL_MODELS).rmdir()
    return found


def copy_record(incoming: Path, target: Path, work: Work) -> untrusted.Contents:
    """Copy a database from elsewhere, row by row, into one of our own."""
    with untrusted.opened(incoming) as source, draft.Draft(target, work) as copied:
        try:
            copied.copy(source.select, check=source.checks.check)
        except sqlite3.IntegrityError as error:
            raise BundleRefused(f"Its session.sqlite contradicts itself: {error}.") from error
        found = source.contents()
        copied.keep()
    _sync(target)
    return found


def check_agreement(manifest: Manifest, found: untrusted.Contents) -> None:
    """Raise `BundleRefused` where the record speaks of another session, or of other checkpoints."""
    if found.session_id != manifest.session.id:
        raise BundleRefused("Its session.sqlite is of another session than its manifest.json.")
    members = {
        member.name: (member.size, member.sha256)
        for member in manifest.members
        if member.name.startswith(f"{names.CHECKPOINTS}/")
    }
    recorded = {saved.path: (saved.size, saved.sha256) for saved in found.checkpoints}
    if len(recorded) != len(found.checkpoints):
        raise BundleRefused("Its record has two checkpoints in one file.")
    for name in sorted(set(members) ^ set(recorded)):
        there = (
            "in it, but not in its record" if name in members else "in its record, but not in it"
        )
        raise BundleRefused(f"The checkpoint '{name[:200]}' is {there}.")
    for name, stated in members.items():
        if stated != recorded[name]:
            raise BundleRefused(f"Its {name} is not the checkpoint that its record speaks of.")


def _publish(home: Home, made: Path, session_id: str) -> Path:
    """Let the session appear under its own id."""
    target = home.sessions / session_id
    try:
        return made.rename(target)
    except OSError as error:
        if target.exists():
            raise _exists(session_id) from error
        raise


def publish_as_new(home: Home, made: Path) -> Path:
    """Let the session appear under a new id."""

    def fill(folder: Path, session_id: str) -> None:
        draft.set_id(made / DATABASE, session_id)
        (folder / names.CHECKPOINTS).rmdir()
        for path in list(made.iterdir()):
            path.rename(folder / path.name)

    return home.new_session(fill)


def _exists(session_id: str) -> SessionExists:
    return SessionExists(
        f"The session {session_id} is in this home already; it was left as it is. Import the bundle "
        "as a new session (--as-new) to have it beside that one, under a new id."
    )


def _sync(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())
