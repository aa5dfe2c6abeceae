"""Events: the facts a session consists of.

An event is never changed after it has been appended. It has a `seq`, counted from 1 within its
session without gaps; the number is not part of the event but of its place in the store or in a
`Batch`. Times are seconds since the Unix epoch (UTC), as floats.

Events evolve by added fields with defaults, so that an older reader skips what it does not know.
"""

from enum import Enum
from typing import Dict, List, Optional, Union

import msgspec

from .commands import Command, Outcome


class RunState(str, Enum):
    """What a run is doing, as its trainer says it."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether a run in this state has ended."""
        return self in (RunState.FINISHED, RunState.STOPPED, RunState.FAILED)


class CommandStatus(str, Enum):
    """How far a command has come."""

    RECEIVED = "received"
    APPLIED = "applied"
    REFUSED = "refused"


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """The base of every event; `kind` is its tag on the wire and in the store."""


class ProcessStarted(Event, frozen=True, kw_only=True, tag="process-started"):
    """A training process opened the session.

    `versions` maps distribution names to the versions in use; `argv` is the command line.
    """

    time: float
    pid: int
    host: str
    argv: List[str]
    python: str
    versions: Dict[str, str]


class RunStarted(Event, frozen=True, kw_only=True, tag="run-started"):
    """A run came into being. `parents` names the runs it grew from; a baseline has none."""

    time: float
    run: str
    parents: List[str] = []


class StateChanged(Event, frozen=True, kw_only=True, tag="state-changed"):
    """A run's state changed at `step`. `reason` says why, where it is not obvious."""

    time: float
    run: str
    state: RunState
    step: int
    reason: str = ""


class EpochStarted(Event, frozen=True, kw_only=True, tag="epoch-started"):
    """Epoch `epoch` (from 1) began; its first step is `step + 1`."""

    time: float
    run: str
    epoch: int
    step: int


class Metrics(Event, frozen=True, kw_only=True, tag="metrics"):
    """Measurements of some steps, in columns.

    `steps` and `times` have one entry per step, and each list in `values` has one entry per step.
    An entry `null` was measured and is not finite; a metric that was not measured at these steps
    is not in `values`.
    """

    run: str
    steps: List[int]
    times: List[float]
    values: Dict[str, List[Optional[float]]]


class LogLine(Event, frozen=True, kw_only=True, tag="log"):
    """A line of the run's log. `level` is the number of Python's `logging` (20 is INFO)."""

    time: float
    run: str
    step: int
    level: int
    logger: str
    text: str


class CheckpointSaved(Event, frozen=True, kw_only=True, tag="checkpoint-saved"):
    """A checkpoint was written. `size` is in bytes; a relative `path` is relative to the session."""

    time: float
    run: str
    step: int
    label: str
    path: str
    size: int
    sha256: str


class EvaluationFinished(Event, frozen=True, kw_only=True, tag="evaluation-finished"):
    """The live weights were evaluated over one split (`validation` or `test`) at `step`.

    `values` are means over `samples` samples; `null` is a mean that is not finite.
    """

    time: float
    run: str
    step: int
    split: str
    samples: int
    values: Dict[str, Optional[float]]


class CommandChanged(Event, frozen=True, kw_only=True, tag="command-changed"):
    """A command was received by the training process, or was applied or refused at `step`."""

    time: float
    run: str
    step: int
    id: str
    author: str
    command: Command
    status: CommandStatus
    outcome: Optional[Outcome] = None


class RecordsDropped(Event, frozen=True, kw_only=True, tag="records-dropped"):
    """The store could not be written for so long that `count` records had to be given up."""

    time: float
    run: str
    count: int
    reason: str


AnyEvent = Union[
    ProcessStarted,
    RunStarted,
    StateChanged,
    EpochStarted,
    Metrics,
    LogLine,
    CheckpointSaved,
    EvaluationFinished,
    CommandChanged,
    RecordsDropped,
]
