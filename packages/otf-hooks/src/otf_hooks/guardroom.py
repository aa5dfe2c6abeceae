"""The guards of a session at work: they look at what the writer is about to store."""

from __future__ import annotations

from typing import Callable, Dict, List, Sequence

from otf_session.events import AnyEvent, HealthReported, Metrics, Rewound
from otf_session.summaries import Series

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
            elif isinstance(event, HealthReported):
                for watch in self._of(event.run):
                    for trip in watch.see(event):
                        self._on_trip(trip)
            elif isinstance(event, Rewound):
                for watch in self._of(event.run):
                    watch.rewound(event.step)

    def warm_up(self, run: str, series: Sequence[Series], until: int) -> None:
        """Show a run's guards what an earlier process recorded, as if they had seen it."""
        for found in series:
            kept = [(s, v) for s, v in zip(found.steps, found.values) if s <= until]
            if not kept:
                continue
            steps = [step for step, _ in kept]
            values = {found.name: [value for _, value in kept]}
            metrics = Metrics(run=run, steps=steps, times=[0.0] * len(steps), values=values)
            for watch in self._of(run):
                watch.look(metrics)

    @property
    def watched(self) -> List[str]:
        """The metrics that any guard looks at."""
        return sorted({name for guard in self._guards for name in guard.watched})

    def _of(self, run: str) -> List[Watch]:
        if run not in self._watches:
            self._watches[run] = [guard.watch() for guard in self._guards]
        return self._watches[run]
