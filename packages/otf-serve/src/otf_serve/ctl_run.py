"""Around every `otf ctl` command: its common options, the server, the answer, the exit code."""

import contextlib
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import typer

if TYPE_CHECKING:
    from otf_session.commands import Command

    from .ctl import Client
    from .pending import Pending

APPLIED, REFUSED, MISUSED, NOT_REACHABLE, NOT_ANSWERED, INTERRUPTED = 0, 1, 2, 3, 4, 130

EXIT_CODES = (
    "Exit codes: 0 applied, 1 refused, 2 typed wrongly or no such session, 3 no server of this home "
    "answers, 4 no outcome in time (the command stays with the trainer)."
)

#: What every command takes: the name in Python, its type and its option.
_WHERE: List[Tuple[str, Any, Any]] = [
    (
        "session",
        Optional[str],
        typer.Option(
            None,
            "--session",
            metavar="ID",
            help="A session's id, an unambiguous part of it, or `latest` "
            "(default: the newest whose trainer is connected, else the newest).",
            show_default=False,
        ),
    ),
    (
        "home",
        Optional[Path],
        typer.Option(
            None,
            "--home",
            help="The folder that holds sessions (default: $ONTHEFLY_HOME, else your data folder).",
            show_default=False,
            # Whether it can be read is found out, and said, where it is read.
            readable=False,
        ),
    ),
    (
        "port",
        Optional[int],
        typer.Option(
            None,
            "--port",
            help="The server's port (default: $ONTHEFLY_DASHBOARD_PORT, else 47621).",
            show_default=False,
        ),
    ),
    ("host", str, typer.Option("127.0.0.1", "--host", help="The server's address.")),
    (
        "as_json",
        bool,
        typer.Option(False, "--json", help="Print one JSON document, for programs."),
    ),
]
_WAITING: List[Tuple[str, Any, Any]] = [
    (
        "no_wait",
        bool,
        typer.Option(False, "--no-wait", help="Hand the command over, and do not wait for it."),
    ),
    (
        "timeout",
        Optional[float],
        typer.Option(
            None,
            "--timeout",
            min=0.0,
            metavar="SECONDS",
            help="How long to wait for the outcome (default: until nothing is heard for 30 s).",
            show_default=False,
        ),
    ),
]


class Where(NamedTuple):
    """Which session of which server is meant, and whether a program reads the answer."""

    session: Optional[str]
    home: Optional[Path]
    port: Optional[int]
    host: str
    as_json: bool


class Ctl:
    """Makes commands of a Typer app out of functions that know nothing of servers."""

    def __init__(self, app: typer.Typer) -> None:
        self._app = app

    def command(self, name: str) -> Callable[[Callable[..., "Command"]], Callable[..., "Command"]]:
        """Offer a function that makes a `Command` of its options as the command `name`."""

        def register(build: Callable[..., "Command"]) -> Callable[..., "Command"]:
            def run(**given: Any) -> None:
                where, own = _split(given)
                no_wait, timeout = own.pop("no_wait"), own.pop("timeout")
                _send(build(**own), where, 0.0 if no_wait else timeout, no_wait=no_wait)

            self._offer(name, build, run, [*_WHERE, *_WAITING])
            return build

        return register

    def reading(self, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Offer a function of a client and a session as the command `name`.

        It returns the JSON document, and the lines for a person.
        """

        def register(read: Callable[..., Any]) -> Callable[..., Any]:
            def run(**given: Any) -> None:
                where, own = _split(given)
                with _reached(where) as (client, session):
                    document, lines = read(client, session, **own)
                _print(document, lines, as_json=where.as_json)

            self._offer(name, read, run, _WHERE, skip=2)
            return read

        return register

    def _offer(
        self,
        name: str,
        function: Callable[..., Any],
        run: Callable[..., None],
        common: List[Tuple[str, Any, Any]],
        skip: int = 0,
    ) -> None:
        # Typer reads the options off a signature: here that of the function, and the common ones.
        own = list(inspect.signature(function).parameters.values())[skip:]
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [
            *(parameter.replace(kind=keyword) for parameter in own),
            *(
                inspect.Parameter(option, keyword, default=default, annotation=kind)
                for option, kind, default in common
            ),
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        run.__doc__ = function.__doc__
        self._app.command(name)(run)


def _split(given: Dict[str, Any]) -> Tuple[Where, Dict[str, Any]]:
    where = Where(*(given.pop(name) for name in Where._fields))
    return where, given


def _send(command: "Command", where: Where, timeout: Optional[float], *, no_wait: bool) -> None:
    from otf_session.commands import Applied

    from . import ctl_text
    from .ctl import follow
    from .pending import Pending

    shown = _Progress()
    show = shown if sys.stderr.isatty() and not where.as_json else None
    with _reached(where) as (client, session), _interruptible(shown):
        answer = follow(client, session, command, seconds=timeout, show=show)
        shown.clear()
    if isinstance(answer, Pending):
        lines = [ctl_text.waiting(answer)]
        _print(answer, lines, as_json=where.as_json, error=not no_wait)
        raise typer.Exit(APPLIED if no_wait else NOT_ANSWERED)
    is_applied = isinstance(answer.outcome, Applied)
    lines = ctl_text.answered(answer)
    _print(answer, lines, as_json=where.as_json, error=not is_applied)
    raise typer.Exit(APPLIED if is_applied else REFUSED)


@contextlib.contextmanager
def _reached(where: Where) -> "Iterator[Tuple[Client, str]]":
    """The client and the session; errors become one line on stderr and an exit code."""
    from otf_session.address import dashboard_port
    from otf_session.errors import (
        AmbiguousSession,
        HomeUnusable,
        InvalidPort,
        SessionError,
        SessionNotFound,
    )
    from otf_session.home import Home

    from .ctl import choose_session, find_server
    from .errors import NotReachable, RequestRefused

    try:
        home = Home.find(where.home)
        client = find_server(home, where.host, dashboard_port(where.port, argument="--port"))
        with contextlib.closing(client):
            session, number = choose_session(client, home, where.session)
            if number > 1:
                typer.echo(
                    f"{number} trainings are connected; this is the newest, {session} "
                    "(another: --session).",
                    err=True,
                )
            yield client, session
    except (AmbiguousSession, SessionNotFound, InvalidPort) as error:
        raise _failed(error, MISUSED) from error
    except (NotReachable, HomeUnusable) as error:
        raise _failed(error, NOT_REACHABLE) from error
    except RequestRefused as error:
        raise _failed(error, REFUSED if error.status >= _SERVER_ERRORS else MISUSED) from error
    except SessionError as error:
        raise _failed(error, REFUSED) from error


_SERVER_ERRORS = 500


def _failed(error: Exception, code: int) -> typer.Exit:
    typer.echo(f"error: {_plain(' '.join(str(error).split()))}", err=True)
    return typer.Exit(code)


@contextlib.contextmanager
def _interruptible(shown: "_Progress") -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        shown.clear()
        typer.echo(
            "Not waited for any longer: the command stays with the trainer. `otf ctl list` shows "
            "what becomes of it, `otf ctl cancel` breaks it off.",
            err=True,
        )
        raise typer.Exit(INTERRUPTED) from error


class _Progress:
    """One line on a terminal, written over and over."""

    def __init__(self) -> None:
        self._width = 0

    def __call__(self, pending: "Pending") -> None:
        from .ctl_text import progress

        self._write(_plain(progress(pending)))

    def clear(self) -> None:
        """Leave the line as it was before."""
        if self._width:
            self._write("")

    def _write(self, text: str) -> None:
        blank = " " * max(0, self._width - len(text))
        sys.stderr.write(f"\r{text}{blank}" if text else f"\r{blank}\r")
        sys.stderr.flush()
        self._width = len(text)


def _print(document: Any, lines: List[str], *, as_json: bool, error: bool = False) -> None:
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode(document).decode())
    else:
        for line in lines:
            typer.echo("\n".join(map(_plain, line.splitlines())), err=error)


def _plain(line: str) -> str:
    """A line that does nothing to the terminal: notes, names and reasons are other people's words."""
    return "".join(character if character.isprintable() else "?" for character in line)
