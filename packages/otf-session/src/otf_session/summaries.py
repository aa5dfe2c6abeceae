"""What readers get: sessions, runs, series, pages of the log."""

from enum import Enum
from typing import Dict, List, Optional, Sequence, Union

import msgspec

from .events import (
    CheckpointFailed,
    CheckpointSaved,
    CommandChanged,
    DeterminismAssessed,
    EpochStarted,
    EvaluationFinished,
    GuardTripped,
    HealthReported,
    HyperparametersDeclared,
    LimitsChanged,
    LogLine,
    NoteAdded,
    RecordsDropped,
    Rewound,
    RunState,
    StallEnded,
    StallNoticed,
    StateChanged,
)


class SessionState(str, Enum):
    """A session's state: that of its current run, or `lost`.

    `lost` is never written: it is what a reader finds when a run has not ended and its process is
    gone.
    """

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A run at a glance. `latest` holds each metric's newest value (`null`: not finite)."""

    name: str
    parents: List[str]
    state: RunState
    reason: str
    step: int
    epoch: int
    created: float
    updated: float
    latest: Dict[str, Optional[float]]


class SessionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A session at a glance. `connected` says whether its trainer is linked to this server.

    `name` is what a person calls it; empty where nobody has named it.
    """

    id: str
    project: str
    created: float
    updated: float
    state: SessionState
    runs: List[RunSummary]
    last_seq: int
    connected: bool = False
    name: str = ""

    @property
    def current(self) -> Optional[RunSummary]:
        """The run that moved last; None where there is none yet."""
        return current_run(self.runs)


def current_run(runs: Sequence[RunSummary]) -> Optional[RunSummary]:
    """The run that moved last: a rewind may have gone back to one that is not the newest.

    Of two that moved at once it is the newer: it came out of the other.
    """
    return max(runs, key=lambda run: (run.updated, run.created), default=None)


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one run: `count` points in the store, thinned out to those listed here.

    Minima, maxima, the first, the last and every non-finite (`null`) region survive the thinning.
    """

    run: str
    name: str
    count: int
    steps: List[int]
    values: List[Optional[float]]


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the log together with its `seq`, by which the log is paged."""

    seq: int
    line: LogLine


class LogPage(msgspec.Struct, frozen=True, kw_only=True):
    """Lines in ascending `seq`; `more` says whether older ones exist before the first."""

    entries: List[LogEntry]
    more: bool


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A session as it was when its newest event was `seq`. Everything later comes as batches.

    `checkpoints` are those that are kept. Of `hyperparameters`, `limits` and `determinism` the
    newest of each run is here, of `health` the newest of each run and check, and of `stalls` the
    last hundred.
    """

    seq: int
    session: SessionSummary
    series: List[Series]
    epochs: List[EpochStarted]
    log: LogPage
    commands: List[CommandChanged]
    evaluations: List[EvaluationFinished]
    checkpoints: List[CheckpointSaved] = []
    checkpoint_failures: List[CheckpointFailed] = []
    hyperparameters: List[HyperparametersDeclared] = []
    limits: List[LimitsChanged] = []
    notes: List[NoteAdded] = []
    determinism: List[DeterminismAssessed] = []
    guards: List[GuardTripped] = []
    health: List[HealthReported] = []
    stalls: List[Union[StallNoticed, StallEnded]] = []
    rewinds: List[Rewound] = []
    pauses: List[StateChanged] = []
    dropped: List[RecordsDropped] = []
