"""`otf resume`: go on with a session in a new process."""

import os
import subprocess
import sys
from pathlib import Path
from typing import List, Optional

import typer

from .options import HomeOption, user_errors

app = typer.Typer(name="resume", pretty_exceptions_enable=False)


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
    home: Optional[Path] = HomeOption,
) -> None:
    """Start a script again, and go on from a checkpoint exactly as if it had never ended."""
    from .home import HOME_VARIABLE, Home
    from .resume import find_order, parse_target, recorded_command

    with user_errors():
        found = Home.find(home)
        order = find_order(found, parse_target(target), replay=replay)
        folder = Path(order.folder)
    # What follows the target is the script's own, the `--` before it being a habit.
    command = command[1:] if command and command[0] == "--" else command
    if not command:
        argv = recorded_command(folder)
        was = f" It was started as: {' '.join(argv)}" if argv else ""
        typer.echo(
            f"error: say how to start the script: otf resume {folder.name} -- python train.py.{was}",
            err=True,
        )
        raise typer.Exit(2)
    what = "replaying" if replay else "resuming"
    typer.echo(
        f"[onthefly] {what} run '{order.run}' of {folder.name}: {order.checkpoint}", err=True
    )
    environment = {**os.environ, **order.environment(), HOME_VARIABLE: str(found.path)}
    raise typer.Exit(_run(command, environment))


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
