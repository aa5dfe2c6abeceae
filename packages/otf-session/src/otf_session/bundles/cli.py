"""`otf session export`, `import` and `verify`, which `otf_session.cli` mounts."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, List, Optional, Sequence

import typer

from ..options import HomeOption, JsonOption, print_json, user_errors
from .choice import Checkpoints

if TYPE_CHECKING:
    from .verifier import Verified
    from .work import Report

_BROKEN_OFF = 130
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def export(
    session_id: str = typer.Argument(
        "latest", metavar="[ID]", help="A session's id, an unambiguous part of it, or `latest`."
    ),
    output: Optional[Path] = typer.Option(
        None,
        "--output",
        "-o",
        metavar="FILE",
        help="The bundle, or a folder for it (default: PROJECT-ID.otf.zip in this folder).",
        show_default=False,
    ),
    runs: Optional[List[str]] = typer.Option(
        None,
        "--runs",
        metavar="RUN,...",
        help="Only these runs, and those they grew from (default: all).",
        show_default=False,
    ),
    checkpoints: Checkpoints = typer.Option(
        Checkpoints.ALL,
        "--checkpoints",
        help="Which checkpoints to take along; `latest` is the newest of each run.",
    ),
    final_models: bool = typer.Option(
        False,
        "--final-models",
        help="Also the weights alone of final and best checkpoints, as files that torch.load reads.",
    ),
    force: bool = typer.Option(False, "--force", help="Replace a file that is there already."),
    home: Optional[Path] = HomeOption,
    as_json: bool = JsonOption,
) -> None:
    """Export a session into one file, also while it is being trained."""
    from ..home import Home
    from .exporter import export_session

    with user_errors(), _bar("Exporting", quiet=as_json) as report:
        made = export_session(
            Home.find(home).session_folder(session_id),
            output,
            runs=runs or (),
            checkpoints=checkpoints,
            final_models=final_models,
            force=force,
            report=report,
        )
    _say_notes(made.notes)
    if as_json:
        print_json(made)
        return
    counted = [_count(len(made.runs), "run"), _count(made.checkpoints, "checkpoint")]
    if final_models:
        counted.append(_count(made.final_models, "final model"))
    typer.echo(
        f"Exported {made.session} ({', '.join(counted)}) to {made.path}, {_size(made.size)}."
    )


def import_(
    path: Path = typer.Argument(
        ...,
        metavar="FILE",
        help="A bundle, or a folder with a bundle.json.",
        # Whether it is there and can be read is found out, and said, where it is read.
        readable=False,
    ),
    as_new: bool = typer.Option(
        False, "--as-new", help="Give the session a new id, beside one that has its own."
    ),
    home: Optional[Path] = HomeOption,
    as_json: bool = JsonOption,
) -> None:
    """Import a bundle as a session, after all of it has been checked."""
    from ..home import Home
    from .importer import import_bundle

    with user_errors(), _bar("Importing", quiet=as_json) as report:
        made = import_bundle(Home.find(home), path, as_new=as_new, report=report)
    _say_notes(made.notes)
    if as_json:
        print_json(made)
        return
    counted = [_count(len(made.runs), "run"), _count(made.checkpoints, "checkpoint")]
    if made.final_models:
        counted.append(_count(made.final_models, "final model"))
    was = f", which was {made.original}" if made.original not in ("", made.session) else ""
    typer.echo(f"Imported {made.session}{was} ({', '.join(counted)}), {_size(made.size)}.")
    if made.checkpoints:
        typer.echo(f"Go on with it: otf resume {made.session} -- python train.py")


def verify(
    target: str = typer.Argument(
        "latest", metavar="[FILE|ID]", help="A bundle's file, a session's id, or `latest`."
    ),
    home: Optional[Path] = HomeOption,
    as_json: bool = JsonOption,
) -> None:
    """Look at every byte of a bundle or a session: is all there, and as it was written?"""
    from ..home import Home
    from . import verifier

    with user_errors(), _bar("Verifying", quiet=as_json) as report:
        found = verifier.verify(Home.find(home), target, report=report)
    if as_json:
        print_json(found)
    else:
        _say_verified(found)
    if not found.ok:
        raise typer.Exit(1)


def _say_verified(found: "Verified") -> None:
    if found.ok:
        size = _size(sum(each.size for each in found.members))
        counted = _count(len(found.members), "file")
        typer.echo(f"The {found.kind} {found.target} is sound: {counted}, {size}.")
        return
    for each in found.members:
        if each.problem:
            typer.echo(f"{each.name}: {each.problem}")
    damaged = sum(bool(each.problem) for each in found.members)
    what = f" {damaged} of its {_count(len(found.members), 'file')}." if damaged else ""
    typer.echo(
        f"error: The {found.kind} {found.target} is not sound.{what} {found.problem}".rstrip(),
        err=True,
    )


def _say_notes(notes: Sequence[str]) -> None:
    for note in notes:
        typer.echo(f"note: {note}", err=True)


@contextlib.contextmanager
def _bar(title: str, *, quiet: bool) -> "Iterator[Optional[Report]]":
    """A progress bar on stderr where a person looks; Ctrl-C ends the work without a trace."""
    try:
        if quiet or not sys.stderr.isatty():
            yield None
        else:
            with _shown(title) as report:
                yield report
    except KeyboardInterrupt as error:
        typer.echo("Broken off. Nothing was left behind.", err=True)
        raise typer.Exit(_BROKEN_OFF) from error


@contextlib.contextmanager
def _shown(title: str) -> "Iterator[Report]":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _size(count: float) -> str:
    """Bytes as a person reads them: `2.07 GB`."""
    for unit in _UNITS[:-1]:
        if count < 1000:  # noqa: PLR2004
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} {_UNITS[-1]}"
