"""What a person did to a run that its weights depend on: kept in each checkpoint, and replayed.

Going back to a checkpoint takes back what was done after it, so that a list in the checkpoint is
exactly what led to it, however often the run was rewound on the way.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Optional

import msgspec
from otf_session.commands import Command, Extend, SetHyperparameters, Stop

#: Those that change what the following steps come to. A rewind takes back instead of adding.
_LASTING = (SetHyperparameters, Extend)


class Intervention(NamedTuple):
    """A command, and where training was when it was applied."""

    step: int
    phase: str
    command: Command


class Interventions:
    """The commands that led to where a run is."""

    def __init__(self) -> None:
        self._list: List[Intervention] = []

    def note(self, step: int, phase: str, command: Command) -> None:
        """A command was applied."""
        if isinstance(command, _LASTING):
            self._list.append(Intervention(step, phase, command))

    def stopped(self, step: int, phase: str) -> None:
        """Training was ended here, before its limits."""
        self._list.append(Intervention(step, phase, Stop()))

    def state(self) -> List[Dict[str, Any]]:
        """What a checkpoint keeps."""
        return [
            {"step": item.step, "phase": item.phase, "command": msgspec.to_builtins(item.command)}
            for item in self._list
        ]

    def load(self, state: List[Dict[str, Any]]) -> None:
        """Take over what a checkpoint kept; a stop is undone by going on."""
        self._list = [item for item in read(state) if not isinstance(item.command, Stop)]


def read(state: List[Dict[str, Any]]) -> List[Intervention]:
    """The interventions that a checkpoint keeps, in the order in which they were applied."""
    return [
        Intervention(
            int(item["step"]), str(item["phase"]), msgspec.convert(item["command"], type=Command)
        )
        for item in state
    ]


class Replay:
    """Applies interventions again, each at the step and in the phase where it was applied."""

    def __init__(
        self, interventions: List[Intervention], execute: Callable[[Command], None]
    ) -> None:
        self._waiting = list(interventions)
        self._execute = execute

    @property
    def next_step(self) -> Optional[int]:
        """The step of the next command; None where all have been applied."""
        return self._waiting[0].step if self._waiting else None

    def run_due(self, step: int, phase: str) -> None:
        """Apply what was applied here."""
        while self._waiting and (self._waiting[0].step, self._waiting[0].phase) == (step, phase):
            self._execute(self._waiting.pop(0).command)
