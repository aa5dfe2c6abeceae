"""Stop: end training, keep what was learned, let the script go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Union

from otf_session.commands import Outcome, Refused, Stop

from .outcomes import Pending

if TYPE_CHECKING:
    from ..engine import Engine


def stop(engine: Engine, command: Stop) -> Union[Outcome, Pending]:
    """End training at this safe point; answered when the final state is on disk."""
    if engine.gate.is_stopping:
        return Refused(reason="The run is stopping already.")
    engine.stop()
    # A scan that is held would be held for ever.
    engine.desk.hold_long(False)
    return Pending(engine.saving.answer_at_end)
