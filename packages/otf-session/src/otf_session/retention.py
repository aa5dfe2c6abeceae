"""Retention: which sessions, and which of their checkpoints, have had their time."""

import re
from pathlib import Path
from typing import List, NamedTuple, Optional

import msgspec

from . import deletion
from .bundles import provenance
from .errors import SessionError
from .events import CheckpointSaved
from .home import Home
from .liveness import is_alive
from .queries import kept_checkpoints, session_summary
from .sizes import session_size
from .store import SessionReader
from .summaries import SessionSummary

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*")

#: What a record says of checkpoints that are pruned.
REASON = "pruned by `otf session prune`"


class Policy(NamedTuple):
    """What `prune` goes by.

    Sessions that have not changed for `older_than` seconds (None: whatever their age) have had
    their time, but for the `keep_last` newest of all. With `checkpoints_only` their records stay;
    with `keep_pinned` pinned checkpoints do, and so the records of those that have some.
    """

    older_than: Optional[float] = None
    keep_last: int = 0
    keep_pinned: bool = False
    checkpoints_only: bool = False


class Prunable(msgspec.Struct, frozen=True, kw_only=True):
    """A session of which something goes: all of it (`whole`), or these `checkpoints`."""

    session: str
    name: str
    project: str
    changed: float
    whole: bool
    checkpoints: List[str]
    size: int


class Spared(msgspec.Struct, frozen=True, kw_only=True):
    """A session that is left as it is, though it may have had its time, and why."""

    session: str
    reason: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy comes to. `size` is the bytes that become free."""

    items: List[Prunable]
    spared: List[Spared]
    size: int


def parse_duration(text: str) -> float:
    """Seconds of `90s`, `45m`, `12h`, `30d` or `2w`; raises `ValueError` with what to type."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(
            f"'{text}' is no duration. Type a number and its unit: 45m, 12h, 30d or 2w (s, m, h, "
            "d and w are seconds, minutes, hours, days and weeks)."
        )
    return float(found[1]) * _UNITS[found[2]]


def plan(home: Home, policy: Policy, now: float) -> Plan:
    """What of the sessions in `home` goes by a policy; nothing is changed."""
    folders = home.session_folders()
    items: List[Prunable] = []
    spared: List[Spared] = []
    for folder in folders[: max(0, len(folders) - policy.keep_last)]:
        found = _look(folder, policy, now)
        if isinstance(found, Prunable):
            items.append(found)
        elif found is not None:
            spared.append(found)
    return Plan(items=items, spared=spared, size=sum(item.size for item in items))


def prune(home: Home, item: Prunable, report: Optional[deletion.Report] = None) -> None:
    """Let go what a plan says of one session; raises `SessionLive` or `NotDeleted`."""
    folder = home.session_folder(item.session)
    if item.whole:
        deletion.delete_session(folder, report)
        return
    with SessionReader(folder) as reader:
        kept = kept_checkpoints(reader.database)
    chosen = [saved for saved in kept if _key(saved) in item.checkpoints]
    deletion.delete_checkpoints(folder, chosen, REASON, report)


def _look(folder: Path, policy: Policy, now: float) -> "Optional[Prunable | Spared]":
    """What goes of one session; None where it has not had its time, or nothing of it goes."""
    try:
        with SessionReader(folder) as reader:
            summary = session_summary(reader)
            kept = kept_checkpoints(reader.database)
    except SessionError:
        return Spared(
            session=folder.name,
            reason=f"it cannot be read; `otf session show {folder.name}` says why",
        )
    changed = _changed(folder, summary)
    if policy.older_than is not None and now - changed < policy.older_than:
        return None
    if is_alive(folder) is not False:
        return Spared(session=folder.name, reason="it is being trained")
    pinned = [saved for saved in kept if saved.pinned and policy.keep_pinned]
    whole = not policy.checkpoints_only and not pinned
    going = [saved for saved in kept if saved not in pinned and deletion.is_ours(folder, saved)]
    if not whole and not going:
        return None
    size = session_size(folder, kept).total if whole else sum(_on_disk(folder, s) for s in going)
    return Prunable(
        session=folder.name,
        name=summary.name,
        project=summary.project,
        changed=changed,
        whole=whole,
        checkpoints=[_key(saved) for saved in going],
        size=size,
    )


def _changed(folder: Path, summary: SessionSummary) -> float:
    """When the session last changed, in seconds since the Unix epoch; an import is a change."""
    came_from = provenance.read(folder)
    return max(summary.updated, came_from.time if came_from is not None else 0.0)


def _on_disk(folder: Path, saved: CheckpointSaved) -> int:
    try:
        return (folder / saved.path).stat().st_size
    except OSError:
        return 0


def _key(saved: CheckpointSaved) -> str:
    return saved.id or saved.path
