"""Whether a state that is captured now can be gone on from exactly, and if not, why."""

from __future__ import annotations

import contextlib
from typing import Iterator, List

from .rates import LoopHyperparameters

_IN_STEP = (
    "It was made in the midst of a step that failed: the generators had moved on, so going on from "
    "it is not bit for bit what an uninterrupted run would have done."
)
_IN_SCRIPT = (
    "It was made in the midst of the script's own code, outside of its passes over run.batches: what "
    "that code had done by then would be done again."
)
_UNPLACED = (
    "The script reads its data without run.batches, so the place in the data is not in it. Write "
    "`for batch in run.batches(loader)`."
)


class Standing:
    """Where the script's code is between two of our lines, as far as a checkpoint depends on it."""

    def __init__(self, rates: LoopHyperparameters) -> None:
        self._rates = rates
        #: Nothing of the script's has run since a place that can be gone back to.
        self.is_safe = True
        #: A batch was handed out, and the next one was not asked for.
        self.is_in_step = False
        #: Whether steps are trained without `batches`.
        self.reads_itself = False

    @contextlib.contextmanager
    def safe(self) -> Iterator[None]:
        """A place between two steps: what is captured inside can be gone on from exactly."""
        self.is_safe = True
        self._rates.in_force()
        yield
        # Not behind an exception, such as Ctrl-C: the state is saved as it is here.
        self.is_safe = False
        self._rates.settle()

    def reasons(self) -> List[str]:
        """Why a state that is captured now cannot be gone on from exactly; none where it can."""
        if self.reads_itself:
            return self.unplaced()
        if self.is_safe:
            return []
        return [_IN_STEP if self.is_in_step else _IN_SCRIPT]

    def unplaced(self) -> List[str]:
        """What of the place in the data is in no checkpoint, as sentences."""
        return [_UNPLACED] if self.reads_itself else []
