"""What happens when a guard has tripped: it is recorded, and the run warned of, paused or stopped."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, List

from otf_session.commands import CommandRequest, Stop

if TYPE_CHECKING:
    from ..engine import Engine
    from ..guards import Trip


def act_on(engine: Engine, trip: Trip) -> None:
    """Record the step, its batch and the last good checkpoint, and do what the user set."""
    is_current = trip.run == engine.run
    record_trip(engine, trip, engine.front.batch_indices(trip.step) if is_current else [])
    if engine.gate.is_stopping or not is_current:
        return
    if trip.action == "pause" and not engine.gate.is_paused:
        engine.pause(f"guard {trip.guard}: {trip.message}")
    elif trip.action == "stop":
        # As a command, so that it is in the record and a replay stops there too.
        request = CommandRequest(
            id=secrets.token_hex(8), author=f"guard {trip.guard}", command=Stop()
        )
        engine.desk.execute(request)


def record_trip(engine: Engine, trip: Trip, indices: List[int]) -> None:
    """Record what a guard has found, and tell the person at the terminal."""
    good = engine.keeper.before(trip.run, trip.step)
    checkpoint = good.id if good is not None else ""
    engine.journal.tripped(trip, indices, checkpoint)
    engine.warn(f"{trip.message} {_advice(trip, checkpoint)}")


def _advice(trip: Trip, checkpoint: str) -> str:
    done = {"warn": "Training goes on.", "pause": "The run is paused.", "stop": "The run ends."}
    back = f" The last checkpoint before it is {checkpoint}." if checkpoint else ""
    return done.get(trip.action, "") + back
