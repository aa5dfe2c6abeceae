"""What a run is doing, as a state machine that refuses illegal moves."""

from __future__ import annotations

from enum import Enum

from .errors import IllegalMove


class GateState(Enum):
    """The states of a run's gate."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    CLOSED = "closed"


_MOVES = {
    GateState.STARTING: {GateState.RUNNING, GateState.CLOSED},
    GateState.RUNNING: {GateState.PAUSED, GateState.STOPPING, GateState.CLOSED},
    GateState.PAUSED: {GateState.RUNNING, GateState.STOPPING, GateState.CLOSED},
    GateState.STOPPING: {GateState.CLOSED},
    GateState.CLOSED: set(),
}


class Gate:
    """Whether the training thread may go on past a safe point."""

    def __init__(self) -> None:
        self.state = GateState.STARTING

    @property
    def is_stopping(self) -> bool:
        """Whether training is to end at the next opportunity."""
        return self.state in (GateState.STOPPING, GateState.CLOSED)

    @property
    def is_paused(self) -> bool:
        """Whether the training thread is held."""
        return self.state is GateState.PAUSED

    def move(self, to: GateState) -> None:
        """Change the state; raise `IllegalMove` where the machine has no such move."""
        if to not in _MOVES[self.state]:
            raise IllegalMove(f"A run that is {self.state.value} cannot become {to.value}.")
        self.state = to
