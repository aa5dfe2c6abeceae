"""Cancel: break off a command that takes long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otf_session.commands import Applied, Cancel, Outcome, Refused, command_name

if TYPE_CHECKING:
    from ..engine import Engine


def cancel(engine: Engine, command: Cancel) -> Outcome:
    """Have the long command under way end at its next batch; training is where it was."""
    under_way = engine.desk.long_command
    if under_way is None:
        return Refused(reason="No command is under way that could be cancelled.")
    name = command_name(under_way.command)
    if command.command not in ("", under_way.id):
        return Refused(reason=f"Under way is '{name}' with the id {under_way.id}, not that one.")
    engine.desk.cancel_long()
    return Applied(step=engine.step, message=f"'{name}' is broken off.")
