"""Going on with a session in a new process: what is resumed, and how the script learns of it."""

import os
from enum import Enum
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

import msgspec

from .bundles import provenance
from .errors import HomeUnusable, NothingToResume
from .events import CheckpointSaved, ProcessStarted, RunStarted, RunState
from .home import Home
from .liveness import is_alive
from .queries import events_of, kept_checkpoints, run_summaries
from .store import SessionReader
from .summaries import RunSummary

#: Tells a script which checkpoint to go on from; set by `otf resume`, read by the first `fit`.
RESUME_VARIABLE = "ONTHEFLY_RESUME"


class How(str, Enum):
    """How training goes on from a checkpoint.

    As a `new-run` whose parent is the one that the checkpoint is of, or as the `same-run`. As a
    `replay`, a new run begins from the state before step 1, and the commands that led to the
    checkpoint are applied again at the same steps. With `weights-only`, a new run begins at step 0
    with the checkpoint's weights, and with everything else as the script says.
    """

    NEW_RUN = "new-run"
    SAME_RUN = "same-run"
    REPLAY = "replay"
    WEIGHTS_ONLY = "weights-only"


class ResumeOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What the first `fit` of a process goes on from, and how."""

    folder: str
    run: str
    checkpoint: str
    step: int
    how: How

    def environment(self) -> Dict[str, str]:
        """The variable that carries it into the script."""
        return {RESUME_VARIABLE: msgspec.json.encode(self).decode()}


class Target(NamedTuple):
    """What a person typed: SESSION, SESSION:RUN, SESSION:RUN@STEP or SESSION:RUN@LABEL."""

    session: str
    run: Optional[str]
    at: Optional[str]


def take_order() -> Optional[ResumeOrder]:
    """The order that this process was started with; only the first who asks gets it."""
    text = os.environ.pop(RESUME_VARIABLE, "")
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=ResumeOrder)
    except msgspec.DecodeError as error:
        raise NothingToResume(
            f"{RESUME_VARIABLE} is set to what no `otf resume` writes ({error}). Unset it, or start "
            "the script with: otf resume SESSION -- python train.py"
        ) from error


def parse_target(text: str) -> Target:
    """What a person typed, taken apart."""
    session, _, rest = text.partition(":")
    run, at, what = rest.rpartition("@")
    if not at:
        run, what = rest, ""
    return Target(session, run or None, what or None)


def find_order(home: Home, target: Target, how: Optional[How] = None) -> ResumeOrder:
    """The checkpoint that a person means; `NothingToResume` where there is none.

    Without a run it is the one that moved last, without a step its newest checkpoint. Where it is not
    said how, a run that was cut off goes on as itself from its newest checkpoint, and everything else
    is a new run: from an earlier checkpoint, after a run's end, in a session from elsewhere.
    """
    folder = home.session_folder(target.session)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise HomeUnusable(
            f"The session in {folder} cannot be written by this user, so nothing can go on in it. "
            "Allow that, or copy it to the sessions of a home that you can write."
        )
    if is_alive(folder):
        raise NothingToResume(
            f"The session {folder.name} is being trained right now. Steer it with `otf ctl`, or "
            "stop it first: otf ctl stop"
        )
    with SessionReader(folder) as reader:
        run = _run(folder, run_summaries(reader.database), target.run)
        kept = [each for each in kept_checkpoints(reader.database) if each.run == run.name]
        saved = _checkpoint(folder, kept, run.name, target.at)
        is_newest = saved.time == max(each.time for each in kept)
        if how is None:
            goes_on = is_newest and _was_cut_off(run, saved)
            goes_on = goes_on and _began_here(reader.database, folder, run.name)
            how = How.SAME_RUN if goes_on else How.NEW_RUN
    return ResumeOrder(
        folder=str(folder), run=run.name, checkpoint=saved.id, step=saved.step, how=how
    )


def recorded_command(folder: Path) -> List[str]:
    """The command line that the session's script was last started with."""
    with SessionReader(folder) as reader:
        started = events_of(reader.database, ProcessStarted)
    return started[-1].argv if started else []


def _run(folder: Path, runs: List[RunSummary], name: Optional[str]) -> RunSummary:
    if not runs:
        raise NothingToResume(f"The session {folder.name} has no run yet.")
    if name is None:
        return max(runs, key=lambda run: run.updated)
    for run in runs:
        if run.name == name:
            return run
    listed = ", ".join(run.name for run in runs)
    raise NothingToResume(f"The session {folder.name} has no run '{name}'. It has: {listed}.")


def _was_cut_off(run: RunSummary, saved: CheckpointSaved) -> bool:
    """Whether a run ended before it was done, and whether this is a state on its way."""
    return run.state is not RunState.FINISHED and saved.label != "final"


def _began_here(database: Any, folder: Path, run: str) -> bool:
    """Whether a process of this home began the run: it has not come along in a bundle."""
    came_from = provenance.read(folder)
    since = came_from.time if came_from is not None else 0.0
    began = max(each.time for each in events_of(database, RunStarted) if each.run == run)
    return any(since < each.time <= began for each in events_of(database, ProcessStarted))


def _checkpoint(
    folder: Path, kept: List[CheckpointSaved], run: str, at: Optional[str]
) -> CheckpointSaved:
    found = [event for event in kept if at is None or at in _names(event)]
    there = [event for event in found if (folder / event.path).is_file()]
    if there:
        return max(there, key=lambda event: event.time)
    left = [event for event in kept if (folder / event.path).is_file()]
    left.sort(key=lambda event: (event.step, event.time))
    listed = ", ".join(f"@{event.step} ({event.label})" for event in left) or "none"
    if found:
        lost = max(found, key=lambda event: event.time)
        raise NothingToResume(
            f"The checkpoint {lost.id} of {folder.name} is in the record, but its file is missing: "
            f"{folder / lost.path}. The run '{run}' has: {listed}."
        )
    wanted = f"at {at} " if at is not None else ""
    raise NothingToResume(
        f"The run '{run}' of {folder.name} has no checkpoint {wanted}to resume from. "
        f"It has: {listed}."
    )


def _names(saved: CheckpointSaved) -> List[str]:
    """What a checkpoint of a run may be called behind the `@`."""
    return [str(saved.step), saved.label, saved.id.rpartition("@")[2]]
