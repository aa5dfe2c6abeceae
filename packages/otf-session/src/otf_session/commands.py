"""Commands: what one may ask of a live training process.

A command is executed at a safe point, between two steps, and answered once: by `Applied` or by
`Refused`. Who asked, what, and how it ended is recorded as `CommandChanged` events.
"""

from typing import Union

import msgspec


class CommandBase(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """The base of every command; `kind` is its name on the wire."""


class Pause(CommandBase, frozen=True, kw_only=True, tag="pause"):
    """Hold training at the next safe point; the step count stays until `Resume`."""


class Resume(CommandBase, frozen=True, kw_only=True, tag="resume"):
    """Let a paused run go on."""


class Stop(CommandBase, frozen=True, kw_only=True, tag="stop"):
    """End training at the next safe point. A checkpoint is saved, and the script goes on."""


Command = Union[Pause, Resume, Stop]


class OutcomeBase(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """The base of both answers to a command."""


class Applied(OutcomeBase, frozen=True, kw_only=True, tag="applied"):
    """The command took effect at `step`. `message` says what is the case now."""

    step: int
    message: str = ""


class Refused(OutcomeBase, frozen=True, kw_only=True, tag="refused"):
    """The command changed nothing. `reason` says why, and what would work instead."""

    reason: str


Outcome = Union[Applied, Refused]


class CommandRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A command on its way. `id` is chosen by the asker; `author` says who asks."""

    id: str
    author: str
    command: Command


def command_name(command: Command) -> str:
    """The word for a command, as on the wire, in the CLI and in the record."""
    return str(type(command).__struct_config__.tag)
