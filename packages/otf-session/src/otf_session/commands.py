"""Commands: what one may ask of a live training process.

A command is executed at a safe point, between two steps, and answered once: by `Applied` or by
`Refused`. Who asked, what, and how it ended is recorded as `CommandChanged` events.
"""

from typing import Any, Dict, Optional, Union

import msgspec

from .health import ALL
from .results import Result

#: What a hyperparameter may hold.
Value = Union[bool, int, float, str]


class CommandBase(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """The base of every command; `kind` is its name on the wire."""


class Pause(CommandBase, frozen=True, kw_only=True, tag="pause"):
    """Hold training at the next safe point; the step count stays until `Resume`.

    With `release`, what the model and the optimizer hold on the device moves to host memory, and
    the device's caches are emptied; `Resume` moves it back bit for bit.
    """

    release: bool = False


class Resume(CommandBase, frozen=True, kw_only=True, tag="resume"):
    """Let a paused run go on."""


class RunFor(CommandBase, frozen=True, kw_only=True, tag="run-for"):
    """Go on for so many steps, or to the end of so many epochs, and pause there: one of the two."""

    steps: Optional[int] = None
    epochs: Optional[int] = None


class Stop(CommandBase, frozen=True, kw_only=True, tag="stop"):
    """End training at the next safe point. A checkpoint is saved, and the script goes on."""


class Cancel(CommandBase, frozen=True, kw_only=True, tag="cancel"):
    """Break off the long command (test, validate, prove, health) with the id `command`, or any ('')."""

    command: str = ""


class SaveCheckpoint(CommandBase, frozen=True, kw_only=True, tag="save-checkpoint"):
    """Write the whole state down. A named or pinned checkpoint is kept until it is deleted."""

    name: str = ""
    pin: bool = False


class LoadCheckpoint(CommandBase, frozen=True, kw_only=True, tag="load-checkpoint"):
    """Go back to a checkpoint of any run of the session: to training exactly as it was then.

    In place, the checkpoint's own run goes on from there, and what it recorded after that step
    counts as rewound. With `as_new_run`, a new run begins there, called `run` or numbered.
    `checkpoint` is an id, or `RUN@STEP`, `RUN@NAME`, or `initial`, `best`, `latest` of this run.
    """

    checkpoint: str
    as_new_run: bool = False
    run: str = ""


class Reset(CommandBase, frozen=True, kw_only=True, tag="reset"):
    """Begin again from the state before step 1, as a new run, called `run` or numbered."""

    run: str = ""


class Test(CommandBase, frozen=True, kw_only=True, tag="test"):
    """Evaluate the live weights on the test data; training is not disturbed."""

    __test__ = False  # pytest would take it for a class of tests


class Validate(CommandBase, frozen=True, kw_only=True, tag="validate"):
    """Evaluate the live weights on the validation data; training is not disturbed."""


class SetHyperparameters(CommandBase, frozen=True, kw_only=True, tag="set-hyperparameters"):
    """Change hyperparameters: all of `values`, or none where one of them is refused.

    A name is a numeric entry of the optimizer's parameter groups (`lr`, `weight_decay`,
    `betas.0`), of one `group` or of all; `grad_clip_norm` (0: off); or what the script registered
    as tunable. A learning rate that a scheduler governs is scaled: the scheduler goes on, times
    the new value over its own. With `hold` it stays at the new value until it is released by
    `hold` false.
    """

    values: Dict[str, Value] = {}
    group: Optional[int] = None
    hold: Optional[bool] = None


class Extend(CommandBase, frozen=True, kw_only=True, tag="extend"):
    """Train longer than planned, by so many epochs or steps; also while lingering at the end."""

    epochs: int = 0
    steps: int = 0


class Note(CommandBase, frozen=True, kw_only=True, tag="note"):
    """A person's remark, pinned to `step`, by default to the step where the run is."""

    text: str
    step: Optional[int] = None


class Prove(CommandBase, frozen=True, kw_only=True, tag="prove"):
    """Train `steps` steps, go back, train them again, and compare bit for bit.

    Afterwards the run is as it was. The first difference is named.
    """

    steps: int = 10


class CheckHealth(CommandBase, frozen=True, kw_only=True, tag="health"):
    """Check the run's health, by one of the checks or by `all`; training is not disturbed.

    With `every`, the check is made again every so many steps from here on, and by 0 no longer. With
    `proof`, the check of determinism also trains so many steps twice and compares them.
    """

    check: str = ALL
    every: Optional[int] = None
    proof: int = 0


Command = Union[
    Pause,
    Resume,
    RunFor,
    Stop,
    Cancel,
    SaveCheckpoint,
    LoadCheckpoint,
    Reset,
    Test,
    Validate,
    SetHyperparameters,
    Extend,
    Note,
    Prove,
    CheckHealth,
]


class OutcomeBase(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """The base of both answers to a command."""


class Applied(OutcomeBase, frozen=True, kw_only=True, tag="applied"):
    """The command took effect at `step`. `message` says what is the case now.

    `result` is what a command that has one brought about, such as the values that were applied.
    """

    step: int
    message: str = ""
    result: Optional[Result] = None


class Refused(OutcomeBase, frozen=True, kw_only=True, tag="refused"):
    """The command changed nothing. `reason` says why, and what would work instead."""

    reason: str


Outcome = Union[Applied, Refused]


class CommandRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A command on its way. `id` is chosen by the asker; `author` says who asks."""

    id: str
    author: str
    command: Command


def command_name(command: Any) -> str:
    """The word for a command, as on the wire, in the CLI and in the record."""
    return str(type(command).__struct_config__.tag)
