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
    if engine.desk.hold_long(False):
        return _let_go_on(engine)
    if not engine.gate.is_paused:
        return Refused(reason=f"The run is not paused: it is at step {engine.step} and training.")
    engine.resume()
    return Applied(step=engine.step, message=f"Training goes on from step {engine.step}.")


def _let_go_on(engine: Engine) -> Outcome:
    """The scan goes on; the run only where nothing but the scan's pause held it."""
    message = "The scan goes on."
    if engine.desk.long_paused_run:
        engine.resume()
        message = f"The scan goes on, and then training from step {engine.step}."
    return Applied(step=engine.step, message=message)
