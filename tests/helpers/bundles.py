"""Sessions with checkpoints for tests of bundles, and bundles that are not as they should be."""

import hashlib
import json
import sqlite3
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from otf_session.bundles.exporter import export_session
from otf_session.bundles.importer import import_bundle
from otf_session.commands import Applied, SetHyperparameters
from otf_session.errors import Cancelled
from otf_session.events import (
    CheckpointRemoved,
    CheckpointSaved,
    CommandChanged,
    CommandStatus,
    ProcessStarted,
    RunStarted,
    RunState,
)
from otf_session.home import DATABASE, Home
from otf_session.store import SessionStore

from .sessions import BEGIN, RUN, line, losses, make_session, metrics, started, state

#: A bundle's members, in their order.
Members = Dict[str, bytes]


def saved(
    store: SessionStore,
    step: int,
    label: str,
    *,
    run: str = RUN,
    pinned: bool = False,
    content: Optional[bytes] = None,
) -> CheckpointSaved:
    """A checkpoint that is written into the session; its event is still to be appended."""
    path = f"checkpoints/{run}-{step}-{label}.pt"
    text = f"weights of {run} at {step}, {label}".encode() if content is None else content
    (store.folder / path).write_bytes(text)
    return CheckpointSaved(
        time=BEGIN + step,
        run=run,
        step=step,
        label=label,
        path=path,
        size=len(text),
        sha256=hashlib.sha256(text).hexdigest(),
        id=f"{run}@{step}-{label}",
        pinned=pinned,
    )


def lineage(home: Home) -> SessionStore:
    """A session with a baseline, a fork of it and another run, each with checkpoints.

    Baseline: initial, 10-periodic (gone), 20-periodic, 20-best (pinned). Fork, from 20-periodic:
    25-mine (pinned), 30-final. Other: 5-final.
    """
    store = make_session(home, project="a project / of mine")
    store.append(
        [
            ProcessStarted(
                time=BEGIN,
                pid=1,
                host="workstation",
                argv=["train.py"],
                python="3.11.7",
                versions={"torch": "2.13.0"},
            ),
            started(),
            saved(store, 0, "initial", pinned=True),
            losses(1, 20),
            line(3),
            CommandChanged(
                time=BEGIN + 4,
                run=RUN,
                step=4,
                id="c1",
                author="dashboard",
                command=SetHyperparameters(values={"lr": 0.5}),
                status=CommandStatus.APPLIED,
                outcome=Applied(step=4, message="lr is 0.5."),
            ),
            saved(store, 10, "periodic"),
            saved(store, 20, "periodic"),
            saved(store, 20, "best", pinned=True),
            CheckpointRemoved(
                time=BEGIN + 20, run=RUN, id=f"{RUN}@10-periodic", reason="two newer ones are kept"
            ),
            state(RunState.FINISHED, step=20),
            RunStarted(
                time=BEGIN + 21,
                run="fork1",
                parents=[RUN],
                checkpoint=f"{RUN}@20-periodic",
                step=20,
            ),
            metrics([21, 22], run="fork1", loss=[0.5, None], accuracy=[0.25, 0.75]),
            line(22, run="fork1"),
            saved(store, 25, "mine", run="fork1", pinned=True),
            saved(store, 30, "final", run="fork1"),
            state(RunState.FINISHED, run="fork1", step=30),
            started("other", time=BEGIN + 40),
            metrics([1], run="other", loss=[2.0]),
            saved(store, 5, "final", run="other"),
            state(RunState.STOPPED, run="other", step=5),
        ]
    )
    (store.folder / f"checkpoints/{RUN}-10-periodic.pt").unlink()
    store.close()
    return store


def tiny(home: Home) -> SessionStore:
    """The smallest session that has a bit of everything."""
    store = make_session(home, started())
    store.append([losses(1, 3), line(1), saved(store, 3, "final")])
    store.close()
    return store


def bundle_of(store: SessionStore, folder: Path, **options: Any) -> Path:
    """A bundle of a session, in a folder."""
    return Path(export_session(store.folder, folder, **options).path)


def contents(folder: Path) -> Dict[str, bytes]:
    """What a session's folder holds, by relative path: record, checkpoints and models."""
    with sqlite3.connect(str(folder / DATABASE)) as connection:
        # A reader may have left a log beside it: folded in, the file is whole.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in [folder / DATABASE, *sorted(folder.glob("*/*"))]
    }


def tree(folder: Path) -> List[str]:
    """Everything below a folder, hidden things included."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def members_of(bundle: Path) -> Members:
    """A bundle's members."""
    with zipfile.ZipFile(bundle) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(bundle: Path, members: Members) -> Path:
    """A bundle with these members as they are."""
    with zipfile.ZipFile(bundle, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return bundle


def sign(members: Members) -> Members:
    """The members with a manifest that states their true sizes and hashes."""
    manifest = json.loads(members["manifest.json"])
    for entry in manifest["members"]:
        content = members[entry["name"]]
        entry["size"], entry["sha256"] = len(content), hashlib.sha256(content).hexdigest()
    return {**members, "manifest.json": json.dumps(manifest).encode()}


def with_manifest(bundle: Path, change: Callable[[Any], None]) -> Path:
    """The bundle, with something changed in its manifest."""
    members = members_of(bundle)
    manifest = json.loads(members["manifest.json"])
    change(manifest)
    return pack(bundle, {**members, "manifest.json": json.dumps(manifest).encode()})


def with_record(bundle: Path, *statements: str) -> Path:
    """The bundle, with SQL executed on its record, and signed as if it had always been so."""
    members = members_of(bundle)
    record = bundle.with_name("record.sqlite")
    record.write_bytes(members[DATABASE])
    connection = sqlite3.connect(str(record), isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()
    members[DATABASE] = record.read_bytes()
    record.unlink()
    return pack(bundle, sign(members))


def moments_cancelled(target: Home, bundle: Path) -> int:
    """How many moments of an import can be cancelled at; each time nothing may be left behind."""
    moments = 0
    while True:
        left = iter([False] * moments)
        try:
            import_bundle(target, bundle, is_cancelled=lambda left=left: next(left, True))
        except Cancelled:
            assert tree(target.path.parent) == ["home", "home/sessions"]
        else:
            return moments
        moments += 1
