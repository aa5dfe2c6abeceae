"""Extend: train longer than planned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otf_session.commands import Applied, Extend, Outcome, Refused

from ..errors import NotPossible

if TYPE_CHECKING:
    from ..engine import Engine


def extend(engine: Engine, command: Extend) -> Outcome:
    """Move the limits; a run that lingers at its end goes on at once."""
    limits = engine.front.limits
    if engine.gate.is_stopping:
        return Refused(reason="The run is stopping.")
    if limits.fixed_because:
        raise NotPossible(limits.fixed_because)
    if command.epochs < 0 or command.steps < 0 or not (command.epochs or command.steps):
        raise NotPossible("Say by how many epochs or steps, at least 1, to extend the run.")
    if command.epochs and limits.max_epochs is None:
        raise NotPossible(f"This run ends at step {limits.max_steps}: extend it by steps.")
    if command.steps and limits.max_steps is None:
        raise NotPossible(f"This run ends after epoch {limits.max_epochs}: extend it by epochs.")
    limits.more_epochs += command.epochs
    limits.more_steps += command.steps
    engine.limits_changed()
    if engine.is_lingering:
        engine.resume()
    ends = [f"after epoch {limits.max_epochs}"] if limits.max_epochs is not None else []
    ends += [f"at step {limits.max_steps}"] if limits.max_steps is not None else []
    return Applied(
        step=engine.step,
        message=f"Training ends {' or '.join(ends)}.",
        result=limits.as_result(),
    )
