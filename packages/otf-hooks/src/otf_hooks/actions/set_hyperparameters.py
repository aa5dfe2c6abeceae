"""Set hyperparameters: change what the next step trains with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otf_session.commands import Applied, Outcome, Refused, SetHyperparameters

if TYPE_CHECKING:
    from ..engine import Engine


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def set_hyperparameters(engine: Engine, command: SetHyperparameters) -> Outcome:
    """Apply all changes, or none of them where one is refused."""
    if engine.gate.is_stopping:
        return Refused(reason="The run is stopping.")
    found = engine.front.hyperparameters.change(command)
    engine.front.hyperparameters_changed()
    engine.declare_hyperparameters()
    told = "; ".join(
        f"{change.name}{'' if change.group is None else f' of group {change.group}'}: "
        f"{_shown(change.before)} -> {_shown(change.applied)}"
        for change in found.changes
    )
    rates = any(change.name == "lr" for change in found.changes) or command.hold is not None
    message = ". ".join(part for part in (told, found.lr_rule if rates else "") if part)
    return Applied(step=engine.step, message=message, result=found)
