"""Verify: what is wrong with a bundle, or with a session of this home, member by member."""

import hashlib
import tempfile
from functools import partial
from pathlib import Path
from typing import BinaryIO, Callable, ContextManager, List, Optional, cast

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
    work = Work(report, is_cancelled)
    try:
        return _verify(home, target, work)
    except OSError as error:
        raise NotVerified(
            f"{target} cannot be looked at as a whole: {error.strerror or error}."
        ) from error


def _verify(home: Home, target: str, work: Work) -> Verified:
    path = Path(target)
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
    kept: List[CheckpointSaved] = []
    problem = ""
    try:
        with SessionReader(folder) as reader:
            problem = _problem_of_store(reader.database)
            kept = kept_checkpoints(reader.database)
    except (StoreDamaged, msgspec.MsgspecError) as error:
        problem = str(error)
    checked = [Checked(name=DATABASE, size=(folder / DATABASE).stat().st_size, problem=problem)]
    work.expect(sum(saved.size for saved in kept))
    for saved in kept:
        found = _problem_of_file(folder / saved.path, saved.size, saved.sha256, work)
        # A trainer that is alive may have deleted it since it was listed.
        if not found or _is_kept(folder, saved):
            checked.append(Checked(name=saved.path, size=saved.size, problem=found))
    origin = provenance.read(folder)
    for member in origin.manifest.members if origin is not None else []:
        # Its checkpoints are in the record, which goes on after the import.
        if member.name.startswith(f"{names.FINAL_MODELS}/") and not names.problem(member.name):
            found = _problem_of_file(folder / member.name, member.size, member.sha256, work)
            checked.append(Checked(name=member.name, size=member.size, problem=found))
    return _verified(str(folder), "session", folder.name, checked)


def _problem_of_store(database: Any) -> str:
    connection = database.connection()
    faults = connection.execute(f"PRAGMA integrity_check({untrusted.FAULTS})").fetchall()
    if faults != [("ok",)]:
        return f"It is damaged: {'; '.join(text for (text,) in faults)}."
    try:
        rows.Checks(connection).check_all(connection.execute)
        rows.check_numbers(connection)
    except (BundleRefused, BundleTooNew) as error:
        return str(error)
    return ""


def _problem_of_file(path: Path, size: int, sha256: str, work: Work) -> str:
    digest, found = hashlib.sha256(), 0
    try:
        with opened(path) as file:
            for block in iter(lambda: file.read(BLOCK), b""):
                digest.update(block)
                found += len(block)
                work.did(len(block))
    except (FileGone, OSError) as error:
        return f"It cannot be read: {error}."
    if found != size:
        return f"It has {found} bytes, and {size} were written."
    if sha256 and digest.hexdigest() != sha256:
        return "It is not what was written: its SHA-256 differs."
    return ""


def _is_kept(folder: Path, saved: CheckpointSaved) -> bool:
    with SessionReader(folder) as reader:
        return key_of(saved) in {key_of(each) for each in kept_checkpoints(reader.database)}


def _verified(
    target: str, kind: str, session: str, checked: List[Checked], problem: str = ""
) -> Verified:
    ok = not problem and not any(each.problem for each in checked)
    return Verified(
        target=target, kind=kind, session=session, ok=ok, members=checked, problem=problem
    )


class _Nowhere:
    """Where bytes go that are only to be hashed."""

    def write(self, data: bytes) -> int:
        return len(data)
