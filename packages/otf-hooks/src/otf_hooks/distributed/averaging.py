"""Metrics as means over all processes, brought together in the rounds in which they agree.

No step waits for it. What was measured since the last round stays on the device until the next one:
by then it has long been computed.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Dict, List, Sequence, Tuple

import msgspec
from otf_session.events import AnyEvent

from ..parts import Target
from ..readback import TensorReader
from ..recorder import Measurement, Recorder
from .group import Group


class Averaged:
    """A recorder of every process, whose means are put into rank 0's."""

    def __init__(self, target: Target, group: Group) -> None:
        self._target = target
        self._group = group
        # Nothing goes through the target's own `record`, so that it has not warned of anything.
        self._buffer = Recorder(warn=target.warn)
        self._reader = TensorReader(self._buffer.copied.add)
        self._held: List[Measurement] = []
        self.record = self._buffer.record

    def add(self, event: AnyEvent) -> None:
        """Record an event."""
        self._target.add(event)

    def exchange(self, *, everything: bool) -> None:
        """Average what was held at the last round, or all. Every process does it at once."""
        ready = self._taken(everything=everything)
        for measurement in averages(self._group.gather(ready)):
            self._target.put(measurement)

    def parted(self) -> None:
        """The others cannot be asked any more: what is left is this process's own."""
        for measurement in self._taken(everything=True):
            self._target.put(measurement)

    def _taken(self, *, everything: bool) -> List[Measurement]:
        fresh = [each for each in self._buffer.drain() if isinstance(each, Measurement)]
        ready, self._held = ([*self._held, *fresh], []) if everything else (self._held, fresh)
        self._reader.read(ready)
        return ready


def averages(parts: Sequence[Sequence[Measurement]]) -> List[Measurement]:
    """What the first process measured, with the means over all that measured it too.

    A step's samples are those of all together, so that the throughput is the training's.
    """
    values: Dict[Tuple[str, int, str], List[Any]] = defaultdict(list)
    samples: Dict[Tuple[str, int], int] = defaultdict(int)
    for part in parts:
        for each in part:
            samples[each.run, each.step] += each.samples
            for name, value in each.values.items():
                values[each.run, each.step, name].append(value)
    means = {key: sum(found) / len(found) for key, found in values.items()}
    return [
        msgspec.structs.replace(
            each,
            values={name: means[each.run, each.step, name] for name in each.values},
            samples=samples[each.run, each.step] if each.samples else 0,
        )
        for each in (parts[0] if parts else ())
    ]
