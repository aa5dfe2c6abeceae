"""The board: once a second, what the meters show, as metrics of the step that training is at."""

from __future__ import annotations

import time
import traceback
from typing import Callable, Dict, List, Optional, Sequence

from otf_session.events import AnyEvent, Metrics

from .meter import Meter, MeterEnded
from .pace import Pace
from .whereabouts import Whereabouts

#: Seconds between two readings.
INTERVAL = 1.0


class Board:
    """Reads the meters in the writer's thread; called with what is about to be stored.

    While a run is paused nothing is read: its charts go by steps, and it makes none. A meter that
    fails is said and taken off; whatever happens here, what was recorded is stored.

    Args:
        meters: What is read.
        say: Told what goes into the log.
        clock: Seconds, for the interval.
        now: Seconds since the epoch.
    """

    def __init__(
        self,
        meters: Sequence[Meter],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._meters = list(meters)
        self._say = say
        self._clock = clock
        self._now = now
        self._where = Whereabouts()
        self._pace = Pace()
        self._due = clock() + INTERVAL

    def look(self, events: Sequence[AnyEvent]) -> List[Metrics]:
        """What is to be stored after these events; nothing before it is due."""
        self._where.see(events)
        self._pace.see(events)
        clock = self._clock()
        if clock < self._due or not self._where.is_running:
            return []
        self._due = clock + INTERVAL
        now = self._now()
        values = {**self._read(), **self._pace.take(now)}
        if not values:
            return []
        columns: Dict[str, List[Optional[float]]] = {name: [at] for name, at in values.items()}
        return [Metrics(run=self._where.run, steps=[self._where.step], times=[now], values=columns)]

    def _read(self) -> Dict[str, float]:
        found: Dict[str, float] = {}
        for meter in list(self._meters):
            try:
                found.update(meter.read())
            except MeterEnded as end:
                self._meters.remove(meter)
                if str(end):
                    self._say(str(end))
            # A meter speaks with drivers and other people's code, and the record must go on.
            except Exception:  # noqa: BLE001
                self._meters.remove(meter)
                self._say(
                    f"A meter failed, so that its series end here:\n{traceback.format_exc().rstrip()}"
                )
        return found
