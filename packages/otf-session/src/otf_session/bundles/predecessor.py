"""Bundles of the predecessor: folders with a `bundle.json`, taken in as sessions of our own.

Nothing in them is trusted, as in our own. They carry no hashes; of a file that torch is to load
later the pickle is read, without executing it, and one that would run anything is left out.
"""

import contextlib
import hashlib
import os
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO, Dict, List, NamedTuple, Optional, Set

import msgspec
import peewee

from ..errors import BundleRefused, BundleTooNew, StoreDamaged
from ..events import CheckpointSaved
from ..home import DATABASE, Home
from ..store import SessionStore
from . import draft, names
from .heldfiles import FileGone, opened
from .importer import STAGING, Imported, publish_as_new
from .predecessor_record import INEXACT, Kept, Record, opened_record
from .staging import Staging
from .weights import NotLoadable, TorchFile
from .work import BLOCK, Work, portions

MANIFEST = "bundle.json"

_LARGEST = 64 << 20
#: The first number of the versions of its format that are known.
_KNOWN = "1"
#: Events that are appended at a time.
_APPENDED = 500


class _Manifest(msgspec.Struct, kw_only=True):
    """What `bundle.json` says: where the database lies, and the files by the keys it uses."""

    schema_version: str
    sqlite: str = "runs.sqlite"
    checkpoints: Dict[str, str] = {}
    final_models: Dict[str, str] = {}


class _File(NamedTuple):
    """A file that loads safely, copied into the session."""

    path: str
    size: int
    sha256: str


def import_folder(home: Home, folder: Path, work: Work) -> Imported:
    """Take the predecessor's bundle in `folder` into `home`, under a new id, whole or not at all."""
    manifest = _read_manifest(folder)
    home.ensure()
    with Staging(home.sessions, STAGING) as staging:
        made = staging.path / "session"
        (made / names.CHECKPOINTS).mkdir(parents=True)
        with opened_record(_database(folder, manifest), staging.path / "incoming.sqlite") as record:
            files = _Files(folder, made, work)
            saved = _checkpoints(record, files, manifest)
            _write(made, record, saved, work)
            project, runs = record.project, [run.name for run in record.runs]
            notes = [*files.notes, *record.notes()]
        if saved:
            notes.insert(0, INEXACT)
        published = publish_as_new(home, made)
    return Imported(
        session=published.name,
        folder=str(published),
        project=project,
        original="",
        runs=runs,
        checkpoints=len(saved),
        final_models=0,
        size=(published / DATABASE).stat().st_size + sum(event.size for event in saved),
        notes=notes,
    )


def _read_manifest(folder: Path) -> _Manifest:
    try:
        with (folder / MANIFEST).open("rb") as file:
            found = msgspec.json.decode(file.read(_LARGEST), type=_Manifest)
    except FileNotFoundError:
        raise BundleRefused(
            "A folder is a bundle where it has a bundle.json, and this one has none."
        ) from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BundleRefused(f"Its bundle.json is none: {error}.") from error
    if found.schema_version.partition(".")[0] != _KNOWN:
        raise BundleTooNew(
            f"Its bundle.json has the format {found.schema_version[:20]}, and this version of OnTheFly "
            f"reads {_KNOWN}.x of that kind. Upgrade it: pip install --upgrade onthefly-ai"
        )
    return found


def _database(folder: Path, manifest: _Manifest) -> Path:
    found = _inside(folder, manifest.sqlite, "")
    if found is None:
        raise BundleRefused(f"Its database '{manifest.sqlite[:200]}' is not in the folder.")
    return found


def _inside(folder: Path, named: str, usual: str) -> Optional[Path]:
    """The plain file in the bundle that a path means; None where there is none.

    An absolute one is from the machine that made the bundle: its last part is looked for in the
    folder that such files `usual`ly are in. No link is followed out of the bundle.
    """
    is_absolute = PurePosixPath(named).is_absolute() or PureWindowsPath(named).drive
    parts = PureWindowsPath(named).parts
    if not parts or "\0" in named:
        return None
    path = folder / usual / parts[-1] if is_absolute else folder.joinpath(*parts)
    try:
        real = path.resolve(strict=True)
        is_inside = folder.resolve() in real.parents
    except (OSError, RuntimeError):  # a link to itself
        return None
    return real if is_inside and real.is_file() else None


class _Files:
    """Takes files of the bundle into the session; `notes` say which could not be taken, and why."""

    def __init__(self, folder: Path, made: Path, work: Work) -> None:
        self._folder = folder
        self._made = made
        self._work = work
        self._taken: Set[str] = set()
        self.notes: List[str] = []

    def take(self, named: str, usual: str, plain: str) -> Optional[_File]:
        """Copy a file to `checkpoints/` under a name like `plain`."""
        found = _inside(self._folder, named, usual)
        if found is None:
            self.notes.append(f"The file '{named[:200]}' is left out: it is not in the folder.")
            return None
        try:
            with opened(found) as file:
                TorchFile(file).part("model")
                name = names.free_name(names.CHECKPOINTS, plain, self._taken)
                return self._copy(file, name)
        except (FileGone, NotLoadable) as error:
            self.notes.append(f"The file '{named[:200]}' is left out: {error}.")
            return None

    def _copy(self, file: BinaryIO, name: str) -> _File:
        digest, size = hashlib.sha256(), 0
        self._work.expect(os.fstat(file.fileno()).st_size)
        file.seek(0)
        with (self._made / name).open("xb") as target:
            for block in iter(lambda: file.read(BLOCK), b""):
                digest.update(block)
                size += len(block)
                target.write(block)
                self._work.did(len(block))
            target.flush()
            os.fsync(target.fileno())
        return _File(name, size, digest.hexdigest())


def _checkpoints(record: Record, files: _Files, manifest: _Manifest) -> List[CheckpointSaved]:
    """What is known of the files that load safely, the oldest first."""
    found: List[CheckpointSaved] = []
    ids: Set[str] = set()
    for kept in record.kept(manifest.checkpoints, manifest.final_models):
        file = files.take(kept.path, _usual(kept), f"{kept.run}-{kept.step:08d}-{kept.label}.pt")
        if file is not None:
            found.append(
                CheckpointSaved(
                    time=kept.time,
                    run=kept.run,
                    step=kept.step,
                    label=kept.label,
                    path=file.path,
                    size=file.size,
                    sha256=file.sha256,
                    id=_free_id(f"{kept.run}@{kept.step}-{kept.label}", ids),
                    epoch=record.epoch_at(kept.run, kept.step),
                    # No ring of checkpoints is to delete what somebody brought along.
                    pinned=True,
                )
            )
    return found


def _usual(kept: Kept) -> str:
    return names.FINAL_MODELS if kept.label == "final" else names.CHECKPOINTS


def _free_id(wanted: str, taken: Set[str]) -> str:
    number, found = 1, wanted
    while found in taken:
        number += 1
        found = f"{wanted}-{number}"
    taken.add(found)
    return found


def _write(made: Path, record: Record, saved: List[CheckpointSaved], work: Work) -> None:
    """Write the session's database, as its trainer would have written it."""
    try:
        _append(made, record, saved, work)
    except (peewee.PeeweeException, StoreDamaged) as error:
        raise draft.NotWritten(f"its database cannot be made ({error})") from error


def _append(made: Path, record: Record, saved: List[CheckpointSaved], work: Work) -> None:
    draft.make(made / DATABASE)
    draft.set_session(made / DATABASE, "predecessor", record.project, record.created)
    with (
        contextlib.closing(SessionStore(made)) as store,
        contextlib.closing(record.events(saved)) as events,
    ):
        for some in portions(events, _APPENDED):
            work.did(0)
            store.append(some)
