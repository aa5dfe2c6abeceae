"""The guards of a session at work: they look at what the writer is about to store."""

from __future__ import annotations

from typing import Callable, Dict, List, Sequence

from otf_session.events import AnyEvent, Metrics, Rewound

from .guards import Guard, Trip, Watch


class GuardRoom:
    """Shows every measurement to the guards, in the writer's thread; each run has its own watches."""

    def __init__(self, guards: Sequence[Guard], on_trip: Callable[[Trip], None]) -> None:
        self._guards = guards
        self._on_trip = on_trip
        self._watches: Dict[str, List[Watch]] = {}

    def look(self, events: Sequence[AnyEvent]) -> None:
        """Look at events, in the order in which they happened."""
        for event in events:
            if isinstance(event, Metrics):
                for watch in self._of(event.run):
                    for trip in watch.look(event):
                        self._on_trip(trip)
            elif isinstance(event, Rewound):
                for watch in self._of(event.run):
                    watch.rewound(event.step)

    def _of(self, run: str) -> List[Watch]:
        if run not in self._watches:
            self._watches[run] = [guard.watch() for guard in self._guards]
        return self._watches[run]
