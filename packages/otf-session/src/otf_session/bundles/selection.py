"""What of a session goes into a bundle: which runs, and which of their checkpoints."""

from typing import Any, Dict, List, NamedTuple, Sequence, Set

from ..errors import NotExported
from ..events import CheckpointSaved, RunStarted
from ..queries import events_of, kept_checkpoints, run_summaries
from ..summaries import RunSummary
from .choice import Checkpoints
from .draft import key_of

#: The labels of the checkpoints whose weights are final models.
FINAL_LABELS = ("final", "best")


class Selection(NamedTuple):
    """What is exported. `chosen` are the runs that were asked for, `runs` those and their ancestors.

    Of the checkpoints that are `kept` of these runs, `checkpoints` are those to take along;
    `left_out` says why of the others. `final` are those with final models.
    """

    runs: List[RunSummary]
    chosen: Set[str]
    left_out_runs: List[str]
    kept: List[CheckpointSaved]
    checkpoints: List[CheckpointSaved]
    left_out: Dict[str, str]
    final: List[CheckpointSaved]


def select(database: Any, session_id: str, names: Sequence[str], which: Checkpoints) -> Selection:
    """What a bundle of these runs (none: of all) holds; `NotExported` where there is no such run."""
    every = run_summaries(database)
    chosen = _chosen([run.name for run in every], names, session_id)
    included = _with_ancestors(every, chosen)
    # Where all runs are in it, so is what the record says of a checkpoint that is none of theirs.
    is_all = len(included) == len(every)
    kept = [saved for saved in kept_checkpoints(database) if is_all or saved.run in included]
    needed = _needed(events_of(database, RunStarted), kept, chosen)
    wanted = _wanted(kept, chosen, needed, which)
    return Selection(
        runs=[run for run in every if run.name in included],
        chosen=chosen,
        left_out_runs=[run.name for run in every if run.name not in included],
        kept=kept,
        checkpoints=[saved for saved in kept if key_of(saved) in wanted],
        left_out={
            key_of(saved): _reason(saved, chosen, which)
            for saved in kept
            if key_of(saved) not in wanted
        },
        final=_final(kept, chosen),
    )


def _chosen(every: List[str], names: Sequence[str], session_id: str) -> Set[str]:
    """The runs that a person named, each alone or several with commas between."""
    found: Set[str] = set()
    for name in names:
        for part in [name] if name in every else name.split(","):
            if part not in every:
                listed = ", ".join(every) or "none yet"
                raise NotExported(
                    f"The session {session_id} has no run '{part}'. It has: {listed}."
                )
            found.add(part)
    return found or set(every)


def _with_ancestors(every: List[RunSummary], chosen: Set[str]) -> Set[str]:
    parents = {run.name: run.parents for run in every}
    found: Set[str] = set()
    waiting = list(chosen)
    while waiting:
        name = waiting.pop()
        # A parent may be missing: the session may come from a bundle without it.
        if name in parents and name not in found:
            found.add(name)
            waiting += parents[name]
    return found


def _needed(started: List[RunStarted], kept: List[CheckpointSaved], chosen: Set[str]) -> Set[str]:
    """The ancestors' checkpoints that the chosen runs began from, and those before step 1."""
    begun = {event.checkpoint for event in started if event.run in chosen}
    ancestors = [saved for saved in kept if saved.run not in chosen]
    return {key_of(saved) for saved in ancestors if saved.id in begun or saved.label == "initial"}


def _wanted(
    kept: List[CheckpointSaved], chosen: Set[str], needed: Set[str], which: Checkpoints
) -> Set[str]:
    own = [saved for saved in kept if saved.run in chosen]
    if which is Checkpoints.NONE:
        return set()
    if which is Checkpoints.LATEST:
        newest = {saved.run: saved for saved in sorted(own, key=lambda saved: saved.time)}
        return {key_of(saved) for saved in newest.values()}
    if which is Checkpoints.PINNED:
        return needed | {key_of(saved) for saved in own if saved.pinned}
    return needed | {key_of(saved) for saved in own}


def _reason(saved: CheckpointSaved, chosen: Set[str], which: Checkpoints) -> str:
    if which is not Checkpoints.ALL and saved.run in chosen:
        return f"left out of the bundle (--checkpoints {which.value})"
    return "left out of the bundle: no run in it needs it"


def _final(kept: List[CheckpointSaved], chosen: Set[str]) -> List[CheckpointSaved]:
    """The newest final and the newest best checkpoint of each chosen run."""
    found = {
        (saved.run, saved.label): saved
        for saved in sorted(kept, key=lambda saved: saved.time)
        if saved.run in chosen and saved.label in FINAL_LABELS
    }
    return list(found.values())
