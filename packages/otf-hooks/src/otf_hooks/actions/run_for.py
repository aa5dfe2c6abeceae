"""Run for: go on for some steps or epochs, then pause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otf_session.commands import Applied, Outcome, Refused, RunFor

from ..errors import NotPossible

if TYPE_CHECKING:
    from ..engine import Engine


def run_for(engine: Engine, command: RunFor) -> Outcome:
    """Let the run go on, and pause it after so many steps, or at the end of so many epochs."""
    amount = _amount(command)
    if engine.gate.is_stopping:
        return Refused(reason="The run is stopping.")
    if engine.is_lingering:
        return Refused(reason="The run is at its end. Extend it first: otf ctl extend.")
    limits = engine.front.limits
    limits.pause_at_step, limits.pause_after_epoch = None, None
    if command.steps is not None:
        limits.pause_at_step = engine.step + amount
        where = f"at step {limits.pause_at_step}"
    else:
        done = engine.epoch if engine.phase == "between" else max(0, engine.epoch - 1)
        limits.pause_after_epoch = done + amount
        where = f"after epoch {limits.pause_after_epoch}"
    engine.limits_changed()
    if engine.gate.is_paused:
        engine.resume()
    return Applied(
        step=engine.step,
        message=f"Training goes on from step {engine.step} and pauses {where}.",
        result=limits.as_result(),
    )


def _amount(command: RunFor) -> int:
    given = [number for number in (command.steps, command.epochs) if number is not None]
    if len(given) != 1:
        raise NotPossible("Say either how many steps or how many epochs to run for.")
    if given[0] < 1:
        raise NotPossible(f"{given[0]} is no number to run for: it must be at least 1.")
    return given[0]
