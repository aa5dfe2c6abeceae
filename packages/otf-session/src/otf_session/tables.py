"""Tables for people, which fit the terminal they are shown on."""

import sys
import time
from typing import TYPE_CHECKING, Any, List, NamedTuple, Optional, Sequence

if TYPE_CHECKING:
    from .details import KeptCheckpoint, SizedSession
    from .retention import Prunable
    from .summaries import RunSummary, SessionSummary

#: A program that reads a table through a pipe gets whole lines, never ones cut at 80.
_PIPE_WIDTH = 160

_UNITS = ("B", "kB", "MB", "GB", "TB")
_KILO = 1000


class Column(NamedTuple):
    """A column with its cells. Where there is no room, those with the highest `rank` are left out."""

    title: str
    cells: Sequence[str]
    rank: int = 0
    is_number: bool = False
    footer: str = ""


def show(columns: Sequence[Column]) -> None:
    """Print a table of those columns that fit; those of rank 0 are always there."""
    console = _console()
    kept = list(columns)
    table = _table(kept)
    while console.measure(table).maximum > console.width:
        last = max(kept, key=lambda column: column.rank)
        if last.rank == 0:
            break
        kept.remove(last)
        table = _table(kept)
    console.print(table)


def _console() -> Any:
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    # The cells are other people's words: `[x]` in an exception's text is no markup.
    return Console(width=width, markup=False, emoji=False, highlight=False)


def _table(columns: Sequence[Column]) -> Any:
    from rich.box import SIMPLE
    from rich.table import Table

    has_footer = any(column.footer for column in columns)
    table = Table(box=SIMPLE, pad_edge=False, show_footer=has_footer)
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.is_number else "left",
            overflow="fold",
            footer=column.footer,
        )
    for row in zip(*(column.cells for column in columns)):
        table.add_row(*row)
    return table


def show_sessions(summaries: "Sequence[SessionSummary]") -> None:
    """All sessions at a glance."""
    runs = [summary.current for summary in summaries]
    columns = [
        Column("session", [summary.id for summary in summaries]),
        *_names(summaries),
        Column("project", [summary.project for summary in summaries], 3),
        Column("run", [run.name if run else "" for run in runs], 4),
        Column("state", [summary.state.value for summary in summaries]),
        Column("runs", [str(len(summary.runs)) for summary in summaries], 6, is_number=True),
        Column("step", [str(run.step if run else 0) for run in runs], 2, is_number=True),
        Column("started", [moment(summary.created) for summary in summaries], 5),
        Column("last metrics", [_headline(run) for run in runs], 7),
    ]
    show(columns)


def show_sizes(sessions: "Sequence[SizedSession]") -> None:
    """What all sessions take, and of what kind it is."""
    sizes = [session.size for session in sessions]

    def sizes_column(title: str, field: str, rank: int) -> Column:
        found = [getattr(size, field) for size in sizes]
        return Column(title, [size_text(n) for n in found], rank, True, size_text(sum(found)))

    count = f"{len(sessions)} session{'' if len(sessions) == 1 else 's'}"
    columns = [
        Column("session", [session.id for session in sessions], footer=count),
        *_names(sessions),
        Column("project", [session.project for session in sessions], 5),
        Column("state", [session.state.value for session in sessions], 4),
        sizes_column("record", "database", 3),
        sizes_column("checkpoints", "checkpoints", 1),
        sizes_column("pinned", "pinned", 1),
        sizes_column("other", "other", 3),
        sizes_column("total", "total", 0),
    ]
    show(columns)


def show_runs(runs: "Sequence[RunSummary]") -> None:
    """The runs of a session."""
    columns = [
        Column("run", [run.name for run in runs]),
        Column("from", [", ".join(run.parents) for run in runs]),
        Column("state", [run.state.value for run in runs]),
        Column("epoch", [str(run.epoch) for run in runs], 1, is_number=True),
        Column("step", [str(run.step) for run in runs], is_number=True),
        Column("last change", [moment(run.updated) for run in runs], 2),
        Column("reason", [run.reason for run in runs]),
    ]
    show(columns)


def show_metrics(runs: "Sequence[RunSummary]") -> None:
    """The newest value of every metric of every run, in as many tables as that takes."""
    names = sorted({name for run in runs for name in run.latest})
    if not names:
        return
    console = _console()
    left = list(runs)
    while left:
        count = len(left)
        while count > 1 and console.measure(_metrics(names, left[:count])).maximum > console.width:
            count -= 1
        console.print(_metrics(names, left[:count]))
        left = left[count:]


def _metrics(names: Sequence[str], runs: "Sequence[RunSummary]") -> Any:
    columns = [Column("metric", names)]
    for run in runs:
        cells = [_number(run.latest[name]) if name in run.latest else "" for name in names]
        columns.append(Column(run.name, cells, is_number=True))
    return _table(columns)


def show_checkpoints(checkpoints: "Sequence[KeptCheckpoint]") -> None:
    """The checkpoints that are kept of a session."""
    if not checkpoints:
        return
    columns = [
        Column("checkpoint", [saved.id for saved in checkpoints]),
        Column("epoch", [str(saved.epoch) for saved in checkpoints], 2, is_number=True),
        Column("written", [moment(saved.time) for saved in checkpoints], 1),
        Column("size", [size_text(saved.size) for saved in checkpoints], is_number=True),
        Column("", [_kept(saved) for saved in checkpoints]),
    ]
    show(columns)


def show_prunables(items: "Sequence[Prunable]") -> None:
    """What goes, and what becomes free."""
    total = size_text(sum(item.size for item in items))
    columns = [
        Column("session", [item.session for item in items]),
        *([Column("name", [i.name for i in items], 2)] if any(i.name for i in items) else []),
        Column("project", [item.project for item in items], 3),
        Column("last change", [moment(item.changed) for item in items], 1),
        Column("what goes", [_what(item) for item in items], footer="in all"),
        Column("size", [size_text(item.size) for item in items], 0, True, total),
    ]
    show(columns)


def _names(summaries: "Sequence[SessionSummary]") -> List[Column]:
    """The column of names, where anybody has given one."""
    names = [summary.name for summary in summaries]
    return [Column("name", names, 1)] if any(names) else []


def _kept(saved: "KeptCheckpoint") -> str:
    pinned = "pinned" if saved.pinned else ""
    return "its file is missing" if saved.missing else pinned


def _what(item: "Prunable") -> str:
    if item.whole:
        return "the session"
    count = len(item.checkpoints)
    return f"{count} checkpoint{'' if count == 1 else 's'}"


def _headline(run: "Optional[RunSummary]") -> str:
    latest = run.latest if run is not None else {}
    shown = [name for name in ("loss", "val_loss", "test_loss", "accuracy") if name in latest]
    return "  ".join(f"{name} {_number(latest[name])}" for name in shown)


def _number(value: Optional[float]) -> str:
    return "not finite" if value is None else f"{value:.5g}"


def moment(seconds: float) -> str:
    """A time, given in seconds since the Unix epoch, as people here read it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def size_text(count: int) -> str:
    """A number of bytes for people: `12.3 MB`, a MB being a million bytes."""
    amount, unit = float(count), 0
    while amount >= _KILO - 0.5 and unit < len(_UNITS) - 1:
        amount /= _KILO
        unit += 1
    digits = 0 if unit == 0 or amount >= 99.95 else 1  # noqa: PLR2004
    return f"{amount:.{digits}f} {_UNITS[unit]}"
