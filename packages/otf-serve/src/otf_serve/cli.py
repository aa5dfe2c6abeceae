"""`otf serve`: the server that shows the sessions of this machine."""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, Optional

import typer

if TYPE_CHECKING:
    from .settings import Settings

app = typer.Typer(name="serve", pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def serve(
    host: str = typer.Option("127.0.0.1", help="The address to listen on; this machine only."),
    port: Optional[int] = typer.Option(
        None, help="The port (default: $ONTHEFLY_DASHBOARD_PORT, else 47621).", show_default=False
    ),
    home: Optional[Path] = typer.Option(
        None,
        help="The folder that holds sessions (default: $ONTHEFLY_HOME, else your data folder).",
        show_default=False,
    ),
    open_browser: bool = typer.Option(False, "--open", help="Open the dashboard in a browser."),
    as_json: bool = typer.Option(
        False, "--json", help="Print one line of JSON when ready, for programs."
    ),
) -> None:
    """Show the sessions of this machine, live, in a browser.

    Training neither needs the server nor stops with it: start and end it whenever you like.
    """
    from otf_session.address import dashboard_port, ensure_token
    from otf_session.home import Home

    from .errors import AlreadyServed
    from .server import run
    from .settings import Settings

    with _user_errors():
        found = Home.find(home)
        settings = Settings(
            home=found,
            host=host,
            port=dashboard_port(port, argument="--port"),
            token=ensure_token(found),
        )

        def ready() -> None:
            _announce(settings, os.getpid(), as_json=as_json, already=False)
            if open_browser:
                _open(settings.link)

        try:
            run(settings, ready)
        except AlreadyServed as other:
            _announce(settings, other.pid, as_json=as_json, already=True)
            if open_browser:
                _open(settings.link)


@contextlib.contextmanager
def _user_errors() -> Iterator[None]:
    from otf_session.errors import SessionError

    from .errors import ServeError

    try:
        yield
    except (ServeError, SessionError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def _announce(settings: "Settings", pid: int, *, as_json: bool, already: bool) -> None:
    if as_json:
        ready = {
            "address": settings.address,
            "token_file": str(settings.home.token_file),
            "pid": pid,
            "already_running": already,
        }
        typer.echo(json.dumps(ready))
    elif already:
        typer.echo(f"otf serve is already running: {settings.link}")
    else:
        typer.echo(f"OnTheFly dashboard: {settings.link}")
        typer.echo(f"Sessions in {settings.home.path}. Ctrl-C ends the server, never the training.")
    sys.stdout.flush()


def _open(link: str) -> None:
    import webbrowser

    if not webbrowser.open(link):
        typer.echo("No browser was found on this machine; open the link above yourself.", err=True)


def main() -> None:
    """The console script `otf-serve`."""
    app()
