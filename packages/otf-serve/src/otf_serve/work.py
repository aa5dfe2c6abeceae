"""What jobs do, in a thread: the functions of `otf_session`, with their outcome as it is sent."""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple

from otf_session import deletion, display_name
from otf_session.bundles.choice import Checkpoints
from otf_session.bundles.exporter import export_session, file_name
from otf_session.bundles.importer import import_bundle as take_in
from otf_session.bundles.verifier import verify_session
from otf_session.errors import SessionError
from otf_session.home import Home
from otf_session.jobs import (
    BundleMade,
    Fault,
    MetricsMade,
    SessionDeleted,
    SessionImported,
    SessionVerified,
)
from otf_session.metrics.export import export_metrics as write_metrics
from otf_session.metrics.format import Format
from otf_session.models import SessionRow
from otf_session.sizes import files_in
from otf_session.store import SessionReader

from .jobs import Watcher
from .transfers import discard


class Measurements(NamedTuple):
    """Which measurements are written, and how."""

    format: str
    runs: List[str]
    names: List[str]
    wide: bool
    rewound: bool


def called(folder: Path) -> str:
    """How a person knows a session: its name, else its project, else, where it is damaged, its id."""
    try:
        return display_name.read(folder) or _project(folder)
    except SessionError:
        return folder.name


def export(
    folder: Path,
    target: Path,
    runs: List[str],
    checkpoints: Checkpoints,
    final_models: bool,
    watcher: Watcher,
) -> BundleMade:
    """Make a bundle in the folder `target`."""
    made = export_session(
        folder,
        target,
        runs=runs,
        checkpoints=checkpoints,
        final_models=final_models,
        report=watcher.put,
        is_cancelled=watcher.is_cancelled,
    )
    return BundleMade(
        file=Path(made.path).name,
        size=made.size,
        runs=made.runs,
        checkpoints=made.checkpoints,
        final_models=made.final_models,
        notes=made.notes,
    )


def export_metrics(
    folder: Path, target: Path, chosen: Measurements, watcher: Watcher
) -> MetricsMade:
    """Write measurements into a file in the folder `target`."""
    path = target / file_name(_project(folder), folder.name, f".{chosen.format}")
    written = write_metrics(
        folder,
        Format(chosen.format),
        path,
        runs=chosen.runs,
        names=chosen.names,
        rewound=chosen.rewound,
        wide=chosen.wide,
        report=watcher.put_or_end,
    )
    return MetricsMade(
        file=path.name,
        size=path.stat().st_size,
        points=written.points,
        damage=written.damage,
    )


def import_bundle(
    home: Home, bundle: Path, name: str, as_new: bool, watcher: Watcher
) -> SessionImported:
    """Take in the bundle, and remove it."""
    made = take_in(
        home,
        bundle,
        as_new=as_new,
        called=name,
        report=watcher.put,
        is_cancelled=watcher.is_cancelled,
    )
    discard(bundle.parent)
    return SessionImported(
        session=made.session,
        original=made.original,
        project=made.project,
        runs=made.runs,
        checkpoints=made.checkpoints,
        final_models=made.final_models,
        size=made.size,
        notes=made.notes,
    )


def verify(folder: Path, watcher: Watcher) -> SessionVerified:
    """Look at every byte of a session."""
    found = verify_session(folder, report=watcher.put, is_cancelled=watcher.is_cancelled)
    return SessionVerified(
        ok=found.ok,
        files=len(found.members),
        size=sum(each.size for each in found.members),
        faults=[
            Fault(name=each.name, problem=each.problem) for each in found.members if each.problem
        ],
    )


def delete(home: Home, folder: Path, watcher: Watcher) -> SessionDeleted:
    """Delete a session."""
    watcher.put(0, sum(size for _, size in files_in(folder)))
    deletion.delete_session(folder, watcher.advance)
    deletion.clean_up(home)
    return SessionDeleted(freed=watcher.done)


def _project(folder: Path) -> str:
    with SessionReader(folder) as reader:
        return str(SessionRow.select().bind(reader.database).get().project)
