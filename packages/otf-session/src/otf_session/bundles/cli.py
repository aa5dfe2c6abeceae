"""`otf session export`, `import` and `verify`, which `otf_session.cli` mounts."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, List, Optional, Sequence

import typer

from .. import completion
from ..shell import HomeOption, JsonOption, print_json, progress, user_errors
from .choice import Checkpoints

if TYPE_CHECKING:
    from .verifier import Verified

_BROKEN_OFF = 130


def export(
    session_id: str = typer.Argument(
        "latest",
        metavar="[ID]",
        help="A session's id, an unambiguous part of it, its name, or `latest`.",
        autocompletion=completion.session_ids,
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
        autocompletion=completion.run_names,
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
    from ..tables import size_text
    from .exporter import export_session

    with user_errors(), _interruptible(), progress("exporting", in_bytes=True) as bar:
        made = export_session(
            Home.find(home).session_folder(session_id),
            output,
            runs=runs or (),
            checkpoints=checkpoints,
            final_models=final_models,
            force=force,
            report=bar.put,
        )
    _say_notes(made.notes)
    if as_json:
        print_json(made)
        return
    counted = [_count(len(made.runs), "run"), _count(made.checkpoints, "checkpoint")]
    if final_models:
        counted.append(_count(made.final_models, "final model"))
    typer.echo(
        f"Exported {made.session} ({', '.join(counted)}) to {made.path}, {size_text(made.size)}."
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
    from ..tables import size_text
    from .importer import import_bundle

    with user_errors(), _interruptible(), progress("importing", in_bytes=True) as bar:
        made = import_bundle(Home.find(home), path, as_new=as_new, report=bar.put)
    _say_notes(made.notes)
    if as_json:
        print_json(made)
        return
    counted = [_count(len(made.runs), "run"), _count(made.checkpoints, "checkpoint")]
    if made.final_models:
        counted.append(_count(made.final_models, "final model"))
    was = f", which was {made.original}" if made.original not in ("", made.session) else ""
    typer.echo(f"Imported {made.session}{was} ({', '.join(counted)}), {size_text(made.size)}.")
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

    with user_errors(), _interruptible(), progress("verifying", in_bytes=True) as bar:
        found = verifier.verify(Home.find(home), target, report=bar.put)
    if as_json:
        print_json(found)
    else:
        _say_verified(found)
    if not found.ok:
        raise typer.Exit(1)


def _say_verified(found: "Verified") -> None:
    from ..tables import size_text

    if found.ok:
        size = size_text(sum(each.size for each in found.members))
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
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the work, which leaves nothing behind."""
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo("Broken off. Nothing was left behind.", err=True)
        raise typer.Exit(_BROKEN_OFF) from error


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
