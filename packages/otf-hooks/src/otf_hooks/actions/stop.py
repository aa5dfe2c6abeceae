"""Stop: end training, keep what was learned, let the script go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otf_session.commands import Applied, Outcome, Refused, Stop

if TYPE_CHECKING:
    from ..engine import Engine


def stop(engine: Engine, command: Stop) -> Outcome:
    """End training at this safe point; the front saves a checkpoint before it returns."""
    if engine.gate.is_stopping:
        return Refused(reason="The run is stopping already.")
    engine.stop()
    return Applied(step=engine.step, message=f"Training ends at step {engine.step}.")
