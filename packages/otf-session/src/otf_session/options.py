"""What the shell commands of this package share: common options, and how errors are said."""

import contextlib
from pathlib import Path
from typing import Any, Iterator, Optional

import typer

HomeOption: Optional[Path] = typer.Option(
    None,
    "--home",
    help="The folder that holds sessions (default: $ONTHEFLY_HOME, else your data folder).",
    show_default=False,
    # Whether it can be read is found out, and said, where it is read.
    readable=False,
)
JsonOption: bool = typer.Option(False, "--json", help="Print one JSON document, for programs.")


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn this package's errors into one line on stderr and exit code 1."""
    from .errors import SessionError

    try:
        yield
    except SessionError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def print_json(value: Any) -> None:
    """Print one document."""
    import msgspec

    typer.echo(msgspec.json.encode(value).decode())
