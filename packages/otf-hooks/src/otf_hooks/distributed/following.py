"""The parts of an engine that follows: its recorder, writer and keeper go nowhere; rank 0's are for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, List, Mapping, NamedTuple, Optional

from otf_session.events import AnyEvent, CheckpointSaved

from ..errors import NotPossible
from ..parts import Done
from ..recorder import Measurement
from ..snapshot import Snapshot


class Elsewhere(NamedTuple):
    """The session that rank 0 records in. The folder is on its machine."""

    id: str
    folder: Path


class Unrecorded:
    """A recorder that goes nowhere."""

    def warn(self, message: str) -> None:
        """Rank 0 says it of its own."""

    def record(
        self,
        run: str,
        step: int,
        values: Mapping[str, Any],
        seconds: float = 0.0,
        samples: int = 0,
        waited: Optional[float] = None,
    ) -> None:
        """Rank 0 records its own."""

    def put(self, measurement: Measurement) -> None:
        """Rank 0 has it."""

    def add(self, event: AnyEvent) -> None:
        """Rank 0 records what happens."""


class Unwritten:
    """A writer that goes nowhere."""

    def start(self) -> None:
        """There is nothing to write."""

    def wake(self) -> None:
        """There is nothing to write."""

    def close(self, timeout: Optional[float] = None) -> None:
        """There is nothing to write."""


class KeptElsewhere:
    """A keeper that goes nowhere. What rank 0 keeps is asked for through the peers."""

    is_busy = False

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
        """Rank 0 saves for all."""

    def failed(self, *, run: str, step: int, label: str, reason: str, done: Optional[Done]) -> None:
        """Rank 0 records it."""

    def remind(self, seconds: float, remind: Callable[[], None]) -> None:
        """Rank 0 is reminded, and tells."""

    def flush(self) -> None:
        """Nothing is written here."""

    def close(self) -> None:
        """Nothing is written here."""

    def kept(self, run: Optional[str] = None) -> List[CheckpointSaved]:
        """None is kept here."""
        return []

    def before(self, run: str, step: int) -> Optional[CheckpointSaved]:
        """None is kept here."""
        return None

    def find(self, name: str, run: str) -> CheckpointSaved:
        """None is kept here."""
        raise NotPossible(f"Rank 0 keeps the checkpoints, also '{name}'.")

    def pin(self, saved: CheckpointSaved) -> None:
        """Rank 0 pins it."""

    def path(self, saved: CheckpointSaved) -> Path:
        """On rank 0's machine."""
        return Path(saved.path)
