"""Going on from a checkpoint in a new process, and replaying what led to it."""

from __future__ import annotations

import secrets
from typing import Any, Dict, List, NamedTuple

from otf_session.commands import Command, CommandRequest
from otf_session.events import CheckpointSaved, CommandChanged, CommandStatus, RunState
from otf_session.queries import events_of
from otf_session.resume import How, ResumeOrder
from otf_session.store import SessionReader
from otf_session.summaries import RunSummary

from .engine import Engine
from .front import Front
from .interventions import Replay, read
from .naming import free_name


class Resumption(NamedTuple):
    """An order that can be carried out: the checkpoint it means, and the state in it."""

    order: ResumeOrder
    saved: CheckpointSaved
    state: Dict[str, Any]


def prepare(engine: Engine, front: Front, order: ResumeOrder) -> Resumption:
    """Load what is to be gone on from; raises `CheckpointError` or `NotPossible`.

    That is before the engine has started: what does not fit leaves no trace in the record.
    """
    saved = engine.find_checkpoint(order.checkpoint, order.run)
    weights_only = order.how is How.WEIGHTS_ONLY
    state = engine.load(saved, front.capture, weights_only=weights_only)
    engine.peers.together(lambda: front.check(state, weights_only=weights_only))
    return Resumption(order, saved, state)


def resume(engine: Engine, found: Resumption, name: str) -> None:
    """Put a run where the order says; a new one gets the name, with a number where it is taken."""
    if found.order.how is How.REPLAY:
        _replay(engine, found.saved, found.state)
    elif found.order.how is How.WEIGHTS_ONLY:
        _begin_with_weights(engine, found, name)
    else:
        _go_on(engine, found, name)


def _go_on(engine: Engine, found: Resumption, name: str) -> None:
    """Train from a checkpoint on, as the run that it is of or as a new one."""
    saved, runs = found.saved, {run.name: run for run in engine.runs()}
    parent, is_new = runs[saved.run], found.order.how is How.NEW_RUN
    if not (is_new and parent.state.is_final):
        # It did not end by itself: the record says that it is gone on with, or left here.
        engine.continue_run(parent.name, parent.step)
    run = free_name(name, runs) if is_new else saved.run
    findings = engine.move_to(
        saved,
        found.state,
        run=run,
        is_new=is_new,
        left_step=parent.step,
        reason=f"goes on from {saved.id}" if is_new else "resumed in a new process",
    )
    if is_new:
        engine.keeper.pin(saved)
    engine.desk.refuse_left(engine.peers.shared(lambda: _left_open(engine)))
    engine.warm_up_guards(saved.run)
    for finding in findings:
        engine.warn(f"Going on is not exact. {finding}")
    as_new = f" It is the run '{run}' from here on." if is_new else ""
    engine.say(
        f"going on from step {engine.step} of '{saved.run}', as {saved.id} holds it.{as_new}"
    )


def _begin_with_weights(engine: Engine, found: Resumption, name: str) -> None:
    """Begin a new run at step 0 with the weights of a checkpoint, and nothing else of it."""
    saved, runs = found.saved, {run.name: run for run in engine.runs()}
    engine.front.load_weights(found.state)
    run, parent = free_name(name, runs), runs[saved.run]
    if not parent.state.is_final:
        engine.continue_run(parent.name, parent.step)
        engine.journal.changed(RunState.STOPPED, f"left at step {parent.step} for {run}")
    engine.start_run(run, [parent.name], saved.id)
    engine.save("initial")
    engine.keeper.pin(saved)
    engine.say(
        f"beginning with the weights of {saved.id}, as run '{run}'; all else is as the script says."
    )


def _replay(engine: Engine, saved: CheckpointSaved, state: Dict[str, Any]) -> None:
    """Begin anew from the state before step 1, with the commands that led to a checkpoint."""
    runs = engine.runs()
    initial = engine.find_checkpoint(f"{_root(runs, saved.run)}@initial", saved.run)
    begin = engine.load(initial)
    name = free_name(f"{saved.run}-replay", [run.name for run in runs])
    engine.move_to(initial, begin, run=name, is_new=True, left_step=0, reason=f"replays {saved.id}")

    def execute(command: Command) -> None:
        request = CommandRequest(id=secrets.token_hex(8), author="replay", command=command)
        engine.desk.execute(request)

    interventions = read(state["interventions"])
    engine.replay(Replay(interventions, execute))
    engine.say(
        f"replaying {len(interventions)} command(s) up to step {saved.step} as run '{name}'."
    )


def _root(runs: List[RunSummary], name: str) -> str:
    """The run that a run grew from first: only that one has a state before step 1."""
    parents = {run.name: run.parents for run in runs}
    seen = set()
    while parents.get(name) and name not in seen:
        seen.add(name)
        name = parents[name][0]
    return name


def _left_open(engine: Engine) -> List[CommandRequest]:
    """The commands that an earlier process received and did not live to answer."""
    with SessionReader(engine.store.folder) as reader:
        commands = events_of(reader.database, CommandChanged)
    newest = {event.id: event for event in commands}
    return [
        CommandRequest(id=event.id, author=event.author, command=event.command)
        for event in newest.values()
        if event.status is CommandStatus.RECEIVED
    ]


def compare(engine: Engine, order: ResumeOrder) -> None:
    """Say whether a replay came to the very weights that it replays."""
    saved = engine.find_checkpoint(order.checkpoint, order.run)
    if saved.step != engine.step:
        return
    before = engine.load(saved)["model"]
    now = engine.front.capture()["model"]
    different = [name for name in before if not _same(before[name], now.get(name))]
    if different:
        engine.warn(
            f"The replay came to other weights than {saved.id}: {different[0]} and "
            f"{len(different) - 1} more differ. `otf ctl prove` names what is not exact."
        )
    else:
        engine.log(f"The replay came to the very weights of {saved.id}, bit for bit.")
        engine.say(f"the replay came to the very weights of {saved.id}, bit for bit.")


def _same(one: Any, other: Any) -> bool:
    if other is None or not hasattr(one, "equal"):
        return bool(one == other)
    return bool(one.dtype == other.dtype and one.equal(other.cpu()))
