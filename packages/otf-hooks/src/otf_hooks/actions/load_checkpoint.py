"""Load checkpoint and reset: go back to training exactly as it was then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otf_session.commands import Applied, LoadCheckpoint, Outcome, Refused, Reset
from otf_session.events import CheckpointSaved
from otf_session.results import Rewinding

from ..naming import free_name

if TYPE_CHECKING:
    from ..engine import Engine


def load_checkpoint(engine: Engine, command: LoadCheckpoint) -> Outcome:
    """Put training where the checkpoint was made, in its own run or in a new one."""
    if engine.gate.is_stopping:
        return Refused(reason="The run is stopping.")
    # One that is being written now may be the one that is asked for.
    engine.keeper.flush()
    saved = engine.find_checkpoint(command.checkpoint, engine.run)
    return _go_to(engine, saved, as_new_run=command.as_new_run, name=command.run)


def reset(engine: Engine, command: Reset) -> Outcome:
    """Begin again from the state before step 1, as a new run."""
    if engine.gate.is_stopping:
        return Refused(reason="The run is stopping.")
    engine.keeper.flush()
    saved = engine.find_checkpoint(_initial(engine), engine.run)
    return _go_to(engine, saved, as_new_run=True, name=command.run)


def _initial(engine: Engine) -> str:
    """The state before step 1 of this run, or of the run that it grew from."""
    parents = {run.name: run.parents for run in engine.runs()}
    kept = engine.peers.shared(engine.keeper.kept)
    have_one = {saved.run for saved in kept if saved.label == "initial"}
    run = engine.run
    while run not in have_one:
        if not parents.get(run):
            break
        run = parents[run][0]
    return f"{run}@initial"


def _go_to(engine: Engine, saved: CheckpointSaved, *, as_new_run: bool, name: str) -> Outcome:
    state = engine.load(saved)
    engine.parking.bring_back()
    left_run, left_step = engine.run, engine.step
    # The writer may not yet have stored how far the run has come, or that it began.
    steps = {**{run.name: run.step for run in engine.runs()}, left_run: left_step}
    run = free_name(name or saved.run, steps) if as_new_run else saved.run
    findings = engine.move_to(
        saved,
        state,
        run=run,
        is_new=as_new_run,
        left_step=steps.get(run, saved.step),
        reason=f"{saved.id} was loaded",
    )
    if as_new_run:
        engine.keeper.pin(saved)
    engine.declare_hyperparameters()
    engine.limits_changed()
    where = f"Training is at step {engine.step} of {run}, as {saved.id} holds it"
    came = f" (it was at step {left_step} of {left_run})."
    inexact = " Not exactly: " + " ".join(findings) if findings else ""
    return Applied(
        step=engine.step,
        message=where + came + inexact,
        result=Rewinding(
            run=run,
            step=engine.step,
            checkpoint=saved.id,
            exact=not findings,
            findings=findings,
        ),
    )
