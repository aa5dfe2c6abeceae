"""Going on with a session in a new process: what is resumed, and how the script learns of it."""

import os
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

import msgspec

from .errors import NothingToResume
from .events import CheckpointSaved, ProcessStarted
from .home import Home
from .liveness import is_alive
from .queries import events_of, kept_checkpoints, run_summaries
from .store import SessionReader
from .summaries import RunSummary

#: Tells a script which checkpoint to go on from; set by `otf resume`, read by the first `fit`.
RESUME_VARIABLE = "ONTHEFLY_RESUME"


class ResumeOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What the first `fit` of a process goes on from.

    With `replay`, a new run begins from the state before step 1, and the commands that led to
    `checkpoint` are applied again at the same steps.
    """

    folder: str
    run: str
    checkpoint: str
    step: int
    replay: bool = False

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


def find_order(home: Home, target: Target, *, replay: bool) -> ResumeOrder:
    """The checkpoint that a person means; `NothingToResume` where there is none.

    Without a run it is the one that moved last, without a step its newest checkpoint.
    """
    folder = home.session_folder(target.session)
    if is_alive(folder):
        raise NothingToResume(
            f"The session {folder.name} is being trained right now. Steer it with `otf ctl`, or "
            "stop it first: otf ctl stop"
        )
    with SessionReader(folder) as reader:
        runs = run_summaries(reader.database)
        kept = kept_checkpoints(reader.database)
    run = _run(folder, runs, target.run)
    saved = _checkpoint(folder, [event for event in kept if event.run == run], run, target.at)
    return ResumeOrder(
        folder=str(folder), run=run, checkpoint=saved.id, step=saved.step, replay=replay
    )


def recorded_command(folder: Path) -> List[str]:
    """The command line that the session's script was last started with."""
    with SessionReader(folder) as reader:
        started = events_of(reader.database, ProcessStarted)
    return started[-1].argv if started else []


def _run(folder: Path, runs: List[RunSummary], name: Optional[str]) -> str:
    names = [run.name for run in runs]
    if not names:
        raise NothingToResume(f"The session {folder.name} has no run yet.")
    if name is None:
        return max(runs, key=lambda run: run.updated).name
    if name not in names:
        raise NothingToResume(
            f"The session {folder.name} has no run '{name}'. It has: {', '.join(names)}."
        )
    return name


def _checkpoint(
    folder: Path, kept: List[CheckpointSaved], run: str, at: Optional[str]
) -> CheckpointSaved:
    there = [event for event in kept if (folder / event.path).is_file()]
    found = [event for event in there if at is None or at in (str(event.step), event.label)]
    if found:
        return max(found, key=lambda event: event.time)
    listed = ", ".join(f"@{event.step} ({event.label})" for event in there) or "none"
    wanted = f"at {at} " if at is not None else ""
    raise NothingToResume(
        f"The run '{run}' of {folder.name} has no checkpoint {wanted}to resume from. "
        f"It has: {listed}."
    )
