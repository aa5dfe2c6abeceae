"""The parts of an engine that are of two kinds: those of the process that records, and the others'."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, List, Mapping, Optional, Protocol, Union

from otf_session.events import AnyEvent, CheckpointSaved

from .recorder import Measurement
from .snapshot import Snapshot

#: Told what was written, or why it could not be.
Done = Callable[[Union[CheckpointSaved, str]], None]


class Session(Protocol):
    """Which session a process records in, or another one records in for it."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def folder(self) -> Path:
        """Where it lies, on the machine of the process that records."""


class Recording(Protocol):
    """Takes what is measured and what happens; see `Recorder`."""

    def record(
        self,
        run: str,
        step: int,
        values: Mapping[str, Any],
        seconds: float = 0.0,
        samples: int = 0,
        waited: Optional[float] = None,
    ) -> None:
        """Record the values measured at a step."""

    def add(self, event: AnyEvent) -> None:
        """Record an event."""


class Target(Recording, Protocol):
    """Takes also what others measured; see `Recorder`."""

    def warn(self, message: str) -> None:
        """Tell the person of what is not recorded, and why."""

    def put(self, measurement: Measurement) -> None:
        """Record what was measured before, as numbers."""


class Writing(Protocol):
    """Writes the session; see `Writer`."""

    def start(self) -> None:
        """Begin to write."""

    def wake(self) -> None:
        """Write now."""

    def close(self, timeout: Optional[float] = None) -> None:
        """Write what is left."""


class Keeper(Protocol):
    """Keeps the checkpoints; see `CheckpointKeeper`."""

    @property
    def is_busy(self) -> bool:
        """Whether a checkpoint is being written or waits to be."""

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
        """Write a snapshot in the background."""

    def failed(self, *, run: str, step: int, label: str, reason: str, done: Optional[Done]) -> None:
        """Record that a checkpoint could not be made."""

    def remind(self, seconds: float, remind: Callable[[], None]) -> None:
        """Call `remind` whenever so many seconds have passed."""

    def flush(self) -> None:
        """Wait until everything is written."""

    def close(self) -> None:
        """Write what waits, and end."""

    def kept(self, run: Optional[str] = None) -> List[CheckpointSaved]:
        """The checkpoints on disk, the oldest first: all, or those of a run."""

    def before(self, run: str, step: int) -> Optional[CheckpointSaved]:
        """The newest checkpoint of a run that was made before `step` was trained."""

    def find(self, name: str, run: str) -> CheckpointSaved:
        """The checkpoint that a name means; `NotPossible` where there is none."""

    def pin(self, saved: CheckpointSaved) -> None:
        """Keep a checkpoint whatever comes."""

    def path(self, saved: CheckpointSaved) -> Path:
        """Where a checkpoint lies."""
