"""Real sessions for tests: events with little typing, and stores that hold them."""

from pathlib import Path
from typing import List, Optional, Sequence

from otf_session.events import (
    AnyEvent,
    CheckpointSaved,
    LogLine,
    Metrics,
    RunStarted,
    RunState,
    StateChanged,
)
from otf_session.home import Home
from otf_session.queries import events_after
from otf_session.store import SessionReader, SessionStore

RUN = "baseline"
BEGIN = 1_700_000_000.0


def started(run: str = RUN, *, parents: Sequence[str] = (), time: float = BEGIN) -> RunStarted:
    return RunStarted(time=time, run=run, parents=list(parents))


def state(new: RunState, *, run: str = RUN, step: int = 0, reason: str = "") -> StateChanged:
    return StateChanged(time=BEGIN + step, run=run, state=new, step=step, reason=reason)


def line(number: int, *, run: str = RUN, text: str = "") -> LogLine:
    return LogLine(
        time=BEGIN + number,
        run=run,
        step=number,
        level=20,
        logger="tests",
        text=text or f"line {number}",
    )


def metrics(steps: Sequence[int], *, run: str = RUN, **values: List[Optional[float]]) -> Metrics:
    return Metrics(
        run=run, steps=list(steps), times=[BEGIN + step for step in steps], values=values
    )


def losses(first: int, last: int, *, run: str = RUN) -> Metrics:
    """The metric `loss` at every step from `first` to `last`, falling from 1 to 0."""
    steps = range(first, last + 1)
    return metrics(steps, run=run, loss=[1.0 / step for step in steps])


def checkpoint(
    store: SessionStore,
    label: str,
    size: int = 100,
    *,
    run: str = RUN,
    step: int = 30,
    pinned: bool = False,
    folder: Optional[Path] = None,
) -> CheckpointSaved:
    """A file of so many bytes where a trainer puts checkpoints, and the event that tells of it."""
    folder = store.checkpoints if folder is None else folder
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{label}.pt"
    path.write_bytes(bytes(size))
    inside = store.folder in path.parents
    return CheckpointSaved(
        time=BEGIN + step,
        run=run,
        step=step,
        label=label,
        path=(path.relative_to(store.folder) if inside else path).as_posix(),
        size=size,
        sha256="",
        id=f"{run}@{step}-{label}",
        pinned=pinned,
    )


def make_session(home: Home, *events: AnyEvent, project: str = "digits") -> SessionStore:
    """A session with these events, open for appending."""
    store = SessionStore.create(home, project)
    if events:
        store.append(events)
    return store


def stored(store: SessionStore, after: int = 0, limit: int = 1_000_000) -> List[AnyEvent]:
    """The events that a reader finds."""
    with SessionReader(store.folder) as reader:
        return events_after(reader.database, after, limit)
