"""`otf session`: look at the sessions on this machine, and take care of them."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional

import typer

from . import completion, metrics_cli, retention_cli
from .bundles import cli as bundles
from .shell import HomeOption, JsonOption, misuse, print_json, user_errors

if TYPE_CHECKING:
    from .details import SizedSession
    from .home import Home
    from .summaries import SessionSummary

app = typer.Typer(
    name="session",
    help="Look at the sessions on this machine, and take care of them.",
    epilog="It exits with 0 when all went well, 1 when something was refused or failed, and 2 when "
    "it was typed wrongly.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

IdArgument = typer.Argument(
    ...,
    metavar="ID",
    help="A session's id, an unambiguous part of it, its name, or `latest`.",
    autocompletion=completion.session_ids,
)


class Sort(str, Enum):
    """What a list goes by: the newest first, the largest first, or by names."""

    AGE = "age"
    SIZE = "size"
    NAME = "name"


@app.callback()
def session() -> None:
    """Look at the sessions on this machine, and take care of them."""


@app.command("list")
def list_sessions(
    size: bool = typer.Option(
        False, "--size", help="Show what each takes on disk, and of what kind it is."
    ),
    sort: Sort = typer.Option(
        Sort.AGE, help="The newest first, the largest first (with --size), or by names."
    ),
    home: Optional[Path] = HomeOption,
    as_json: bool = JsonOption,
) -> None:
    """List all sessions, the newest first."""
    from . import listing, tables
    from .home import Home

    with user_errors():
        found = Home.find(home)
        if size or sort is Sort.SIZE:
            _list_sizes(found, sort, as_json=as_json)
            return
        summaries = listing.summaries(
            found, lambda error: typer.echo(f"warning: {error}", err=True)
        )
    if sort is Sort.NAME:
        summaries.sort(key=_by_name)
    if as_json:
        print_json(summaries)
    elif summaries:
        tables.show_sessions(summaries)
    else:
        _say_empty(found)


@app.command()
def show(
    session_id: str = IdArgument,
    home: Optional[Path] = HomeOption,
    as_json: bool = JsonOption,
) -> None:
    """Show one session: its runs, the newest value of every metric, and its checkpoints."""
    from . import tables
    from .details import session_details
    from .errors import StoreDamaged
    from .home import Home
    from .store import SessionReader

    with user_errors():
        folder = Home.find(home).session_folder(session_id)
        try:
            with SessionReader(folder) as reader:
                details = session_details(reader)
        except StoreDamaged:
            if not as_json:
                _show_what_is_left(folder)
            raise
    if as_json:
        print_json(details)
        return
    _show_head(details, folder)
    typer.echo(f"Size      {tables.size_line(details.size)}")
    tables.show_runs(details.runs)
    tables.show_metrics(details.runs)
    tables.show_checkpoints(details.checkpoints)


@app.command()
def path(
    session_id: Optional[str] = typer.Argument(
        None,
        metavar="[ID]",
        help="A session's id, an unambiguous part of it, its name, or `latest` (default: the folder "
        "of all sessions).",
        show_default=False,
        autocompletion=completion.session_ids,
    ),
    home: Optional[Path] = HomeOption,
    as_json: bool = JsonOption,
) -> None:
    """Print the folder of a session: its record, its checkpoints."""
    from .home import Home

    with user_errors():
        found = Home.find(home)
        folder = found.sessions if session_id is None else found.session_folder(session_id)
    if as_json:
        print_json({"path": str(folder)})
    else:
        typer.echo(str(folder))


@app.command()
def rename(
    session_id: str = IdArgument,
    name: Optional[str] = typer.Argument(None, metavar="[NAME]", help="The name it gets."),
    clear: bool = typer.Option(False, "--clear", help="Take the name away that it has."),
    home: Optional[Path] = HomeOption,
    as_json: bool = JsonOption,
) -> None:
    """Give a session a name for people, also while it is being trained; its id stays."""
    from . import display_name
    from .home import Home

    if (name is None) is not clear:
        misuse("give either a name or --clear: otf session rename latest 'best so far'")
    with user_errors():
        folder = Home.find(home).session_folder(session_id)
        before = display_name.read(folder)
        if name is None:
            display_name.clear(folder)
        else:
            display_name.write(folder, name)
    if as_json:
        print_json({"session": folder.name, "name": name or "", "before": before})
    elif name is None:
        typer.echo(f"{folder.name} has no name any more.")
    else:
        typer.echo(f"{folder.name} is now called '{name}'.")


app.command("export")(bundles.export)
app.command("import")(bundles.import_)
app.command("verify")(bundles.verify)
app.command()(metrics_cli.metrics)
app.command()(retention_cli.delete)
app.command()(retention_cli.prune)


def _list_sizes(home: "Home", sort: Sort, *, as_json: bool) -> None:
    """Show what every session takes, those that cannot be read and what is unfinished included."""
    from . import tables
    from .details import sized_session
    from .errors import SessionError
    from .sizes import session_size
    from .store import SessionReader

    sessions: List[SizedSession] = []
    others = []
    for folder in home.session_folders()[::-1]:
        try:
            with SessionReader(folder) as reader:
                sessions.append(sized_session(reader))
        except SessionError as error:
            typer.echo(f"warning: {error}", err=True)
            others.append(tables.SizeRow(folder.name, "unreadable", session_size(folder, [])))
    for folder in home.other_folders():
        state = "unfinished" if folder.name.startswith(".") else "no record"
        others.append(tables.SizeRow(folder.name, state, session_size(folder, [])))
    if sort is Sort.NAME:
        sessions.sort(key=_by_name)
    elif sort is Sort.SIZE:
        sessions.sort(key=lambda each: each.size.total, reverse=True)
    if as_json:
        print_json(sessions)
    elif sessions or others:
        tables.show_sizes([*map(tables.SizeRow.of, sessions), *others])
    else:
        _say_empty(home)


def _by_name(summary: "SessionSummary") -> str:
    return (summary.name or summary.project).casefold()


def _say_empty(home: "Home") -> None:
    typer.echo(f"No sessions in {home.sessions} yet. `otf demo` records one.")


def _show_head(summary: "SessionSummary", folder: Path) -> None:
    from .tables import moment, plain

    typer.echo(f"Session   {plain(summary.id)}")
    if summary.name:
        typer.echo(f"Name      {summary.name}")
    typer.echo(f"Project   {plain(summary.project)}")
    typer.echo(f"State     {summary.state.value}")
    typer.echo(f"Started   {moment(summary.created)}")
    typer.echo(f"Folder    {folder}")


def _show_what_is_left(folder: Path) -> None:
    """Show what can be read of a session that is cut short, before its error is."""
    from . import tables
    from .errors import SessionError
    from .salvage import salvaged_summary

    try:
        summary = salvaged_summary(folder)
    except SessionError:
        return
    typer.echo("This is what can be read of it:", err=True)
    _show_head(summary, folder)
    tables.show_runs(summary.runs)
    tables.show_metrics(summary.runs)


def main() -> None:
    """The console script `otf-session`."""
    app()
