"""Events: the facts a session consists of.

An event is never changed after it has been appended. It has a `seq`, counted from 1 within its
session without gaps; the number is not part of the event but of its place in the store or in a
`Batch`. Times are seconds since the Unix epoch (UTC), as floats.

Events evolve by added fields with defaults, so that an older reader skips what it does not know.
"""

from enum import Enum
from typing import Dict, List, Optional, Union

import msgspec

from .commands import Command, Outcome, Value
from .health import HealthReport


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
    """A run came into being. `parents` names the runs it grew from; a baseline has none.

    One that began from a checkpoint names it, and the step it holds.
    """

    time: float
    run: str
    parents: List[str] = []
    checkpoint: str = ""
    step: int = 0


class Rewound(Event, frozen=True, kw_only=True, tag="rewound"):
    """A run went back to `step`, from `left_step`, as `checkpoint` holds it.

    What it recorded after `step` until now is no longer part of its curves. `exact` is false where
    a part of the state could not be restored; `findings` says which.
    """

    time: float
    run: str
    step: int
    epoch: int
    left_step: int
    checkpoint: str
    reason: str = ""
    exact: bool = True
    findings: List[str] = []


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
    """A checkpoint was written. `size` is in bytes; a relative `path` is relative to the session.

    `label` says what it was written for: `initial` (before step 1), `best` (validation), `final`,
    `periodic`, `interrupted`, or the name a person gave it. A pinned one stays until it is deleted;
    of the others a run keeps the newest few. `score` is what makes a `best` one the best: its
    validation loss.
    """

    time: float
    run: str
    step: int
    label: str
    path: str
    size: int
    sha256: str
    id: str = ""
    epoch: int = 0
    pinned: bool = False
    score: Optional[float] = None


class CheckpointRemoved(Event, frozen=True, kw_only=True, tag="checkpoint-removed"):
    """A checkpoint's file was deleted, or is no longer kept, because of `reason`."""

    time: float
    run: str
    id: str
    reason: str


class CheckpointFailed(Event, frozen=True, kw_only=True, tag="checkpoint-failed"):
    """A checkpoint could not be written; training went on without it."""

    time: float
    run: str
    step: int
    label: str
    reason: str


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
    """A command was received by the training process, or was applied or refused at `step`.

    `phase` says where training was: `between` epochs, `train`, `validate`, `test` or `end`. A
    replay needs it.
    """

    time: float
    run: str
    step: int
    id: str
    author: str
    command: Command
    status: CommandStatus
    outcome: Optional[Outcome] = None
    phase: str = ""


class Hyperparameter(msgspec.Struct, frozen=True, kw_only=True):
    """One value that can be changed while training runs, with its bounds (`null`: none).

    `group` is the optimizer's parameter group, `null` for what has no groups.
    """

    name: str
    value: Value
    group: Optional[int] = None
    low: Optional[float] = None
    high: Optional[float] = None


class HyperparametersDeclared(Event, frozen=True, kw_only=True, tag="hyperparameters-declared"):
    """All hyperparameters as they are from here on: at a run's start and after each change.

    `lr_owner` is `constant`, `scheduler`, `scaled` (the scheduler's value times `lr_factors`, one
    per group) or `held` (by hand); `lr_rule` says it as a sentence.
    """

    time: float
    run: str
    step: int
    values: List[Hyperparameter]
    lr_owner: str
    lr_rule: str
    lr_factors: List[float] = []


class LimitsChanged(Event, frozen=True, kw_only=True, tag="limits-changed"):
    """Where the run ends from here on (`null`: no such limit), and where it pauses, if anywhere."""

    time: float
    run: str
    step: int
    max_epochs: Optional[int] = None
    max_steps: Optional[int] = None
    pause_at_step: Optional[int] = None
    pause_after_epoch: Optional[int] = None
    steps_per_epoch: Optional[int] = None


class NoteAdded(Event, frozen=True, kw_only=True, tag="note-added"):
    """A person's remark, pinned to `step`."""

    time: float
    run: str
    step: int
    author: str
    text: str


class DeterminismAssessed(Event, frozen=True, kw_only=True, tag="determinism-assessed"):
    """What is known beforehand: whether going back and resuming will be exact, or why not."""

    time: float
    run: str
    exact: bool
    findings: List[str] = []


class GuardTripped(Event, frozen=True, kw_only=True, tag="guard-tripped"):
    """A guard found at `step` what it looks for, and did what its user set: warn, pause or stop.

    `indices` are the dataset indices of that step's batch (positions in an iterable dataset),
    where they are known; `checkpoint` is the last one before the step.
    """

    time: float
    run: str
    step: int
    guard: str
    action: str
    message: str
    value: Optional[float] = None
    indices: List[int] = []
    checkpoint: str = ""


class HealthReported(Event, frozen=True, kw_only=True, tag="health-reported"):
    """A check of the run's health was made at `step`; `author` asked for it, or `schedule` did."""

    time: float
    run: str
    step: int
    report: HealthReport
    author: str = ""


class StallNoticed(Event, frozen=True, kw_only=True, tag="stall-noticed"):
    """Nothing has moved for `seconds` in `phase`; `stack` is where the training thread is.

    `phase` is `first batch`, `compile`, `train`, `data`, `validate`, `test` or `save`. The watchdog
    only tells.
    """

    time: float
    run: str
    step: int
    phase: str
    seconds: float
    stack: str


class StallEnded(Event, frozen=True, kw_only=True, tag="stall-ended"):
    """Training moves again, after `seconds` in which it had not."""

    time: float
    run: str
    step: int
    phase: str
    seconds: float


class RecordsDropped(Event, frozen=True, kw_only=True, tag="records-dropped"):
    """The store could not be written for so long that `count` records had to be given up."""

    time: float
    run: str
    count: int
    reason: str


AnyEvent = Union[
    ProcessStarted,
    RunStarted,
    Rewound,
    StateChanged,
    EpochStarted,
    Metrics,
    LogLine,
    CheckpointSaved,
    CheckpointRemoved,
    CheckpointFailed,
    EvaluationFinished,
    CommandChanged,
    HyperparametersDeclared,
    LimitsChanged,
    NoteAdded,
    DeterminismAssessed,
    GuardTripped,
    HealthReported,
    StallNoticed,
    StallEnded,
    RecordsDropped,
]
