"""Interventions: what each command does to a run. Executed at safe points, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict

from otf_session.commands import Command, Outcome, Pause, Resume, Stop

from .pause import pause
from .resume import resume
from .stop import stop

if TYPE_CHECKING:
    from ..engine import Engine

_ACTIONS: Dict[type, Callable[[Engine, Any], Outcome]] = {
    Pause: pause,
    Resume: resume,
    Stop: stop,
}


def execute(engine: Engine, command: Command) -> Outcome:
    """Do what the command asks, or say why not."""
    return _ACTIONS[type(command)](engine, command)
