"""Events on their way into the store, bounded for the time when it cannot be written."""

from __future__ import annotations

import time
from collections import deque
from typing import Deque, Iterable, List

from otf_session.events import AnyEvent, Metrics, RecordsDropped

#: Numbers kept while the store cannot be written (a full disk, say): about 100 MB.
MOST_NUMBERS = 2_000_000
#: Events in one transaction.
_PART = 500


class Backlog:
    """A queue of events that gives up the oldest where it would grow without end."""

    def __init__(self, most: int = MOST_NUMBERS) -> None:
        self._events: Deque[AnyEvent] = deque()
        self._most = most
        self._size = 0
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._events)

    def add(self, events: Iterable[AnyEvent]) -> None:
        """Queue events; beyond the bound the oldest are counted and dropped."""
        for event in events:
            self._events.append(event)
            self._size += _numbers(event)
        while self._size > self._most and len(self._events) > 1:
            oldest = self._events.popleft()
            self._size -= _numbers(oldest)
            self._dropped += _records(oldest)

    def part(self) -> List[AnyEvent]:
        """The oldest events, as many as go into one transaction. They stay queued."""
        return [event for event, _ in zip(self._events, range(_PART))]

    def remove(self, count: int) -> None:
        """Forget the `count` oldest events: they are in the store."""
        for _ in range(count):
            self._size -= _numbers(self._events.popleft())

    def take_dropped(self, run: str, reason: str) -> List[AnyEvent]:
        """An event that says how many records were dropped since the last call, if any were."""
        if not self._dropped:
            return []
        count, self._dropped = self._dropped, 0
        return [RecordsDropped(time=time.time(), run=run, count=count, reason=reason)]


def _numbers(event: AnyEvent) -> int:
    return len(event.steps) * (2 + len(event.values)) if isinstance(event, Metrics) else 10


def _records(event: AnyEvent) -> int:
    return len(event.steps) if isinstance(event, Metrics) else 1
