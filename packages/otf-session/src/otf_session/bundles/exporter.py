"""Export: a session becomes one file, also while it is being trained."""

import contextlib
import os
import re
import sqlite3
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

import msgspec

from .. import display_name, migrations, package_version
from ..errors import NotExported
from ..events import (
    CheckpointRemoved,
    CheckpointSaved,
    CommandChanged,
    CommandStatus,
    ProcessStarted,
)
from ..home import DATABASE
from ..liveness import is_alive
from ..models import SessionRow
from ..queries import events_of, kept_checkpoints
from ..store import SessionReader
from . import manifest, names
from .choice import Checkpoints
from .draft import Draft, key_of
from .heldfiles import HeldFiles
from .members import Members
from .selection import Selection, select
from .staging import Staging
from .work import IsCancelled, Report, Work
from .writer import BundleWriter

SUFFIX = ".otf.zip"

_STAGING = ".otf-export-"
#: How often a moment is waited for at which every checkpoint's file is there.
_MOMENTS = 9
#: Seconds in which a trainer writes down what it did.
_UNTIL_WRITTEN = 0.3


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that was made. `size` is in bytes; `notes` say what is not in it, and why."""

    path: str
    size: int
    session: str
    runs: List[str]
    checkpoints: int
    final_models: int
    notes: List[str] = []


def export_session(
    folder: Path,
    target: Optional[Path] = None,
    *,
    runs: Sequence[str] = (),
    checkpoints: Checkpoints = Checkpoints.ALL,
    final_models: bool = False,
    force: bool = False,
    report: Optional[Report] = None,
    is_cancelled: Optional[IsCancelled] = None,
) -> Exported:
    """Write the session in `folder` into the file `target`, whole or not at all.

    `target` may be a folder, by default the current one: then the file is named after project and
    id. `runs` limits it to these and their ancestors; with `final_models` it gets the weights
    alone of final and best checkpoints too. A file that is there already is replaced with `force`.

    Raises `NotExported`, `StoreDamaged` or `Cancelled`; then nothing is left behind.
    """
    work = Work(report, is_cancelled)
    with SessionReader(folder) as reader:
        session = SessionRow.select().bind(reader.database).get()
    target = target or Path()
    if target.is_dir():
        target /= file_name(session.project, session.id, SUFFIX)
    if target.exists() and not force:
        raise _exists(target)
    try:
        with Staging(target.parent, _STAGING) as staging:
            export = _Export(folder, staging.path, work)
            exported = export.run(runs, Checkpoints(checkpoints), final_models)
            _publish(export.bundle, target, force=force)
    except (OSError, sqlite3.Error) as error:
        raise NotExported(
            f"The bundle {target} cannot be written: {getattr(error, 'strerror', None) or error}. "
            "Nothing of it was left behind, and the session is as it was."
        ) from error
    return msgspec.structs.replace(exported, path=str(target))


def file_name(project: str, session_id: str, suffix: str) -> str:
    """What a file made from a session is called where nobody says."""
    plain = re.sub(r"[^\w.+-]+", "-", project).strip("-.")[:60]
    return f"{plain or 'session'}-{session_id}{suffix}"


def _publish(made: Path, target: Path, *, force: bool) -> None:
    """Let the bundle appear under its name, whole."""
    if force:
        made.replace(target)
        return
    try:
        # Unlike a rename, a link does not replace what somebody else put there meanwhile.
        os.link(made, target)
    except FileExistsError:
        raise _exists(target) from None
    except OSError:  # a file system without links
        if target.exists():
            raise _exists(target) from None
        made.rename(target)


def _exists(target: Path) -> NotExported:
    return NotExported(f"{target} exists already. Choose another name with -o, or use --force.")


class _Facts(NamedTuple):
    """What the manifest says of a session beside its members."""

    session: Any
    name: str
    versions: Dict[str, str]
    interventions: List[Any]


class _Export:
    """One export, in a folder that nobody looks at."""

    def __init__(self, folder: Path, scratch: Path, work: Work) -> None:
        self._folder = folder
        self._work = work
        self._draft = scratch / "draft.sqlite"
        self._record = scratch / DATABASE
        self.bundle = scratch / "bundle.zip"

    def run(self, runs: Sequence[str], which: Checkpoints, final_models: bool) -> Exported:
        """Make the bundle in its hidden place."""
        with contextlib.ExitStack() as stack:
            bundle = stack.enter_context(BundleWriter(self.bundle, self._work))
            with Draft(self._draft, self._work) as draft:
                with self._moment(runs, which, final_models) as (reader, selection, files):
                    stack.callback(files.close)
                    included = {run.name for run in selection.runs}
                    draft.copy(
                        reader.database.connection().execute,
                        runs=included if selection.left_out_runs else None,
                    )
                    facts = _facts(self._folder, reader.database, included)
                members = Members(bundle, files, self._work, self._is_kept)
                members.add_checkpoints(selection.checkpoints)
                if final_models:
                    members.add_models(selection.final)
                    members.add_imported_models(self._folder, selection.chosen)
                    members.note_missing_models(sorted(selection.chosen))
                left_out = {**selection.left_out, **members.lost}
                draft.move_checkpoints(members.paths)
                draft.append(_removals(selection, left_out))
                last_seq = draft.last_seq()
                draft.compact(self._record)
            self._draft.unlink()
            members.add_record(self._record, facts.session.created)
            size = bundle.finish(_manifest(facts, selection, members.listed, left_out, last_seq))
        return Exported(
            path="",
            size=size,
            session=facts.session.id,
            runs=[run.name for run in selection.runs],
            checkpoints=members.count(names.CHECKPOINTS),
            final_models=members.count(names.FINAL_MODELS),
            notes=members.notes,
        )

    def _is_kept(self, saved: CheckpointSaved) -> bool:
        """Whether the session counts on a checkpoint now; a trainer says so a moment later."""
        if is_alive(self._folder) is not False:
            time.sleep(_UNTIL_WRITTEN)
        with SessionReader(self._folder) as reader:
            kept = kept_checkpoints(reader.database)
        return key_of(saved) in map(key_of, kept)

    @contextlib.contextmanager
    def _moment(
        self, runs: Sequence[str], which: Checkpoints, final_models: bool
    ) -> Iterator[Tuple[SessionReader, Selection, HeldFiles]]:
        """A moment of the session: its record, and the files that it speaks of, opened.

        Where a trainer deletes one between the two, a later moment is taken. One that is missing
        twice is missing.
        """
        missing: Set[str] = set()
        for is_last in [*[False] * _MOMENTS, True]:
            with SessionReader(self._folder) as reader:
                selection = select(reader.database, self._folder.name, runs, which)
                wanted = [*selection.checkpoints, *(selection.final if final_models else [])]
                files = HeldFiles(self._folder, wanted)
                if is_last or files.missing <= missing:
                    yield reader, selection, files
                    return
            missing = files.missing
            files.close()
            if is_alive(self._folder) is not False:
                time.sleep(_UNTIL_WRITTEN)


def _facts(folder: Path, database: Any, runs: Set[str]) -> _Facts:
    versions = {"otf-session": package_version()}
    for started in events_of(database, ProcessStarted):
        versions.update({**started.versions, "python": started.python})
    return _Facts(
        session=SessionRow.select().bind(database).get(),
        name=display_name.read(folder),
        versions=versions,
        interventions=[
            event
            for event in events_of(database, CommandChanged)
            if event.status is CommandStatus.APPLIED and event.run in {*runs, ""}
        ],
    )


def _removals(selection: Selection, left_out: Dict[str, str]) -> List[CheckpointRemoved]:
    """What the record says of checkpoints that do not come along, so that nobody looks for them."""
    now = time.time()
    return [
        CheckpointRemoved(time=now, run=saved.run, id=key_of(saved), reason=left_out[key_of(saved)])
        for saved in selection.kept
        if key_of(saved) in left_out
    ]


def _manifest(
    facts: _Facts,
    selection: Selection,
    members: List[manifest.Member],
    left_out: Dict[str, str],
    last_seq: int,
) -> manifest.Manifest:
    session = facts.session
    return manifest.Manifest(
        format=manifest.FORMAT,
        created=time.time(),
        session=manifest.SessionEntry(
            id=session.id,
            project=session.project,
            created=session.created,
            last_seq=last_seq,
            schema=migrations.NEWEST,
            name=facts.name,
        ),
        runs=[
            manifest.RunEntry(
                name=run.name,
                parents=run.parents,
                state=run.state.value,
                step=run.step,
                epoch=run.epoch,
                chosen=run.name in selection.chosen,
            )
            for run in selection.runs
        ],
        members=members,
        left_out_runs=selection.left_out_runs,
        left_out=[manifest.LeftOut(checkpoint=key, reason=why) for key, why in left_out.items()],
        versions=facts.versions,
        interventions=facts.interventions,
    )
