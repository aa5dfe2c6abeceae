"""What the commands of this package share: options, errors, questions, progress."""

import contextlib
import sys
from typing import Any, Iterator, NoReturn, Optional

import typer

HomeOption = typer.Option(
    None,
    "--home",
    help="The folder that holds sessions (default: $ONTHEFLY_HOME, else your data folder).",
    show_default=False,
    # Whether it can be read is found out, and said, where it is read.
    readable=False,
)
JsonOption = typer.Option(False, "--json", help="Print one JSON document, for programs.")
YesOption = typer.Option(False, "--yes", "-y", help="Do not ask.")

#: How often a second a bar is drawn at most.
_PER_SECOND = 4


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn this package's errors into one line on stderr and exit code 1."""
    from .errors import SessionError

    try:
        yield
    except SessionError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def misuse(message: str) -> NoReturn:
    """Say what was typed wrongly, and exit with 2."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2)


def print_json(value: Any) -> None:
    """Print one JSON document."""
    import msgspec

    typer.echo(msgspec.json.encode(value).decode())


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless `yes`; exit with 1 where the answer is no, with 2 where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        misuse(f"{question} Nobody can be asked here: add --yes.")
    if not typer.confirm(question, err=True):
        typer.echo("Nothing was deleted.", err=True)
        raise typer.Exit(1)


class Progress:
    """How far long work is, shown on a terminal and nowhere else."""

    def __init__(self, bar: Any = None, task: Any = None) -> None:
        self._bar = bar
        self._task = task
        self._done = 0

    def advance(self, count: int) -> None:
        """So much more is done."""
        self._done += count
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)

    def put(self, done: int, total: int) -> None:
        """So much of so much is done."""
        self._done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)


@contextlib.contextmanager
def progress(
    what: str, total: Optional[int] = None, *, in_bytes: bool = False
) -> Iterator[Progress]:
    """A bar on stderr for as long as the `with` lasts; `total` None where it is not known yet."""
    if not sys.stderr.isatty():
        yield Progress()
        return
    from rich import progress as bars
    from rich.console import Console

    amount = bars.DownloadColumn() if in_bytes else bars.MofNCompleteColumn()
    columns = [bars.TextColumn("{task.description}"), bars.BarColumn(), amount]
    with bars.Progress(
        *columns,
        bars.TimeRemainingColumn(),
        console=Console(stderr=True, markup=False, emoji=False),
        transient=True,
        refresh_per_second=_PER_SECOND,
    ) as bar:
        yield Progress(bar, bar.add_task(what, total=total))
