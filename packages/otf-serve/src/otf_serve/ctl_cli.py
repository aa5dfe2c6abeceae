"""`otf ctl`: steer the training that is running, from a shell."""

from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple, Union

import typer

from .ctl_run import EXIT_CODES, Ctl

if TYPE_CHECKING:
    from otf_session.commands import Command

    from .ctl import Client

app = typer.Typer(
    name="ctl",
    help="Steer the training that is running: pause it, go back, change it.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_ctl = Ctl(app)

#: The points of each series that come with a snapshot of which only the rest is wanted.
_FEW = "snapshot?points=10"


@app.callback()
def ctl() -> None:
    """Steer the training that is running: pause it, go back, change it."""


@_ctl.command("pause")
def pause(
    release: bool = typer.Option(
        False, "--release", help="Give the GPU's memory back, until it is resumed."
    ),
) -> "Command":
    """Hold training between two steps; the step count stays until `otf ctl resume`."""
    from otf_session.commands import Pause

    return Pause(release=release)


@_ctl.command("resume")
def resume() -> "Command":
    """Let a paused training go on."""
    from otf_session.commands import Resume

    return Resume()


@_ctl.command("run-for")
def run_for(
    steps: Optional[int] = typer.Option(None, min=1, help="Pause after so many more steps."),
    epochs: Optional[int] = typer.Option(None, min=1, help="Pause after so many more epochs."),
) -> "Command":
    """Go on for so many steps or epochs, and pause there."""
    from otf_session.commands import RunFor

    _one_of(steps, epochs)
    return RunFor(steps=steps, epochs=epochs)


@_ctl.command("stop")
def stop() -> "Command":
    """End training, with a checkpoint; the script goes on after its `fit`."""
    from otf_session.commands import Stop

    return Stop()


@_ctl.command("cancel")
def cancel(
    command_id: str = typer.Argument(
        "",
        metavar="[ID]",
        help="A command's id (default: whichever is going on).",
        show_default=False,
    ),
) -> "Command":
    """Break off a long command: a test, a validation, a proof, a check of health."""
    from otf_session.commands import Cancel

    return Cancel(command=command_id)


@_ctl.command("save")
def save(
    name: str = typer.Argument("", help="A name; a named checkpoint is kept.", show_default=False),
    pin: bool = typer.Option(False, "--pin", help="Keep it until it is deleted."),
) -> "Command":
    """Write a checkpoint of the whole state."""
    from otf_session.commands import SaveCheckpoint

    return SaveCheckpoint(name=name, pin=pin)


@_ctl.command("load")
def load(
    checkpoint: str = typer.Argument(
        ..., help="An id (see `otf ctl checkpoints`), RUN@STEP, RUN@NAME, initial, best or latest."
    ),
    as_new_run: bool = typer.Option(
        False, "--as-new-run", help="Begin a new run there, and leave the old one as it is."
    ),
    name: str = typer.Option("", metavar="RUN", help="The new run's name.", show_default=False),
) -> "Command":
    """Go back to a checkpoint: to training exactly as it was then."""
    from otf_session.commands import LoadCheckpoint

    if name and not as_new_run:
        raise typer.BadParameter("--name is the new run's name: it needs --as-new-run.")
    return LoadCheckpoint(checkpoint=checkpoint, as_new_run=as_new_run, run=name)


@_ctl.command("reset")
def reset(
    name: str = typer.Option("", metavar="RUN", help="The new run's name.", show_default=False),
) -> "Command":
    """Begin again from the state before step 1, as a new run."""
    from otf_session.commands import Reset

    return Reset(run=name)


@_ctl.command("test")
def test() -> "Command":
    """Evaluate the weights as they are on the test data; training is not disturbed."""
    from otf_session.commands import Test

    return Test()


@_ctl.command("validate")
def validate() -> "Command":
    """Evaluate the weights as they are on the validation data; training is not disturbed."""
    from otf_session.commands import Validate

    return Validate()


@_ctl.command("set")
def set_hyperparameters(
    values: List[str] = typer.Argument(
        None, metavar="NAME=VALUE", help="Such as lr=0.01; see `otf ctl status` for the names."
    ),
    group: Optional[int] = typer.Option(
        None, min=0, help="Of this parameter group alone (default: of all).", show_default=False
    ),
    hold: Optional[bool] = typer.Option(
        None,
        "--hold-lr/--release-lr",
        help="Keep the learning rate where it is set, or hand it back to its scheduler.",
        show_default=False,
    ),
) -> "Command":
    """Change hyperparameters: all that are named, or none where one of them is refused."""
    from otf_session.commands import SetHyperparameters

    if not values and hold is None:
        raise typer.BadParameter("Say what to change, such as: otf ctl set lr=0.01")
    return SetHyperparameters(values=_values(values or []), group=group, hold=hold)


@_ctl.command("extend")
def extend(
    epochs: Optional[int] = typer.Option(None, min=1, help="So many more epochs."),
    steps: Optional[int] = typer.Option(None, min=1, help="So many more steps."),
) -> "Command":
    """Train longer than planned, also after training came to its end and its script stays."""
    from otf_session.commands import Extend

    _one_of(epochs, steps)
    return Extend(epochs=epochs or 0, steps=steps or 0)


@_ctl.command("note")
def note(
    text: str = typer.Argument(..., help="The remark."),
    step: Optional[int] = typer.Option(
        None,
        min=0,
        help="The step it is pinned to (default: where the run is).",
        show_default=False,
    ),
) -> "Command":
    """Pin a remark to a step: it is shown on the charts and in the log."""
    from otf_session.commands import Note

    return Note(text=text, step=step)


@_ctl.command("prove")
def prove(
    steps: int = typer.Option(10, min=1, help="How many steps."),
) -> "Command":
    """Train some steps, go back, train them again, and compare bit for bit.

    Afterwards the run is as it was.
    """
    from otf_session.commands import Prove

    return Prove(steps=steps)


@_ctl.command("health")
def health(
    check: str = typer.Argument(
        "all",
        metavar="[CHECK]",
        help="throughput, activations, numerics, determinism, distribution, or all.",
    ),
    every: Optional[int] = typer.Option(
        None,
        min=0,
        metavar="STEPS",
        help="Make it again every so many steps from here on, and not now; 0 ends that.",
        show_default=False,
    ),
    proof: int = typer.Option(
        0,
        min=0,
        metavar="STEPS",
        help="With determinism: also train so many steps twice, and compare bit for bit.",
        show_default=False,
    ),
) -> "Command":
    """Check how healthy the run is: what is wrong, what it means, and what to try.

    Afterwards the run is as it was.
    """
    from otf_session.commands import CheckHealth
    from otf_session.health import ALL, CHECKS

    if check not in (*CHECKS, ALL):
        raise typer.BadParameter(
            f"'{check}' is no check. There are: {', '.join((*CHECKS, ALL))}.", param_hint="CHECK"
        )
    if proof and check not in ("determinism", ALL):
        raise typer.BadParameter("--proof is a part of the check of determinism.")
    return CheckHealth(check=check, every=every, proof=proof)


@_ctl.reading("status")
def status(client: "Client", session: str) -> Tuple[Any, List[str]]:
    """Show what the session is doing: state, step, limits, hyperparameters."""
    from otf_session.summaries import Snapshot

    from . import ctl_text

    found = client.read(Snapshot, session, _FEW)
    run = found.session.current

    def of_run(declared: List[Any]) -> Any:
        return next((each for each in declared if run and each.run == run.name), None)

    shown = ctl_text.Status(
        session=found.session,
        run=run,
        limits=of_run(found.limits),
        hyperparameters=of_run(found.hyperparameters),
        determinism=of_run(found.determinism),
    )
    return shown, ctl_text.status(shown)


@_ctl.reading("list")
def list_commands(client: "Client", session: str) -> Tuple[Any, List[str]]:
    """List the commands that the session's trainer received, and what became of them."""
    from otf_session.summaries import SessionState, Snapshot

    from . import ctl_text

    snapshot = client.read(Snapshot, session, _FEW)
    found = snapshot.commands
    if not found:
        return found, ["No command has been received yet."]
    is_lost = snapshot.session.state is SessionState.LOST
    return found, ctl_text.commands(found, is_lost=is_lost)


@_ctl.reading("checkpoints")
def checkpoints(client: "Client", session: str) -> Tuple[Any, List[str]]:
    """List the checkpoints that are kept, the oldest first."""
    from otf_session.summaries import Snapshot

    from . import ctl_text

    found = client.read(Snapshot, session, _FEW).checkpoints
    return found, ctl_text.checkpoints(found) if found else ["No checkpoint is kept yet."]


def _one_of(steps: Optional[int], epochs: Optional[int]) -> None:
    if (steps is None) == (epochs is None):
        raise typer.BadParameter("Say how long: either --steps or --epochs.")


def _values(given: List[str]) -> Dict[str, Union[bool, int, float, str]]:
    found: Dict[str, Union[bool, int, float, str]] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"'{text}' is no NAME=VALUE, such as lr=0.01.")
        if name in found:
            raise typer.BadParameter(f"{name} is there twice.")
        found[name] = _value(name, value)
    return found


def _value(name: str, text: str) -> Union[bool, int, float, str]:
    """A number or a bool where the text is one, else the text: the trainer knows what it takes."""
    import math

    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        raise typer.BadParameter(f"{name} is {text}, which is no finite number.")
    # A whole number of any length is one; the wire has room for 63 bits of it.
    is_whole = text.strip().lstrip("+-").isdigit() and abs(number) < 2**63
    return int(text) if is_whole else number


def main() -> None:
    """The console script `otf-ctl`."""
    app()


if __name__ == "__main__":
    main()
