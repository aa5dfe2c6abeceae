"""What a check is handed: the run, what it may look at, and how to say how far it is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Callable, ContextManager, List, Optional, Tuple

from ..errors import NotPossible
from ..front import Examinable, Front, KeepGoing, Probe, Rehearsal
from .findings import Findings

#: Steps and values of a recorded metric; None where it was not finite.
History = List[Tuple[int, Optional[float]]]


class BrokenOff(Exception):
    """A person does not want the check any longer."""


def _no_history(name: str) -> History:
    return []


@dataclass
class Examination:
    """One check of one run.

    `front` offers the parts of training, and `prover` its proof of some steps, of which `proof` are
    to be trained twice. `history` gives what the run has recorded of a metric. With several
    processes `gather` is called by all with a value, and returns those of all by their ranks; all
    of them make the same check, and call `step` equally often. `clock` measures in seconds.
    """

    front: Examinable
    probe: Probe
    keep_going: KeepGoing
    prover: Optional[Front] = None
    proof: int = 0
    history: Callable[[str], History] = _no_history
    gather: Optional[Callable[[Any], List[Any]]] = None
    clock: Callable[[], float] = time.perf_counter
    notes: Findings = field(default_factory=Findings)

    def rehearse(self) -> ContextManager[Rehearsal]:
        """Train on trial; `NotPossible` with several processes, or where the front cannot."""
        if self.gather is not None:
            raise NotPossible(
                "Several processes train together, and steps on trial are made with one only. Run "
                "the script with one process for this check."
            )
        return self.front.rehearse()

    def step(self, done: int, total: int) -> None:
        """Say how far the check is; raise `BrokenOff` where it is not to go on."""
        if not self.keep_going(done, total):
            raise BrokenOff
