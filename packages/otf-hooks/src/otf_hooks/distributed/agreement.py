"""How several processes come to do the same thing at the same step.

One round is one small reduction: whether anybody has news, and where each of them is. Only where
there are news, commands and errands, are they exchanged as data; every process then has the same
list, in the order of the ranks.
"""

from __future__ import annotations

import time
from enum import Enum
from typing import Dict, List, NamedTuple, Optional

from ..errors import OutOfStep
from ..inbox import Item
from .group import Group

#: Seconds of steps between two rounds, at most.
SECONDS = 0.1
_MOST_STEPS = 10_000


class Kind(Enum):
    """Between what a round is."""

    STEPS = 1
    LOOKS_WHILE_HELD = 2
    BATCHES_OF_AN_EVALUATION = 3
    STEPS_OF_A_LONG_COMMAND = 4


class Found(NamedTuple):
    """What a round came to, the same on every process.

    `pace` is how many steps, or batches, the next round is away. `failures` are the errors, by
    rank, of those that could not go on with what is done together.
    """

    items: List[Item]
    pace: int
    are_all_done: bool
    failures: Dict[int, str]


class Agreement:
    """The rounds of one process."""

    def __init__(self, group: Group) -> None:
        self._group = group

    @property
    def is_first(self) -> bool:
        """Whether this is the process that talks."""
        return self._group.rank == 0

    def round(
        self,
        kind: Kind,
        at: int,
        items: List[Item],
        pace: int,
        *,
        is_done: bool = False,
        failure: Optional[str] = None,
    ) -> Found:
        """Agree; `at` is the step or batch. The pace is the one that rank 0 found.

        Raises `OutOfStep` where the processes are not at the same place, and `RankLost` where one
        is gone.
        """
        news = bool(items) or failure is not None
        place = [kind.value, -kind.value, at, -at]
        numbers = [int(news), pace if self.is_first else 0, int(not is_done), *place]
        any_news, pace, any_left, *found = self._group.highest(numbers)
        if found[0] != -found[1] or found[2] != -found[3]:
            raise OutOfStep(self._told(kind, at))
        if not any_news:
            return Found([], pace, not any_left, {})
        told = self._group.gather_all((items, failure))
        failures = {rank: why for rank, (_, why) in enumerate(told) if why is not None}
        together = [item for theirs, _ in told for item in theirs]
        return Found(together, pace, not any_left, failures)

    def gathered(self, value: object) -> List[object]:
        """Every process's value."""
        return self._group.gather_all(value)

    def _told(self, kind: Kind, at: int) -> str:
        places = self._group.gather_all((kind, at))
        where = "; ".join(
            f"rank {rank} at {number} of the {each.name.lower().replace('_', ' ')}"
            for rank, (each, number) in enumerate(places)
        )
        return (
            f"The processes are not at the same place: {where}. Each has to train the same number of "
            "steps: give train_loader a DistributedSampler, or drop_last=True."
        )


class Pace:
    """How many steps are worth the time between two rounds, as one process measures it."""

    def __init__(self) -> None:
        #: What was agreed on last.
        self.steps = 1
        self._began: Optional[float] = None
        self._at = 0

    def proposed(self, at: int) -> int:
        """What this process found since the last round, which was at another step."""
        if self._began is None or at <= self._at:
            return self.steps
        each = (time.monotonic() - self._began) / (at - self._at)
        wanted = int(SECONDS / each) if each > 0.0 else _MOST_STEPS
        # Doubled at most: the first steps may be unlike the others.
        return max(1, min(wanted, 2 * self.steps, _MOST_STEPS))

    def agreed(self, steps: int, at: int) -> None:
        """A round is over."""
        self.steps, self._at, self._began = steps, at, time.monotonic()

    def interrupted(self) -> None:
        """What follows is no step."""
        self._began = None
