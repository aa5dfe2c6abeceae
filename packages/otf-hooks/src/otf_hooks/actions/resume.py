"""Resume: let a paused run go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otf_session.commands import Applied, Outcome, Refused, Resume

if TYPE_CHECKING:
    from ..engine import Engine


def resume(engine: Engine, command: Resume) -> Outcome:
    """Let the run go on from the step where it is held."""
    if engine.gate.is_stopping:
        return Refused(reason="The run is stopping.")
    was_held = engine.desk.hold_long(False)
    if not engine.gate.is_paused and not was_held:
        return Refused(reason=f"The run is not paused: it is at step {engine.step} and training.")
    if engine.gate.is_paused:
        engine.resume()
    return Applied(step=engine.step, message=f"Training goes on from step {engine.step}.")
