"""What is done at a safe point without a command: a guard tripped, a save is due, a signal came."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, NamedTuple

from otf_session.events import RunState

from .actions.trip import act_on
from .guards import Trip
from .signals import die_of

if TYPE_CHECKING:
    from .engine import Engine


class GuardTripped(NamedTuple):
    """A guard has found something."""

    trip: Trip
    at_end: bool = True

    def run(self, engine: Engine) -> None:
        """Record it and do what the user set."""
        act_on(engine, self.trip)


class SaveIsDue(NamedTuple):
    """So many minutes have passed."""

    at_end: bool = False

    def run(self, engine: Engine) -> None:
        """Save, unless the last one is still being written."""
        engine.saving.periodic()


class SignalCame(NamedTuple):
    """A signal that ends the process came, to this one or to another of the training."""

    number: int
    at_end: bool = False

    def run(self, engine: Engine) -> None:
        """End training here, where the state is whole."""
        engine.ending_signal = self.number
        engine.parking.bring_back()
        if self.number == signal.SIGINT:
            if engine.step > 0 and not engine.is_lingering:
                engine.saving.interrupted()
            raise KeyboardInterrupt
        engine.saving.interrupted()
        engine.close(RunState.STOPPED, f"terminated by {signal.Signals(self.number).name}")
        engine.wait_for_first()
        die_of(self.number)
