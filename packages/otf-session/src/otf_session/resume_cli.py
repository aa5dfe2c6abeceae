"""`otf resume`: go on with a session in a new process."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Set, Tuple

import typer

from . import completion
from .shell import HomeOption, misuse, user_errors

if TYPE_CHECKING:
    from .resume import How

app = typer.Typer(name="resume", pretty_exceptions_enable=False)

#: Our own options that take no value.
_FLAGS = ("--replay", "--weights-only", "--as-new-run")

#: What is done to a run, by how it is gone on with.
_DOING = {
    "new-run": "going on from {checkpoint} of {session}, as a new run",
    "same-run": "resuming run '{run}' of {session}: {checkpoint}",
    "replay": "replaying run '{run}' of {session}: {checkpoint}",
    "weights-only": "beginning a new run with the weights of {checkpoint} of {session}",
}


@app.command(
    context_settings={"allow_interspersed_args": False},
    epilog="Example: otf resume latest -- python train.py --data cifar",
)
def resume(
    target: str = typer.Argument(
        ...,
        metavar="SESSION[:RUN[@STEP]]",
        help="The session (`latest`, an id or a part of it), its run (else the one that moved "
        "last), and a step or label of a checkpoint (else the newest).",
        autocompletion=completion.targets,
    ),
    command: Optional[List[str]] = typer.Argument(
        None, metavar="-- COMMAND...", help="The script, started as ever: python train.py ..."
    ),
    replay: bool = typer.Option(
        False,
        "--replay",
        help="Begin anew from before step 1, as a run of its own, and apply the same commands at "
        "the same steps: it ends with the same weights.",
    ),
    weights_only: bool = typer.Option(
        False,
        "--weights-only",
        help="Begin at step 0, as a new run, with the weights alone: a fresh optimizer and scheduler, "
        "the script's own seeds and the first epoch.",
    ),
    as_new_run: bool = typer.Option(
        False, "--as-new-run", help="Go on as a new run also where a run was cut off."
    ),
    home: Optional[Path] = HomeOption,
) -> None:
    """Start a script again, and go on from a checkpoint exactly as if it had never ended.

    A run that was cut off goes on as itself from its newest checkpoint. From an earlier one, from a
    run that has ended, and in a session that was imported, training goes on as a new run whose parent
    is that one. Optimizer, scheduler, generators and the place in the data are those of the
    checkpoint.
    """
    from .home import HOME_VARIABLE, Home
    from .resume import find_order, parse_target, recorded_command
    from .tables import plain

    words, flags = _taken_apart(command or [])
    how = _how(
        replay=replay or "--replay" in flags,
        weights_only=weights_only or "--weights-only" in flags,
        as_new_run=as_new_run or "--as-new-run" in flags,
    )
    with user_errors():
        found = Home.find(home)
        order = find_order(found, parse_target(target), how)
        folder = Path(order.folder)
    if not words:
        argv = recorded_command(folder)
        was = f" It was started as: {plain(' '.join(argv))}" if argv else ""
        misuse(f"say how to start the script: otf resume {folder.name} -- python train.py.{was}")
    doing = _DOING[order.how.value].format(
        checkpoint=order.checkpoint, session=folder.name, run=order.run
    )
    typer.echo(f"[onthefly] {plain(doing)}", err=True)
    environment = {**os.environ, **order.environment(), HOME_VARIABLE: str(found.path)}
    raise typer.Exit(_run(words, environment))


def _taken_apart(command: List[str]) -> "Tuple[List[str], Set[str]]":
    """The script's words, and those of our own options that were typed behind the target.

    The `--` between them is a habit.
    """
    ours = list(itertools.takewhile(lambda word: word.startswith("-") and word != "--", command))
    for word in ours:
        if word not in _FLAGS:
            misuse(f"'{word}' stands behind SESSION. Put it before: otf resume {word} ... SESSION")
    rest = command[len(ours) :]
    return rest[1:] if rest[:1] == ["--"] else rest, set(ours)


def _how(*, replay: bool, weights_only: bool, as_new_run: bool) -> "Optional[How]":
    """How a person wants to go on; None where that is left to what there is."""
    from .resume import How

    wishes = {How.REPLAY: replay, How.WEIGHTS_ONLY: weights_only, How.NEW_RUN: as_new_run}
    chosen = [how for how, wished in wishes.items() if wished]
    if len(chosen) > 1:
        misuse("--replay, --weights-only and --as-new-run exclude each other.")
    return chosen[0] if chosen else None


def _run(command: List[str], environment: "dict[str, str]") -> int:
    """Run the script; its exit code."""
    sys.stderr.flush()
    try:
        if os.name == "posix":
            # In this process's place, so that signals and the terminal are the script's own.
            os.execvpe(command[0], command, environment)  # noqa: S606
        return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603
    except OSError as error:
        typer.echo(f"error: {command[0]} cannot be started: {error.strerror}.", err=True)
        return 127


def main() -> None:
    """The console script `otf-resume`."""
    app()


if __name__ == "__main__":
    main()
