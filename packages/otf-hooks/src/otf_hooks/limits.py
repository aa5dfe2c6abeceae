"""Where a run ends and where it pauses, counted in epochs and steps from its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from otf_session.results import LimitsSet


@dataclass
class Limits:
    """The limits that the script set, and what a person added to them.

    `None` is no limit. Extensions are kept apart from the script's own numbers, so that a resumed
    script may raise those and keeps what was added by hand.
    """

    script_epochs: Optional[int]
    script_steps: Optional[int]
    steps_per_epoch: Optional[int] = None
    more_epochs: int = 0
    more_steps: int = 0
    pause_at_step: Optional[int] = None
    pause_after_epoch: Optional[int] = None
    #: Why nothing can be added to them; empty where it can.
    fixed_because: str = ""

    @property
    def max_epochs(self) -> Optional[int]:
        """The epochs to train, extensions included."""
        return None if self.script_epochs is None else self.script_epochs + self.more_epochs

    @property
    def max_steps(self) -> Optional[int]:
        """The steps to train, extensions included."""
        return None if self.script_steps is None else self.script_steps + self.more_steps

    def is_reached(self, epochs: int, steps: int) -> bool:
        """Whether a run that has completed so many epochs and steps is at its end."""
        by_epochs = self.max_epochs is not None and epochs >= self.max_epochs
        return by_epochs or self.are_steps_done(steps)

    def are_steps_done(self, steps: int) -> bool:
        """Whether the limit of steps is reached."""
        return self.max_steps is not None and steps >= self.max_steps

    def as_result(self) -> LimitsSet:
        """The limits, for an answer."""
        return LimitsSet(
            max_epochs=self.max_epochs,
            max_steps=self.max_steps,
            pause_at_step=self.pause_at_step,
            pause_after_epoch=self.pause_after_epoch,
        )

    def state(self) -> dict[str, int]:
        """What a checkpoint keeps."""
        return {"more_epochs": self.more_epochs, "more_steps": self.more_steps}

    def load(self, state: dict[str, int]) -> None:
        """Take over what a checkpoint kept."""
        self.more_epochs = int(state.get("more_epochs", 0))
        self.more_steps = int(state.get("more_steps", 0))
