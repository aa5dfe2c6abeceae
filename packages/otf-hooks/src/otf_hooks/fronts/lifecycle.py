"""One training from its beginning to its end, in a session: what every front goes through.

training = Lifecycle(options, tunables)      a session is open, and nothing recorded
training.prepare(front)                      what is to be resumed fits; or `abandon`
training.begin("baseline")                   the run is recorded from here on
...                                          steps and safe points
training.at_end(True, again)                 None: a person wants more of it
training.end(ending)                         or `fail`, for whatever ended the script
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import List, NamedTuple, Optional, Protocol

from otf_session.events import RunState
from otf_session.home import Home
from otf_session.resume import How, ResumeOrder, take_order

from .. import distributed
from ..assembly import open_engine
from ..engine import Engine
from ..front import Front, Verdict
from ..hyperparameters import Tunables
from ..naming import free_name
from ..resuming import Resumption, compare, prepare, resume
from .options import RunOptions


class Ending(NamedTuple):
    """How a run ended, and why where that is to be said."""

    state: RunState
    reason: str = ""


class Again(NamedTuple):
    """How much more a run that is resumed after its end trains."""

    epochs: int
    steps: int

    def __str__(self) -> str:
        return f"{self.epochs} epoch(s)" if self.epochs else f"{self.steps} steps"


class Loop(Protocol):
    """A training loop of our own: it trains to its end, and may be gone on with."""

    def run(self) -> bool:
        """Train from the position to the end; False where stopped on the way."""

    def can_go_on(self) -> bool:
        """Whether there is more to train: the limits were raised, or training was moved."""


class Lifecycle:
    """A run's session, from where it is opened to where it is closed.

    `folder` is a session that this process has begun already: a second `fit` adds a run to it.
    """

    def __init__(
        self, options: RunOptions, tunables: Tunables, folder: Optional[Path] = None
    ) -> None:
        self._options = options
        self._tunables = tunables
        peers = distributed.join(averages=options.reduce_metrics)
        # Taken by every process, so that none has it twice; the first one's is carried out.
        order = take_order()
        self._order: Optional[ResumeOrder] = peers.shared(lambda: order)
        self._resumption: Optional[Resumption] = None
        self._front: Optional[Front] = None
        begun = folder if self._order is None else Path(self._order.folder)
        self.engine: Engine = distributed.open_on_each(
            peers,
            lambda: open_engine(
                project=options.project,
                home=Home.find(),
                folder=begun,
                address=options.address,
                checkpoints=options.checkpoints,
                keep=options.ckpt_keep,
                guards=options.watching,
                stall_after=options.stall_after,
                peers=peers,
            ),
        )

    @property
    def is_resumed(self) -> bool:
        """Whether `otf resume` said where to begin."""
        return self._order is not None

    def prepare(self, front: Front) -> None:
        """Look whether what is to be resumed fits, before anything is recorded.

        Raises `CheckpointError` or `NotPossible`; `abandon` then lets go of the session.
        """
        self._front = front
        if self._order is not None:
            self._resumption = prepare(self.engine, front, self._order)

    def abandon(self) -> None:
        """Let the session go, before anything has begun."""
        self.engine.abandon()

    def begin(self, name: str) -> None:
        """Start a run: a new one, or where the order says."""
        engine, options = self.engine, self._options
        assert self._front is not None
        engine.start(self._front)
        engine.saving.every(options.ckpt_every_steps, options.ckpt_every_minutes)
        engine.checkups.begin(options.checkups)
        if self._resumption is None:
            self._tunables.reset()
            engine.start_run(free_name(name, self._run_names()), step=engine.step)
            engine.save("initial")
        else:
            resume(engine, self._resumption, name)
        engine.declare_hyperparameters()
        engine.limits_changed()
        engine.assess()
        self._tunables.on_registered = engine.declare_hyperparameters
        engine.say(
            f"recording run '{engine.run}' in session {engine.store.id}; "
            "`otf serve --open` shows it."
        )

    def run(self, loop: Loop, again: Again) -> Ending:
        """Train with a loop of our own, test and linger, until the run has ended; how, and why."""
        engine = self.engine
        engine.running()
        while True:
            # Taken back while it lingered, it is held where it is now until it is resumed.
            going = engine.safe_point() is not Verdict.END
            going = going and loop.run() and engine.safe_point() is not Verdict.END
            if going and loop.can_go_on():
                continue
            ending = self.at_end(going, again)
            if ending is not None:
                return ending
            if not loop.can_go_on():
                engine.extend(*again)
                loop.can_go_on()

    def at_end(self, came_to_its_end: bool, again: Again) -> Optional[Ending]:
        """Save the final state, and linger where that is asked for; None where it is to go on."""
        engine = self.engine
        engine.saving.final()
        if not came_to_its_end:
            return Ending(RunState.STOPPED, "stopped by a person")
        if self._options.linger and engine.is_watched and self._stay(again):
            return None
        return Ending(RunState.FINISHED)

    def end(self, ending: Ending) -> None:
        """Close the run in its final state."""
        if self._resumption is not None and self._resumption.order.how is How.REPLAY:
            compare(self.engine, self._resumption.order)
        self.engine.close(ending.state, ending.reason)
        self._tunables.on_registered = _nothing

    def fail(self, error: BaseException, *, is_whole: bool) -> None:
        """Close the run because of an exception, which the caller raises again.

        Ctrl-C also reaches a loader's workers, whose death is no cause: `KeyboardInterrupt` is
        raised in place of an error that it led to.
        """
        self._tunables.on_registered = _nothing
        interrupted = self.engine.ending_signal == signal.SIGINT and isinstance(error, Exception)
        cause = KeyboardInterrupt() if interrupted else error
        self.engine.fail(cause, is_whole=is_whole)
        if cause is not error:
            raise cause from error

    def _stay(self, again: Again) -> bool:
        """Linger after the end; True where the person wants as much training again."""
        self.engine.say(
            "training is done and a dashboard is open, so the script stays, paused: resume there "
            f"to train another {again}, stop there or press Ctrl-C to end it."
        )
        try:
            return self.engine.linger(f"training is done; resume trains another {again}")
        except KeyboardInterrupt:
            return False

    def _run_names(self) -> List[str]:
        return [run.name for run in self.engine.runs()]


def _nothing() -> None:
    """Nobody is told."""
