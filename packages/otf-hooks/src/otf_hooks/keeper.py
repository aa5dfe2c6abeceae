"""The checkpoints of a session: written in the background, kept in a ring, pinned outside it."""

from __future__ import annotations

import contextlib
import itertools
import queue
import re
import threading
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import msgspec
from otf_session.events import AnyEvent, CheckpointFailed, CheckpointRemoved, CheckpointSaved

from . import checkpoint
from .errors import CheckpointError, NotPossible
from .parts import Done
from .snapshot import Snapshot

#: What the product itself keeps: always, whatever the ring holds.
PINNED_LABELS = ("initial", "best", "final")


class _Job(NamedTuple):
    snapshot: Snapshot
    run: str
    step: int
    epoch: int
    label: str
    pinned: bool
    score: Optional[float]
    done: Optional[Done]


class CheckpointKeeper:
    """Writes snapshots one after the other in a thread of its own, and deletes what is too old.

    `keep` is how many checkpoints a run keeps beside those that are pinned.
    """

    def __init__(
        self,
        *,
        session: Path,
        folder: Path,
        keep: int,
        known: List[CheckpointSaved],
        record: Callable[[AnyEvent], None],
        warn: Callable[[str], None],
    ) -> None:
        self._session = session
        self._folder = folder
        self._keep = keep
        self._kept: Dict[str, CheckpointSaved] = {event.id: event for event in known}
        self._record = record
        self._warn = warn
        self._warned = ""
        self._jobs: queue.Queue[Optional[_Job]] = queue.Queue()
        self._thread: Optional[threading.Thread] = None
        self._every: Optional[float] = None
        self._due = 0.0
        self._remind: Callable[[], None] = _nobody

    @property
    def is_busy(self) -> bool:
        """Whether a checkpoint is being written or waits to be."""
        return self._jobs.unfinished_tasks > 0

    def save(
        self,
        snapshot: Snapshot,
        *,
        run: str,
        step: int,
        epoch: int,
        label: str,
        pinned: bool = False,
        score: Optional[float] = None,
        done: Optional[Done] = None,
    ) -> None:
        """Write a snapshot in the background; `done` is called in the keeper's thread."""
        self._start()
        pinned = pinned or label in PINNED_LABELS
        self._jobs.put(_Job(snapshot, run, step, epoch, label, pinned, score, done))

    def remind(self, seconds: float, remind: Callable[[], None]) -> None:
        """Call `remind`, in the keeper's thread, whenever so many seconds have passed.

        To be called before the first checkpoint is saved.
        """
        assert self._thread is None, "the keeper's thread has begun without it"
        self._every, self._remind = seconds, remind
        self._due = time.monotonic() + seconds
        self._start()

    def flush(self) -> None:
        """Wait until everything is written."""
        self._jobs.join()

    def close(self) -> None:
        """Write what waits, and end the thread."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    # What there is

    def kept(self, run: Optional[str] = None) -> List[CheckpointSaved]:
        """The checkpoints on disk, the oldest first: all, or those of a run."""
        every = list(self._kept.values())
        return [saved for saved in every if run is None or saved.run == run]

    def before(self, run: str, step: int) -> Optional[CheckpointSaved]:
        """The newest checkpoint of a run that was made before `step` was trained."""
        earlier = [saved for saved in self.kept(run) if saved.step < step]
        return max(earlier, key=lambda saved: (saved.step, saved.time), default=None)

    def find(self, name: str, run: str) -> CheckpointSaved:
        """The checkpoint with an id, or `RUN@STEP`, `RUN@LABEL`, `STEP`, or a label of `run`.

        Raises `NotPossible` where there is none.
        """
        exact = self._kept.get(name)
        if exact is not None:
            return exact
        owner, at, what = name.rpartition("@")
        found = [
            saved
            for saved in self.kept(owner if at else run)
            if what in (saved.label, str(saved.step), "latest")
        ]
        if not found:
            listed = ", ".join(saved.id for saved in self.kept()[-8:]) or "none yet"
            raise NotPossible(f"There is no checkpoint '{name}'. Kept are: {listed}.")
        return max(found, key=lambda saved: saved.time)

    def pin(self, saved: CheckpointSaved) -> None:
        """Keep a checkpoint whatever comes, because another run has grown from it."""
        if saved.id in self._kept and not saved.pinned:
            pinned = msgspec.structs.replace(saved, pinned=True)
            self._kept[saved.id] = pinned
            self._record(pinned)

    def path(self, saved: CheckpointSaved) -> Path:
        """Where a checkpoint lies."""
        return self._session / saved.path

    def _seconds_left(self) -> Optional[float]:
        return None if self._every is None else max(0.0, self._due - time.monotonic())

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._write_all, name="onthefly-checkpoints", daemon=True
            )
            self._thread.start()

    # The keeper's thread

    def _write_all(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._seconds_left())
            except queue.Empty:
                self._due += self._every or 0.0
                self._remind()
                continue
            try:
                if job is None:
                    return
                self._write(job)
            finally:
                # Let go of the copy now, and not when the next one comes: it is as large as the state.
                job = None
                self._jobs.task_done()

    def _write(self, job: _Job) -> None:
        name, path = self._free(job)
        try:
            written = checkpoint.write(path, job.snapshot.wait())
        # Memory that runs out, a device that fails: this thread writes the next one all the same.
        except Exception as error:  # noqa: BLE001
            reason = str(error)
            if not isinstance(error, CheckpointError):
                reason = (
                    f"The checkpoint {path} could not be written: {type(error).__name__}: {error}."
                )
            self.failed(run=job.run, step=job.step, label=job.label, reason=reason, done=job.done)
            return
        saved = CheckpointSaved(
            time=time.time(),
            run=job.run,
            step=job.step,
            epoch=job.epoch,
            label=job.label,
            id=name,
            path=self._shown(written.path),
            size=written.size,
            sha256=written.sha256,
            pinned=job.pinned,
            score=job.score,
        )
        self._warned = ""
        self._kept[saved.id] = saved
        self._record(saved)
        if job.done is not None:
            job.done(saved)
        self._make_room(saved)

    def failed(self, *, run: str, step: int, label: str, reason: str, done: Optional[Done]) -> None:
        """Record that a checkpoint could not be made, and tell the person."""
        self._record(
            CheckpointFailed(time=time.time(), run=run, step=step, label=label, reason=reason)
        )
        # A disk that is full stays full for a while: said once, recorded each time.
        cause = reason.rpartition(":")[2]
        if cause != self._warned:
            self._warned = cause
            self._warn(f"{reason} Training goes on without it.")
        if done is not None:
            done(reason)

    def _make_room(self, newest: CheckpointSaved) -> None:
        of_run = self.kept(newest.run)
        if newest.label == "best":
            for saved in of_run:
                # After a rewind the best so far may be worse than one of what was rewound.
                if saved.label == "best" and saved.id != newest.id and _is_better(newest, saved):
                    self._remove(saved, f"{newest.id} is better")
        if newest.label == "initial":
            for saved in of_run:
                # Made before the run's place in its data was known, which the newest one has.
                if saved.label == "initial" and saved.id != newest.id and saved.step == newest.step:
                    self._remove(saved, f"{newest.id} has the place in the data")
        ring = [saved for saved in of_run if not saved.pinned]
        for saved in ring[: max(0, len(ring) - self._keep)]:
            self._remove(saved, f"{self._keep} newer ones are kept")

    def _remove(self, saved: CheckpointSaved, reason: str) -> None:
        with contextlib.suppress(OSError):
            self.path(saved).unlink()
        del self._kept[saved.id]
        self._record(CheckpointRemoved(time=time.time(), run=saved.run, id=saved.id, reason=reason))

    def _free(self, job: _Job) -> Tuple[str, Path]:
        """An id and a file of its own: after a rewind a run may come to a step another way."""
        file_name = f"{_file_name(job.run)}-{job.step:08d}-{_file_name(job.label)}"
        for suffix in itertools.chain([""], (f"-{number}" for number in itertools.count(2))):
            name = f"{job.run}@{job.step}-{job.label}{suffix}"
            path = self._folder / f"{file_name}{suffix}.pt"
            if name not in self._kept and not path.exists():
                return name, path
        raise AssertionError("there is always a number that is free")

    def _shown(self, path: Path) -> str:
        inside = self._session in path.parents
        return (path.relative_to(self._session) if inside else path).as_posix()


def _is_better(one: CheckpointSaved, other: CheckpointSaved) -> bool:
    return one.score is None or other.score is None or one.score <= other.score


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.+-]", "_", text)


def _nobody() -> None:
    """Nobody wants to be reminded."""
