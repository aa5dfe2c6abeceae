"""Verify: what is wrong with a bundle, or with a session of this home, member by member."""

import contextlib
import hashlib
import sqlite3
import tempfile
from pathlib import Path
from typing import Any, BinaryIO, Iterator, List, Optional, cast

import msgspec

from ..errors import BundleRefused, BundleTooNew, StoreDamaged
from ..events import CheckpointSaved
from ..home import DATABASE, Home
from ..queries import kept_checkpoints
from ..store import SessionReader
from . import names, provenance, rows, untrusted
from .archive import Archive
from .draft import key_of
from .heldfiles import FileGone, opened
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

    What exists as a file is a bundle. Nothing is changed. Raises `SessionNotFound`, `NotImported`
    where a file cannot be opened, and `Cancelled`.
    """
    work = Work(report, is_cancelled)
    path = Path(target)
    if path.exists() or target.endswith(".zip"):
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
    problem = ""
    size = (folder / DATABASE).stat().st_size
    try:
        with SessionReader(folder) as reader:
            kept = kept_checkpoints(reader.database)
            work.expect(sum(saved.size for saved in kept))
            found = _problem_of_store(reader.database)
    except StoreDamaged as error:
        kept, found = [], str(error)
    checked = [Checked(name=DATABASE, size=size, problem=found)]
    ...


class _Nowhere:
    """Where bytes go that are only to be hashed."""

    def write(self, data: bytes) -> int:
        return len(data)
