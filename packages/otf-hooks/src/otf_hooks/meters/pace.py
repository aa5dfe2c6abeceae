"""How fast a run goes: what is derived from its steps' times, once they are recorded."""

from __future__ import annotations

import math
from collections import deque
from typing import Deque, Dict, Iterable, List, Optional, Sequence

from otf_session.events import (
    AnyEvent,
    LimitsChanged,
    Metrics,
    RunStarted,
    RunState,
    StateChanged,
)

#: The newest steps whose times are looked at.
WINDOW = 1000
_PERCENTILES = {"step_time/p50": 0.5, "step_time/p95": 0.95, "step_time/p99": 0.99}
_STEP_TIME, _DATA_WAIT = "step_time", "data_wait"


class Pace:
    """Percentiles of the step time, the share of waiting for data, and the time remaining.

    The time remaining is the steps that are left times the mean step time of the window, times what
    a second of steps has cost so far in seconds of running: validation and checkpoints take time
    beside the steps, pauses do not count. The first step of a process counts in neither: a model is
    compiled in it, and workers are started.
    """

    def __init__(self) -> None:
        self._last_step: Optional[int] = None
        self._begin()

    def _begin(self) -> None:
        self._window: Deque[float] = deque(maxlen=WINDOW)
        self._is_first = True
        self._step = 0
        self._in_steps = 0.0
        self._running = 0.0
        self._running_since: Optional[float] = None
        self._fresh_steps = 0.0
        self._fresh_waits = 0.0
        self._waits_are_known = False

    def see(self, events: Iterable[AnyEvent]) -> None:
        """Follow what happened."""
        for event in events:
            if isinstance(event, Metrics):
                if _STEP_TIME in event.values:
                    self._measured(event)
            elif isinstance(event, RunStarted):
                self._last_step = None
                self._begin()
            elif isinstance(event, LimitsChanged):
                self._last_step = last_step(event)
            elif isinstance(event, StateChanged):
                self._changed(event)

    def take(self, now: float) -> Dict[str, float]:
        """What is known at `now` (seconds since the epoch); nothing without a step since the last."""
        if not self._fresh_steps or not self._window:
            return {}
        found = percentiles(self._window)
        if self._waits_are_known:
            found["data_wait/share"] = min(self._fresh_waits / self._fresh_steps, 1.0)
        remaining = self._remaining(now)
        if remaining is not None:
            found["time_remaining"] = remaining
        self._fresh_steps = self._fresh_waits = 0.0
        return found

    def _measured(self, event: Metrics) -> None:
        times = _numbers(event.values[_STEP_TIME])
        self._step = event.steps[-1]
        self._fresh_steps += sum(times)
        waits = event.values.get(_DATA_WAIT)
        if waits is not None:
            self._waits_are_known = True
            self._fresh_waits += sum(_numbers(waits))
        if self._is_first and times:
            self._is_first = False
            # The clock of what runs beside the steps begins after the first.
            self._running, self._running_since = 0.0, event.times[0]
            del times[0]
        self._in_steps += sum(times)
        self._window.extend(times)

    def _changed(self, event: StateChanged) -> None:
        if event.state is RunState.RUNNING:
            self._running_since = event.time
        elif self._running_since is not None:
            self._running += event.time - self._running_since
            self._running_since = None

    def _remaining(self, now: float) -> Optional[float]:
        if self._last_step is None:
            return None
        running = self._running
        if self._running_since is not None:
            running += now - self._running_since
        beside = max(running / self._in_steps, 1.0) if self._in_steps else 1.0
        mean = sum(self._window) / len(self._window)
        return max(self._last_step - self._step, 0) * mean * beside


def percentiles(times: Sequence[float]) -> Dict[str, float]:
    """The nearest-rank percentiles: each is one of the times. There is at least one time."""
    ranked = sorted(times)
    return {
        name: ranked[max(math.ceil(share * len(ranked)) - 1, 0)]
        for name, share in _PERCENTILES.items()
    }


def last_step(limits: LimitsChanged) -> Optional[int]:
    """The step at which the run will be at its end; None where that is not known."""
    ends = [] if limits.max_steps is None else [limits.max_steps]
    if limits.max_epochs is not None and limits.steps_per_epoch is not None:
        ends.append(limits.max_epochs * limits.steps_per_epoch)
    return min(ends, default=None)


def _numbers(column: Iterable[Optional[float]]) -> List[float]:
    return [value for value in column if value is not None]
