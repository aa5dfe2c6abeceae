"""Verify: what is wrong with a bundle, or with a session of this home, member by member."""

import contextlib
import hashlib
import sqlite3
import tempfile
from functools import partial
from pathlib import Path
from typing import BinaryIO, Callable, ContextManager, Iterator, List, Optional, cast

import msgspec

from ..errors import BundleRefused, BundleTooNew, NotVerified, StoreDamaged
from ..events import CheckpointSaved
from ..home import DATABASE, Home
from ..queries import kept_checkpoints
from ..store import SessionReader
from . import names, provenance, rows, untrusted
from .archive import Archive
from .draft import key_of
from .heldfiles import FileGone, HeldFiles, opened
from .importer import check_agreement
from .manifest import Manifest, Member
from .work import BLOCK, IsCancelled, Report, Work


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was looked at; `size` is in bytes. `problem` is empty where it is sound."""

    name: str
    size: int
    problem: str = ""


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. `kind` is `bundle` or `session`; `problem` is one that no file has alone."""

    target: str
    kind: str
    session: str
    ok: bool
    members: List[Checked]
    problem: str = ""


def verify(
    home: Home,
    target: str,
    *,
    report: Optional[Report] = None,
    is_cancelled: Optional[IsCancelled] = None,
) -> Verified:
    """Look at every byte of a bundle, or of the session of `home` with that id.

    What exists as a file is a bundle. Nothing is changed. Raises `SessionNotFound`, `NotVerified`
    where a file cannot be read at all, and `Cancelled`.
    """
    with _readable(target):
        return _verify(home, target, Work(report, is_cancelled))


def verify_session(
    folder: Path,
    *,
    report: Optional[Report] = None,
    is_cancelled: Optional[IsCancelled] = None,
) -> Verified:
    """Look at every byte of the session in a folder; raises `NotVerified` and `Cancelled`."""
    with _readable(folder.name):
        return _verify_session(folder, Work(report, is_cancelled))


@contextlib.contextmanager
def _readable(target: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotVerified(
            f"{target} cannot be looked at as a whole: {error.strerror or error}."
        ) from error


def _verify(home: Home, target: str, work: Work) -> Verified:
    path = Path(target)
    if (path / "bundle.json").is_file():
        raise NotVerified(
            f"{path} is a bundle of an earlier version, which holds no hashes to verify. To import "
            f"it: otf session import {path}"
        )
    if path.is_file() or target.endswith(".zip"):
        return _verify_bundle(path, work)
    return _verify_session(home.session_folder(target), work)


def _verify_bundle(path: Path, work: Work) -> Verified:
    checked: List[Checked] = []
    session = problem = ""
    try:
        with Archive(path) as archive, tempfile.TemporaryDirectory() as scratch:
            session = archive.manifest.session.id
            work.expect(archive.size)
            record = Path(scratch) / DATABASE
            for member in archive.manifest.members:
                found = _problem_of_member(archive, member, record, work)
                checked.append(Checked(name=member.name, size=member.size, problem=found))
            if not any(each.problem for each in checked):
                _check_record(archive.manifest, record)
    except (BundleRefused, BundleTooNew) as error:
        problem = str(error)
    return _verified(str(path), "bundle", session, checked, problem)


def _problem_of_member(archive: Archive, member: Member, record: Path, work: Work) -> str:
    try:
        if member.name == DATABASE:
            with record.open("xb") as file:
                archive.copy(member, file, work)
        else:
            archive.copy(member, cast("BinaryIO", _Nowhere()), work)
    except BundleRefused as error:
        return str(error)
    return ""


def _check_record(manifest: Manifest, record: Path) -> None:
    with untrusted.opened(record) as source:
        source.checks.check_all(source.select)
        check_agreement(manifest, source.contents())


def _verify_session(folder: Path, work: Work) -> Verified:
    """Its record, and every file that the record or its bundle's manifest speaks of."""
    checked: List[Checked] = []
    kept: List[CheckpointSaved] = []
    size = (folder / DATABASE).stat().st_size
    with contextlib.ExitStack() as stack:
        try:
            with SessionReader(folder) as reader:
                kept = kept_checkpoints(reader.database)
                # Opened now: the trainer of a live session may delete them meanwhile.
                files = HeldFiles(folder, kept)
                stack.callback(files.close)
                found = _problem_of_store(reader.database.connection())
        except (StoreDamaged, BundleRefused, BundleTooNew) as error:
            found = str(error)
        checked.append(Checked(name=DATABASE, size=size, problem=found))
        work.expect(sum(saved.size for saved in kept))
        for saved in kept:
            problem = _problem_of_file(partial(files.open, saved), saved.size, saved.sha256, work)
            if problem and not _is_still_kept(folder, saved):
                continue
            checked.append(Checked(name=saved.path, size=saved.size, problem=problem))
    checked += _imported_models(folder, work)
    return _verified(folder.name, "session", folder.name, checked)


def _problem_of_store(connection: sqlite3.Connection) -> str:
    faults = untrusted.faults(connection)
    if faults:
        return f"It is damaged: {'; '.join(faults)}."
    rows.Checks(connection).check_all(connection.execute)
    rows.check_numbers(connection)
    return ""


def _is_still_kept(folder: Path, saved: CheckpointSaved) -> bool:
    with SessionReader(folder) as reader:
        return any(key_of(other) == key_of(saved) for other in kept_checkpoints(reader.database))


def _imported_models(folder: Path, work: Work) -> List[Checked]:
    """The final models that came with an imported session: only its manifest knows of them."""
    origin = provenance.read(folder)
    models = [
        member
        for member in (origin.manifest.members if origin is not None else [])
        if member.name.startswith(f"{names.FINAL_MODELS}/") and not names.problem(member.name)
    ]
    work.expect(sum(member.size for member in models))
    return [
        Checked(
            name=member.name,
            size=member.size,
            problem=_problem_of_file(
                partial(opened, folder / member.name),
                member.size,
                member.sha256,
                work,
            ),
        )
        for member in models
    ]


def _problem_of_file(
    open_file: Callable[[], ContextManager[BinaryIO]], size: int, sha256: str, work: Work
) -> str:
    digest, found = hashlib.sha256(), 0
    try:
        with open_file() as file:
            for block in iter(lambda: file.read(BLOCK), b""):
                digest.update(block)
                found += len(block)
                work.did(len(block))
    except FileGone as error:
        return f"{str(error).capitalize()}."
    except OSError as error:
        return f"It cannot be read: {error.strerror or error}."
    if found != size:
        return f"It has {found} bytes, and {size} were written."
    if sha256 and digest.hexdigest() != sha256:
        return "It is not what was written: its SHA-256 differs."
    return ""


def _verified(
    target: str, kind: str, session: str, members: List[Checked], problem: str = ""
) -> Verified:
    is_sound = not problem and not any(each.problem for each in members)
    return Verified(
        target=target, kind=kind, session=session, ok=is_sound, members=members, problem=problem
    )


class _Nowhere:
    """Where bytes go that are only to be hashed."""

    def write(self, data: bytes) -> int:
        return len(data)
