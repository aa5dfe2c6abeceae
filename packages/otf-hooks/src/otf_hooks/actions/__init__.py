"""Interventions: what each command does to a run. Executed at safe points, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, Union

from otf_session import commands
from otf_session.commands import Command, Outcome

from .cancel import cancel
from .evaluate import test, validate
from .extend import extend
from .health import health
from .load_checkpoint import load_checkpoint, reset
from .note import note
from .outcomes import Pending
from .pause import pause
from .prove import prove
from .resume import resume
from .run_for import run_for
from .save_checkpoint import save_checkpoint
from .set_hyperparameters import set_hyperparameters
from .stop import stop

if TYPE_CHECKING:
    from ..engine import Engine

_ACTIONS: Dict[type, Callable[[Engine, Any], Union[Outcome, Pending]]] = {
    commands.Pause: pause,
    commands.Resume: resume,
    commands.RunFor: run_for,
    commands.Stop: stop,
    commands.Cancel: cancel,
    commands.SaveCheckpoint: save_checkpoint,
    commands.LoadCheckpoint: load_checkpoint,
    commands.Reset: reset,
    commands.Test: test,
    commands.Validate: validate,
    commands.SetHyperparameters: set_hyperparameters,
    commands.Extend: extend,
    commands.Note: note,
    commands.Prove: prove,
    commands.CheckHealth: health,
}


def execute(engine: Engine, command: Command) -> Union[Outcome, Pending]:
    """Do what the command asks, or say why not."""
    return _ACTIONS[type(command)](engine, command)
