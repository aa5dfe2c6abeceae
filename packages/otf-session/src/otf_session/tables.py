"""Tables for people, which fit the terminal they are shown on."""

import sys
import time
from typing import TYPE_CHECKING, Any, List, NamedTuple, Optional, Sequence

if TYPE_CHECKING:
    from .details import KeptCheckpoint, SizedSession
    from .retention import Prunable
    from .sizes import SessionSize
    from .summaries import RunSummary, SessionSummary

#: A program that reads a table through a pipe gets whole lines, never ones cut at 80.
_PIPE_WIDTH = 160
_UNBOUNDED = 100_000
#: The characters that are shown of an elastic cell where there is little room.
_ELASTIC = 24

_UNITS = ("B", "kB", "MB", "GB", "TB")
_KILO = 1000


class Column(NamedTuple):
    """A column with its cells. Where there is no room, those with the highest `rank` are left out.

    An `elastic` one is cut short before that: it holds words that people chose at will.
    """

    title: str
    cells: Sequence[str]
    rank: int = 0
    is_number: bool = False
    footer: str = ""
    elastic: bool = False


def show(columns: Sequence[Column]) -> None:
    """Print a table of those columns that fit; those of rank 0 are always there."""
    console = _console()
    lines = _whole(columns, console)
    if lines is not None:
        _print(lines, console)
        return
    kept = list(columns)
    table = _table(kept)
    while _width(table, console) > console.width:
        table = _table(kept, longest=_ELASTIC)
        last = max(kept, key=lambda column: column.rank)
        if _width(table, console) <= console.width or last.rank == 0:
            break
        kept.remove(last)
    console.print(table)


def _console() -> Any:
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    # The cells are other people's words: `[x]` in an exception's text is no markup.
    return Console(width=width, markup=False, emoji=False, highlight=False)


class _Lines(NamedTuple):
    """A table's lines; its `rule` is under the titles and above the footer, where it has one."""

    titles: str
    rule: str
    rows: List[str]
    footer: Optional[str]


def _whole(columns: Sequence[Column], console: Any) -> Optional[_Lines]:
    """The lines of a table that fits as it is; None where it does not.

    It looks as rich would have it look, which for hundreds of rows takes longer than to read them.
    """
    from rich.cells import cell_len

    texts = [
        [plain(text).rstrip() for text in (each.title, each.footer, *each.cells)]
        for each in columns
    ]
    widths = [max(map(cell_len, each), default=0) for each in texts]
    total = sum(widths) + 3 * len(widths) - 1
    is_odd = console.options.ascii_only or console.legacy_windows
    if is_odd or total > console.width or any("\n" in text for each in texts for text in each):
        return None

    def line(number: int) -> str:
        cells = []
        for column, text, width in zip(columns, texts, widths):
            space = " " * (width - cell_len(text[number]))
            cells.append(space + text[number] if column.is_number else text[number] + space)
        return f" {'   '.join(cells)}".rstrip()

    has_footer = any(column.footer for column in columns)
    count = min((len(each) for each in texts), default=0)
    return _Lines(
        titles=line(0),
        rule=" " + "\u2500" * (total - 2),
        rows=[line(number) for number in range(2, count)],
        footer=line(1) if has_footer else None,
    )


def _print(lines: _Lines, console: Any) -> None:
    console.out(f"\n{lines.titles}", style="bold")
    console.out("\n".join([lines.rule, *lines.rows]))
    if lines.footer is not None:
        console.out(lines.rule)
        console.out(lines.footer, style="bold")
    console.out("")


def _width(table: Any, console: Any) -> int:
    """The characters that a table takes where there is room for all of it."""
    unbounded = console.options.update_width(_UNBOUNDED)
    return int(console.measure(table, options=unbounded).maximum)


def _table(columns: Sequence[Column], longest: Optional[int] = None) -> Any:
    from rich.box import SIMPLE
    from rich.table import Table

    has_footer = any(column.footer for column in columns)
    table = Table(box=SIMPLE, pad_edge=False, show_footer=has_footer)
    for column in columns:
        table.add_column(
            plain(column.title),
            justify="right" if column.is_number else "left",
            overflow="ellipsis" if column.elastic else "fold",
            no_wrap=column.elastic,
            max_width=longest if column.elastic else None,
            footer=column.footer,
        )
    for row in zip(*(column.cells for column in columns)):
        table.add_row(*map(plain, row))
    return table


def show_sessions(summaries: "Sequence[SessionSummary]") -> None:
    """All sessions at a glance."""
    runs = [summary.current for summary in summaries]
    columns = [
        Column("session", [summary.id for summary in summaries]),
        *_names([summary.name for summary in summaries]),
        Column("project", [summary.project for summary in summaries], 3, elastic=True),
        Column("run", [run.name if run else "" for run in runs], 4, elastic=True),
        Column("state", [summary.state.value for summary in summaries]),
        Column("runs", [str(len(summary.runs)) for summary in summaries], 6, is_number=True),
        Column("step", [str(run.step if run else 0) for run in runs], 2, is_number=True),
        Column("started", [moment(summary.created) for summary in summaries], 5),
        Column("last metrics", [_headline(run) for run in runs], 7),
    ]
    show(columns)


class SizeRow(NamedTuple):
    """A row of the table of sizes: a session, or what is no session, or none any more."""

    id: str
    state: str
    size: "SessionSize"
    name: str = ""
    project: str = ""

    @classmethod
    def of(cls, session: "SizedSession") -> "SizeRow":
        """The row of a session."""
        return cls(session.id, session.state.value, session.size, session.name, session.project)


def show_sizes(rows: Sequence[SizeRow]) -> None:
    """What all sessions take, and of what kind it is."""

    def of_kind(title: str, kind: str, rank: int) -> Column:
        found = [getattr(row.size, kind) for row in rows]
        return Column(title, [size_text(n) for n in found], rank, True, size_text(sum(found)))

    columns = [
        Column("session", [row.id for row in rows], footer="in all"),
        *_names([row.name for row in rows]),
        Column("project", [row.project for row in rows], 5, elastic=True),
        Column("state", [row.state for row in rows], 4),
        of_kind("record", "database", 3),
        of_kind("checkpoints", "checkpoints", 2),
        of_kind("pinned", "pinned", 2),
        of_kind("other", "other", 3),
        of_kind("total", "total", 0),
    ]
    show(columns)


def size_line(size: "SessionSize") -> str:
    """A session's size, taken apart."""
    kinds = [
        ("record", size.database),
        ("checkpoints", size.checkpoints),
        ("pinned", size.pinned),
        ("other", size.other),
    ]
    parts = ", ".join(f"{kind} {size_text(count)}" for kind, count in kinds if count)
    return f"{size_text(size.total)} ({parts})"


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
        while count > 1 and _width(_metrics(names, left[:count]), console) > console.width:
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
        *_names([item.name for item in items]),
        Column("project", [item.project for item in items], 3, elastic=True),
        Column("last change", [moment(item.changed) for item in items], 1),
        Column("what goes", [_what(item) for item in items], footer="in all"),
        Column("size", [size_text(item.size) for item in items], 0, True, total),
    ]
    show(columns)


def _names(names: Sequence[str]) -> List[Column]:
    """The column of names, where anybody has given one."""
    return [Column("name", names, 1, elastic=True)] if any(names) else []


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


def plain(text: str) -> str:
    """The text as one that does nothing to the terminal, line by line."""
    return "\n".join(
        "".join(character if character.isprintable() else "?" for character in line)
        for line in text.splitlines()
    )


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
