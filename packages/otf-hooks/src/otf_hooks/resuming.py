"""Going on from a checkpoint in a new process, and replaying what led to it."""

from __future__ import annotations

import secrets
from typing import Any, Dict, List

from otf_session.commands import Command, CommandRequest
from otf_session.events import CheckpointSaved, CommandChanged, CommandStatus
from otf_session.queries import events_of, run_summaries
from otf_session.resume import ResumeOrder
from otf_session.store import SessionReader
from otf_session.summaries import RunSummary

from . import checkpoint, console
from .engine import Engine
from .interventions import Replay, read
from .naming import free_name


def resume(engine: Engine, order: ResumeOrder) -> None:
    """Put a run that has just been opened where the order says."""
    saved = engine.keeper.find(order.checkpoint, order.run)
    state = checkpoint.load(engine.keeper.path(saved), saved.sha256)
    if order.replay:
        _replay(engine, saved, state)
        return
    runs = {run.name: run for run in _runs(engine)}
    engine.continue_run(saved.run, runs[saved.run].step)
    engine.desk.refuse_left(_left_open(engine))
    findings = engine.move_to(
        saved,
        state,
        run=saved.run,
        is_new=False,
        left_step=runs[saved.run].step,
        reason="resumed in a new process",
    )
    engine.warm_up_guards()
    for finding in findings:
        engine.warn(f"Going on is not exact. {finding}")
    console.say(f"going on from step {engine.step} of '{engine.run}', as {saved.id} holds it.")


def _replay(engine: Engine, saved: CheckpointSaved, state: Dict[str, Any]) -> None:
    """Begin anew from the state before step 1, with the commands that led to a checkpoint."""
    runs = _runs(engine)
    initial = engine.keeper.find(f"{_root(runs, saved.run)}@initial", saved.run)
    begin = checkpoint.load(engine.keeper.path(initial), initial.sha256)
    name = free_name(f"{saved.run}-replay", [run.name for run in runs])
    engine.move_to(initial, begin, run=name, is_new=True, left_step=0, reason=f"replays {saved.id}")

    def execute(command: Command) -> None:
        request = CommandRequest(id=secrets.token_hex(8), author="replay", command=command)
        engine.desk.execute(request)

    interventions = read(state["interventions"])
    engine.replay(Replay(interventions, execute))
    console.say(
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


def _runs(engine: Engine) -> List[RunSummary]:
    with SessionReader(engine.store.folder) as reader:
        return run_summaries(reader.database)


def compare(engine: Engine, order: ResumeOrder) -> None:
    """Say whether a replay came to the very weights that it replays."""
    saved = engine.keeper.find(order.checkpoint, order.run)
    if saved.step != engine.step:
        return
    before = checkpoint.load(engine.keeper.path(saved), saved.sha256)["model"]
    now = engine.front.capture()["model"]
    different = [name for name in before if not _same(before[name], now.get(name))]
    if different:
        engine.warn(
            f"The replay came to other weights than {saved.id}: {different[0]} and "
            f"{len(different) - 1} more differ. `otf ctl prove` names what is not exact."
        )
    else:
        engine.log(f"The replay came to the very weights of {saved.id}, bit for bit.")
        console.say(f"the replay came to the very weights of {saved.id}, bit for bit.")


def _same(one: Any, other: Any) -> bool:
    if other is None or not hasattr(one, "equal"):
        return bool(one == other)
    return bool(one.dtype == other.dtype and one.equal(other.cpu()))
