"""Where training is, told from the record itself: which run, which step, and whether it runs."""

from __future__ import annotations

from typing import Iterable

from otf_session.events import AnyEvent, Metrics, Rewound, RunStarted, RunState, StateChanged


class Whereabouts:
    """Follows the events in the order in which they are stored.

    Asking the engine would be quicker and sometimes wrong: by the time the writer asks, training
    may have gone back, or on in another run, and what is measured would stand at a step of neither.
    """

    def __init__(self) -> None:
        self.run = ""
        self.step = 0
        #: Whether the run goes on: it is neither paused nor at its end.
        self.is_running = False

    def see(self, events: Iterable[AnyEvent]) -> None:
        """Follow what happened."""
        for event in events:
            if isinstance(event, Metrics):
                if event.run == self.run:
                    self.step = max(self.step, event.steps[-1])
            elif isinstance(event, (RunStarted, Rewound)):
                self.run, self.step = event.run, event.step
            elif isinstance(event, StateChanged):
                self._changed(event)

    def _changed(self, event: StateChanged) -> None:
        if event.state is RunState.RUNNING:
            self.run, self.step, self.is_running = event.run, event.step, True
        elif event.run == self.run:
            self.is_running = False
