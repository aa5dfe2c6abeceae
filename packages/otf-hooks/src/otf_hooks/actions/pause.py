"""Pause: hold training between two steps, also in the midst of an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List

from otf_session.commands import Applied, Outcome, Pause, Refused
from otf_session.results import Released

if TYPE_CHECKING:
    from ..engine import Engine


def pause(engine: Engine, command: Pause) -> Outcome:
    """Hold the run; once this is answered the step count does not move."""
    if engine.gate.is_stopping:
        return Refused(reason="The run is stopping.")
    if engine.desk.long_command is not None and command.release:
        return Refused(reason="A scan is under way and needs the device. Pause without release.")
    if engine.desk.hold_long(True):
        return _hold_long(engine)
    if engine.gate.is_paused and not (command.release and engine.parking.is_empty):
        return Refused(reason=f"The run is already paused, at step {engine.step}.")
    tensors = engine.front.tensors() if command.release else None
    if not engine.gate.is_paused:
        engine.pause("paused by a person")
    released = _release(engine, tensors) if tensors is not None else None
    message = f"Paused at step {engine.step}."
    if released is not None:
        message += f" {_told(released)}"
    return Applied(step=engine.step, message=message, result=released)


def _hold_long(engine: Engine) -> Outcome:
    if not engine.gate.is_paused:
        engine.pause("paused by a person")
        engine.desk.note_paused_run()
    return Applied(step=engine.step, message=f"Held at step {engine.step}, in the midst of a scan.")


def _release(engine: Engine, tensors: List[Any]) -> Released:
    devices = sorted({str(tensor.device) for tensor in tensors if not tensor.is_cpu})
    parked = engine.parking.park(tensors)
    return Released(device=", ".join(devices), moved=parked.moved, freed=parked.freed)


def _told(released: Released) -> str:
    if not released.device:
        return "Everything is in host memory already: there is nothing to give back."
    mebibytes = released.moved / 2**20
    return f"{mebibytes:.0f} MiB moved from {released.device} to host memory."
