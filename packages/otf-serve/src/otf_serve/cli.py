"""`otf serve`: the server that shows the sessions of this machine."""

import contextlib
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, Optional

import typer

if TYPE_CHECKING:
    from .settings import Settings

app = typer.Typer(name="serve", pretty_exceptions_enable=False)


@app.command()
def serve(
    host: str = typer.Option(
        "127.0.0.1", help="The address to listen on; with --allow-remote also one of the network."
    ),
    port: Optional[int] = typer.Option(
        None, help="The port (default: $ONTHEFLY_DASHBOARD_PORT, else 47621).", show_default=False
    ),
    home: Optional[Path] = typer.Option(
        None,
        help="The folder that holds sessions (default: $ONTHEFLY_HOME, else your data folder).",
        show_default=False,
        # Whether it can be read is found out, and said, where it is read.
        readable=False,
    ),
    open_browser: bool = typer.Option(False, "--open", help="Open the dashboard in a browser."),
    as_json: bool = typer.Option(
        False, "--json", help="Print one line of JSON when ready, for programs."
    ),
    allow_remote: bool = typer.Option(
        False, "--allow-remote", help="Allow a --host that other machines can reach."
    ),
    until_stdin_closes: bool = typer.Option(
        False,
        "--until-stdin-closes",
        help="End when standard input closes, for programs: the server ends with them.",
    ),
) -> None:
    """Show the sessions of this machine, live, in a browser.

    Training neither needs the server nor stops with it: start and end it whenever you like.
    """
    from otf_session.address import dashboard_port, ensure_token, tighten_token
    from otf_session.home import Home

    from .errors import AlreadyServed
    from .listening import check_reach
    from .server import run
    from .settings import Settings

    with _user_errors():
        found = Home.find(home)
        number = dashboard_port(port, argument="--port")
        _warn(check_reach(host, number, allow_remote=allow_remote))
        token = ensure_token(found)
        _warn(tighten_token(found))
        settings = Settings(home=found, host=host, port=number, token=token)

        def ready() -> None:
            _announce(settings, os.getpid(), as_json=as_json, already=False)
            if open_browser:
                _open(settings.link)

        try:
            run(settings, ready, until_stdin_closes=until_stdin_closes)
        except AlreadyServed as other:
            there = dataclasses.replace(settings, host=other.host)
            _announce(there, other.pid, as_json=as_json, already=True)
            if open_browser:
                _open(there.link)


@contextlib.contextmanager
def _user_errors() -> Iterator[None]:
    from otf_session.errors import SessionError

    from .errors import ServeError

    try:
        yield
    except (ServeError, SessionError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def _warn(message: str) -> None:
    if message:
        typer.echo(f"warning: {message}", err=True)


def _announce(settings: "Settings", pid: int, *, as_json: bool, already: bool) -> None:
    try:
        for line in _announcement(settings, pid, as_json=as_json, already=already):
            typer.echo(line)
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads what the server says; what it shows may still be looked at. Python would
        # complain once more when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _announcement(settings: "Settings", pid: int, *, as_json: bool, already: bool) -> Iterator[str]:
    if as_json:
        ready = {
            "address": settings.address,
            "token_file": str(settings.home.token_file),
            "pid": pid,
            "already_running": already,
        }
        yield json.dumps(ready)
    elif already:
        yield f"otf serve is already running: {settings.link}"
    else:
        from .listening import remote_hosts

        yield f"OnTheFly dashboard: {settings.link}"
        for host in remote_hosts(settings.host, settings.port):
            yield f"From other machines: {settings.link_at(host)}"
        yield f"Sessions in {settings.home.path}. Ctrl-C ends the server, never the training."


def _open(link: str) -> None:
    import webbrowser

    if not webbrowser.open(link):
        typer.echo("No browser was found on this machine; open the link above yourself.", err=True)


def main() -> None:
    """The console script `otf-serve`."""
    app()
