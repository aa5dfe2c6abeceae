"""Pause: hold training between two steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otf_session.commands import Applied, Outcome, Pause, Refused

if TYPE_CHECKING:
    from ..engine import Engine


def pause(engine: Engine, command: Pause) -> Outcome:
    """Hold the run; once this is answered the step count does not move."""
    if engine.gate.is_paused:
        return Refused(reason=f"The run is already paused, at step {engine.step}.")
    if engine.gate.is_stopping:
        return Refused(reason="The run is stopping.")
    engine.pause("paused by a person")
    return Applied(step=engine.step, message=f"Paused at step {engine.step}.")
