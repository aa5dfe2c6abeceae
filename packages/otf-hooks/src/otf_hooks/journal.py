"""The journal: what happens to a run, recorded with when, in which run and at which step."""

from __future__ import annotations

import os
import platform
import sys
import time
from importlib import metadata
from typing import Any, Callable, Dict, List, Optional, Protocol

import torch
from otf_session.commands import CommandRequest, Outcome
from otf_session.events import (
    AnyEvent,
    CommandChanged,
    CommandStatus,
    DeterminismAssessed,
    EvaluationFinished,
    GuardTripped,
    HyperparametersDeclared,
    LimitsChanged,
    LogLine,
    ProcessStarted,
    RunState,
    StallEnded,
    StallNoticed,
    StateChanged,
)

from .front import Evaluated
from .guards import Trip
from .hyperparameters import Hyperparameters
from .limits import Limits
from .parts import Recording
from .watchdog import Stall


class Where(Protocol):
    """Where training is; asked whenever something is recorded."""

    run: str
    step: int

    @property
    def phase(self) -> str:
        """Where in its loop."""


class Journal:
    """Adds events to the recorder. May be used from any thread.

    `wake` has the writer write now rather than at the end of its interval: for what somebody waits
    to see.
    """

    def __init__(self, recorder: Recording, wake: Callable[[], None], where: Where) -> None:
        self._recorder = recorder
        self._wake = wake
        self._where = where

    def add(self, kind: Callable[..., AnyEvent], **fields: Any) -> None:
        """Record an event of the current run at its current step, unless `fields` says otherwise."""
        where = self._where
        self._recorder.add(
            kind(**{"time": time.time(), "run": where.run, "step": where.step, **fields})
        )

    def process_started(self) -> None:
        """This process opened the session."""
        self._recorder.add(
            ProcessStarted(
                time=time.time(),
                pid=os.getpid(),
                host=platform.node(),
                argv=[*_launcher(), *sys.argv],
                python=platform.python_version(),
                versions=versions(),
            )
        )

    def changed(self, state: RunState, reason: str = "", run: Optional[str] = None) -> None:
        """A run's state changed: the current one's, or that of `run`."""
        named = {} if run is None else {"run": run}
        self.add(StateChanged, state=state, reason=encodable(reason), **named)
        self._wake()

    def line(self, level: int, logger: str, text: str) -> None:
        """A line of the log."""
        self.add(LogLine, level=level, logger=logger, text=encodable(text))

    def evaluated(self, found: Evaluated) -> None:
        """The means of an evaluation."""
        self.add(
            EvaluationFinished,
            split=found.split,
            samples=found.samples,
            values=dict(found.values),
        )

    def hyperparameters(self, found: Hyperparameters) -> None:
        """All hyperparameters, as they are from here on."""
        self.add(
            HyperparametersDeclared,
            values=found.table(),
            lr_owner=found.lr_owner,
            lr_rule=found.lr_rule,
            lr_factors=found.lr_factors,
        )

    def limits(self, limits: Limits) -> None:
        """Where the run ends and pauses, from here on."""
        self.add(
            LimitsChanged,
            max_epochs=limits.max_epochs,
            max_steps=limits.max_steps,
            pause_at_step=limits.pause_at_step,
            pause_after_epoch=limits.pause_after_epoch,
            steps_per_epoch=limits.steps_per_epoch,
        )

    def assessed(self, findings: List[str]) -> None:
        """Whether going back will be exact, as far as it is known beforehand."""
        self._recorder.add(
            DeterminismAssessed(
                time=time.time(), run=self._where.run, exact=not findings, findings=findings
            )
        )

    def command(
        self, request: CommandRequest, status: CommandStatus, outcome: Optional[Outcome]
    ) -> None:
        """How far a command has come."""
        self.add(
            CommandChanged,
            id=request.id,
            author=request.author,
            command=request.command,
            status=status,
            outcome=outcome,
            phase=self._where.phase,
        )
        self._wake()

    def tripped(self, trip: Trip, indices: List[int], checkpoint: str) -> None:
        """What a guard has found."""
        self.add(
            GuardTripped,
            run=trip.run,
            step=trip.step,
            guard=trip.guard,
            action=trip.action,
            message=trip.message,
            value=trip.value,
            indices=indices,
            checkpoint=checkpoint,
        )

    def stalled(self, stall: Stall) -> None:
        """Nothing moves."""
        self.add(StallNoticed, stack=encodable(stall.stack), **_seen(stall))

    def moved_again(self, stall: Stall) -> None:
        """It moves again."""
        self.add(StallEnded, **_seen(stall))


def _launcher() -> List[str]:
    """How torchrun started this process as one of several on this machine, for Python's `-m`."""
    count = os.environ.get("LOCAL_WORLD_SIZE", "")
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("WORLD_SIZE") != count:
        return []
    return ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count]


def _seen(stall: Stall) -> Dict[str, Any]:
    return {"step": stall.step, "phase": stall.phase, "seconds": stall.seconds}


def encodable(text: str) -> str:
    """The text as UTF-8 can hold it: half a surrogate pair, from a file name say, is spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()


def versions() -> Dict[str, str]:
    """The versions of what matters for this process's results."""
    return {"otf-hooks": metadata.version("otf-hooks"), "torch": str(torch.__version__)}
