"""`otf session`: look at the sessions on this machine, and take them elsewhere."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import typer

from .bundles import cli as bundles
from .options import HomeOption, JsonOption, print_json, user_errors

if TYPE_CHECKING:
    from .summaries import SessionSummary

app = typer.Typer(
    name="session",
    help="Look at the sessions on this machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def session() -> None:
    """Look at the sessions on this machine."""


@app.command("list")
def list_sessions(home: Optional[Path] = HomeOption, as_json: bool = JsonOption) -> None:
    """List all sessions, the newest first."""
    from .errors import SessionError
    from .home import Home
    from .queries import session_summary
    from .store import SessionReader

    summaries = []
    with user_errors():
        found = Home.find(home)
        for folder in found.session_folders()[::-1]:
            try:
                with SessionReader(folder) as reader:
                    summaries.append(session_summary(reader))
            except SessionError as error:
                typer.echo(f"warning: {error}", err=True)
    if as_json:
        print_json(summaries)
    elif summaries:
        _print(_session_table(summaries))
    else:
        typer.echo(f"No sessions in {found.sessions} yet. `otf demo` records one.")


@app.command()
def show(
    session_id: str = typer.Argument(
        ..., metavar="ID", help="A session's id, an unambiguous part of it, or `latest`."
    ),
    home: Optional[Path] = HomeOption,
    as_json: bool = JsonOption,
) -> None:
    """Show one session: its runs and the newest value of every metric."""
    from .home import Home
    from .queries import session_summary
    from .store import SessionReader

    with user_errors():
        folder = Home.find(home).session_folder(session_id)
        with SessionReader(folder) as reader:
            summary = session_summary(reader)
    if as_json:
        print_json(summary)
        return
    typer.echo(f"Session   {summary.id}")
    typer.echo(f"Project   {summary.project}")
    typer.echo(f"State     {summary.state.value}")
    typer.echo(f"Started   {_local_time(summary.created)}")
    typer.echo(f"Folder    {folder}")
    _print(_run_table(summary))
    _print(_metric_table(summary))


app.command("export")(bundles.export)
app.command("import")(bundles.import_)
app.command("verify")(bundles.verify)


def _print(table: Any) -> None:
    from rich.console import Console

    # A program that reads the table through a pipe gets whole lines, never ones cut at 80.
    width = None if sys.stdout.isatty() else 160
    # The cells are other people's words: `[x]` in an exception's text is no markup.
    Console(width=width, markup=False, emoji=False).print(table)


def _table(*columns: str) -> Any:
    """A table with these columns; those whose name ends in `>` hold numbers."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False)
    for column in columns:
        numeric = column.endswith(">")
        table.add_column(
            column.rstrip(">"), justify="right" if numeric else "left", overflow="fold"
        )
    return table


def _session_table(summaries: "list[SessionSummary]") -> Any:
    table = _table(
        "session", "project", "run", "state", "runs>", "step>", "started", "last metrics"
    )
    for summary in summaries:
        run = summary.current
        table.add_row(
            summary.id,
            summary.project,
            run.name if run else "",
            summary.state.value,
            str(len(summary.runs)),
            str(run.step if run else 0),
            _local_time(summary.created),
            _headline(run.latest) if run else "",
        )
    return table


def _run_table(summary: "SessionSummary") -> Any:
    table = _table("run", "from", "state", "epoch>", "step>", "last change", "reason")
    for run in summary.runs:
        table.add_row(
            run.name,
            ", ".join(run.parents),
            run.state.value,
            str(run.epoch),
            str(run.step),
            _local_time(run.updated),
            run.reason,
        )
    return table


def _metric_table(summary: "SessionSummary") -> Any:
    table = _table("metric", *(f"{run.name}>" for run in summary.runs))
    for name in sorted({name for run in summary.runs for name in run.latest}):
        cells = [_number(run.latest[name]) if name in run.latest else "" for run in summary.runs]
        table.add_row(name, *cells)
    return table


def _headline(latest: "dict[str, Optional[float]]") -> str:
    shown = [name for name in ("loss", "val_loss", "test_loss", "accuracy") if name in latest]
    return "  ".join(f"{name} {_number(latest[name])}" for name in shown)


def _number(value: Optional[float]) -> str:
    return "not finite" if value is None else f"{value:.5g}"


def _local_time(seconds: float) -> str:
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def main() -> None:
    """The console script `otf-session`."""
    app()
