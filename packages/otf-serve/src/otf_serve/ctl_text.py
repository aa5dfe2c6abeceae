"""What `otf ctl` says to a person: answers, results and tables as plain lines."""

from __future__ import annotations

import time
from typing import Any, Dict, Iterable, List, Optional, Sequence

import msgspec
from otf_session import results
from otf_session.commands import Applied, Command, command_name
from otf_session.events import (
    CheckpointSaved,
    CommandChanged,
    DeterminismAssessed,
    HyperparametersDeclared,
    LimitsChanged,
)
from otf_session.frames import CommandReply
from otf_session.summaries import RunSummary, SessionSummary

from . import ctl_health
from .pending import Pending

_UNANSWERED = "not answered: the process ended"


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What a session is doing: its summary, and of its current run what is declared."""

    session: SessionSummary
    run: Optional[RunSummary] = None
    limits: Optional[LimitsChanged] = None
    hyperparameters: Optional[HyperparametersDeclared] = None
    determinism: Optional[DeterminismAssessed] = None


# Answers


def answered(reply: CommandReply) -> List[str]:
    """One line of outcome, and what the command brought about."""
    if not isinstance(reply.outcome, Applied):
        return [f"refused: {reply.outcome.reason}"]
    outcome = reply.outcome
    return [outcome.message or f"Done at step {outcome.step}.", *_result(outcome.result)]


def waiting(pending: Pending) -> str:
    """How far a command is, and how to see more of it."""
    where = "is with the trainer" if pending.status == "received" else "waits for the trainer"
    going_on = f" ({progress(pending)})" if pending.progress else ""
    return (
        f"No outcome yet: the command {where}{going_on}, and stays there. `otf ctl list` shows "
        f"what becomes of it, `otf ctl cancel {pending.id}` breaks it off."
    )


def progress(pending: Pending) -> str:
    """How far a command is, in a few words."""
    found = pending.progress
    if found is None:
        return "received" if pending.status == "received" else "queued"
    return f"{found.done}{f' of {found.total}' if found.total else ''} {found.unit}"


def _result(result: Optional[results.Result]) -> List[str]:
    if isinstance(result, results.CheckpointWritten):
        return [f"  {result.id}  {size(result.size)}  {result.path}", f"  sha256 {result.sha256}"]
    if isinstance(result, results.Evaluation):
        rows = [[name, number(value)] for name, value in result.values.items()]
        return table(["metric", f"{result.split}>"], rows)
    if isinstance(result, results.HyperparametersSet):
        return [*_changes(result.changes), *([result.lr_rule] if result.lr_rule else [])]
    if isinstance(result, results.LimitsSet):
        return [f"  {_limits(result)}"]
    if isinstance(result, results.Released) and not result.moved:
        # That there was nothing to move is in the message.
        return []
    if isinstance(result, results.Released):
        freed = f"{result.device} has {size(result.freed)} more."
        return [f"  {size(result.moved)} moved to host memory; {freed}"]
    if isinstance(result, results.Rewinding):
        exact = [] if result.exact else ["  Not exact:"]
        return [*exact, *(f"  - {finding}" for finding in result.findings)]
    if isinstance(result, results.Proof):
        return _proof(result)
    if isinstance(result, results.HealthChecked):
        return ctl_health.lines(result.reports)
    return []


def _proof(proof: results.Proof) -> List[str]:
    if proof.exact:
        amount = "1 step" if proof.steps == 1 else f"{proof.steps} steps"
        return [f"  {amount} trained twice: every bit is the same."]
    where = f", at step {proof.step}" if proof.step is not None else ""
    hint = [f"  {proof.hint}"] if proof.hint else []
    return [f"  The first difference{where}: {proof.difference}", *hint]


def _changes(changes: Sequence[results.HyperparameterChange]) -> List[str]:
    rows = [
        [
            change.name,
            group(change.group),
            value(change.before),
            value(change.requested),
            value(change.applied),
        ]
        for change in changes
    ]
    return table(["name", "group", "before>", "requested>", "applied>"], rows)


# Tables


def status(found: Status) -> List[str]:
    """What a session is doing."""
    session, run = found.session, found.run
    linked = "connected" if session.connected else "not connected to this server"
    lines = [
        f"Session      {session.id}  ({session.project})",
        f"State        {session.state.value}{_because(run)}",
        f"Trainer      {linked}",
    ]
    if run is not None:
        parents = f", from {', '.join(run.parents)}" if run.parents else ""
        lines.append(f"Run          {run.name}{parents}")
        lines.append(f"Step         {run.step}, in epoch {run.epoch}")
        latest = "  ".join(f"{name} {number(last)}" for name, last in run.latest.items())
        lines += [f"Latest       {latest}"] if latest else []
    if found.limits is not None:
        lines.append(f"Limits       {_limits(found.limits)}")
    if found.determinism is not None:
        exact = "exact" if found.determinism.exact else "not exact"
        lines.append(f"Going back   {exact}")
        lines += [f"             - {finding}" for finding in found.determinism.findings]
    if found.hyperparameters is not None:
        lines += [f"Rate rule    {found.hyperparameters.lr_rule}", ""]
        rows = [
            [each.name, group(each.group), value(each.value), value(each.low), value(each.high)]
            for each in found.hyperparameters.values
        ]
        lines += table(["hyperparameter", "group", "value>", "lowest>", "highest>"], rows)
    return lines


def commands(events: Sequence[CommandChanged], *, is_lost: bool = False) -> List[str]:
    """The record of commands, one line each, with the newest that is known of it.

    Where the process `is_lost`, nobody answers any more what it had received.
    """
    newest: Dict[str, CommandChanged] = {}
    for event in events:
        newest[event.id] = event
    rows = [
        [
            clock(event.time),
            str(event.step),
            words(event.command),
            event.author,
            event.status.value,
            _UNANSWERED if is_lost and event.outcome is None else _outcome(event),
        ]
        for event in newest.values()
    ]
    return table(["time", "step>", "command", "author", "status", "outcome"], rows)


def checkpoints(kept: Sequence[CheckpointSaved]) -> List[str]:
    """The checkpoints that are kept."""
    rows = [
        [
            each.id or each.path,
            each.run,
            str(each.step),
            str(each.epoch),
            each.label,
            "pinned" if each.pinned else "",
            size(each.size),
            clock(each.time),
        ]
        for each in kept
    ]
    return table(["checkpoint", "run", "step>", "epoch>", "label", "", "size>", "written"], rows)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> List[str]:
    """Lines with these columns; those whose name ends in `>` hold numbers."""
    # A cell is one line, whatever is in it.
    cells_of = [[" ".join(cell.split()) for cell in row] for row in rows]
    grid = [[column.rstrip(">") for column in columns], *cells_of]
    widths = [max(len(row[place]) for row in grid) for place in range(len(columns))]
    lines = []
    for row in grid:
        cells = [
            cell.rjust(width) if column.endswith(">") else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns)
        ]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines


# Words


def words(command: Command) -> str:
    """A command as it would be typed, more or less."""
    said = [command_name(command)]
    for field in msgspec.structs.fields(type(command)):
        given = getattr(command, field.name)
        if given in (field.default, {}):
            continue
        if isinstance(given, dict):
            said += [f"{name}={value(each)}" for name, each in given.items()]
        else:
            said.append(f"{field.name}={value(given)}")
    return " ".join(" ".join(said).split())


def value(given: Any) -> str:
    """A hyperparameter's value; nothing where there is none."""
    if given is None:
        return ""
    if isinstance(given, bool):
        return "true" if given else "false"
    return f"{given:.6g}" if isinstance(given, float) else str(given)


def number(given: Optional[float]) -> str:
    """A measured value."""
    return "not finite" if given is None else f"{given:.5g}"


def group(given: Optional[int]) -> str:
    """A parameter group's number, where there are groups."""
    return "" if given is None else str(given)


def size(given: int) -> str:
    """A size in bytes, as a person reads it."""
    number = float(given)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:  # noqa: PLR2004 - of each unit so many make the next
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def clock(seconds: float) -> str:
    """A local time of the day."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _limits(found: Any) -> str:
    ends = []
    if found.max_epochs is not None:
        ends.append(f"after epoch {found.max_epochs}")
    if found.max_steps is not None:
        ends.append(f"at step {found.max_steps}")
    pauses = []
    if found.pause_at_step is not None:
        pauses.append(f"at step {found.pause_at_step}")
    if found.pause_after_epoch is not None:
        pauses.append(f"after epoch {found.pause_after_epoch}")
    said = f"ends {' or '.join(ends)}" if ends else "no end is set"
    return said + (f"; pauses {' and '.join(pauses)}" if pauses else "")


def _because(run: Optional[RunSummary]) -> str:
    return f" ({run.reason})" if run and run.reason else ""


def _outcome(event: CommandChanged) -> str:
    outcome = event.outcome
    return str(getattr(outcome, "message", "") or getattr(outcome, "reason", ""))
