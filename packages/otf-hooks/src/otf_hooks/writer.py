"""The writer thread: from the recorder's buffer into the store, ten times a second."""

from __future__ import annotations

import threading
import time
import traceback
from typing import Callable, List, Optional, Sequence

import peewee
from otf_session.events import AnyEvent, LogLine, Metrics
from otf_session.frames import Batch
from otf_session.store import SessionStore

from .backlog import Backlog
from .readback import TensorReader, columns
from .recorder import Item, Measurement, Recorder

#: Seconds between two batches: what a `kill -9` may cost.
INTERVAL = 0.1
#: Seconds between two attempts while the store cannot be written.
_RETRY_SECONDS = 1.0


class Writer:
    """Owns the session's store: nothing else writes events to it."""

    def __init__(
        self,
        *,
        store: SessionStore,
        recorder: Recorder,
        publish: Callable[[Batch], None],
        look: Callable[[Sequence[AnyEvent]], None],
        warn: Callable[[str], None],
        derive: Callable[[Sequence[AnyEvent]], List[Metrics]] = lambda events: [],
        interval: float = INTERVAL,
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._publish = publish
        self._look = look
        self._derive = derive
        self._warn = warn
        self._interval = interval
        self._reader = TensorReader(self._copy_from_now_on)
        self._backlog = Backlog()
        self._failure = ""
        self._retry_at = 0.0
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="onthefly-writer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def wake(self) -> None:
        """Write now rather than at the end of the interval."""
        self._wake.set()

    def close(self, timeout: Optional[float] = None) -> None:
        """Write what is left, close the store and end the thread."""
        self._closing.set()
        self._wake.set()
        if self._thread.ident is None:
            self._store.close()
        else:
            self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._wake.wait(self._interval)
                self._wake.clear()
                self._write_and_survive()
            self._retry_at = 0.0
            self._write_and_survive()
            # Once more, for what the last look at the measurements led to.
            self._write_and_survive()
        finally:
            self._store.close()

    def _write_and_survive(self) -> None:
        # The thread's boundary: what goes wrong in one round must not end the record.
        try:
            self._write()
        except Exception:  # noqa: BLE001
            self._warn(f"A part of the record was lost by a fault:\n{traceback.format_exc()}")

    def _write(self) -> None:
        events = self._events(self._recorder.drain())
        events += self._derive(events)
        self._look(events)
        self._backlog.add(events)
        if not self._backlog or time.monotonic() < self._retry_at:
            return
        try:
            self._write_backlog()
        except peewee.DatabaseError as error:
            self._retry_later(error)

    def _write_backlog(self) -> None:
        while self._backlog:
            events = self._backlog.part()
            stored = self._store_part(events)
            self._backlog.remove(len(events))
            for batch in stored:
                self._publish(batch)
        if self._failure:
            run = getattr(events[-1], "run", "")
            self._backlog.add(self._backlog.take_dropped(run, self._failure))
            self._failure = ""

    def _store_part(self, events: List[AnyEvent]) -> List[Batch]:
        """Store events together; where one of them cannot be stored at all, store the others."""
        try:
            return [self._store_batch(events)]
        except peewee.DatabaseError:
            raise
        except Exception:  # noqa: BLE001
            if len(events) == 1:
                self._warn(f"An event was lost by a fault: {events}\n{traceback.format_exc()}")
                return []
        return [batch for event in events for batch in self._store_part([event])]

    def _store_batch(self, events: List[AnyEvent]) -> Batch:
        return Batch(session=self._store.id, first=self._store.append(events), events=events)

    def _retry_later(self, error: peewee.DatabaseError) -> None:
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        if not self._failure:
            self._warn(
                f"The session in {self._store.folder} cannot be written: {error}. Training goes "
                "on; what is recorded is kept in memory and written as soon as that works again."
            )
        self._failure = str(error)

    def _events(self, items: Sequence[Item]) -> List[AnyEvent]:
        """Events in order; measurements are gathered into columns between any two others.

        A log line does not part columns: a script that logs every step would else have columns
        of one row.
        """
        measurements = [item for item in items if isinstance(item, Measurement)]
        if self._recorder.holds:
            self._reader.read(measurements)
        events: List[AnyEvent] = []
        gathered: List[Measurement] = []
        for item in items:
            if isinstance(item, Measurement):
                if gathered and gathered[0].run != item.run:
                    events.extend(columns(gathered[0].run, gathered))
                    gathered = []
                gathered.append(item)
                continue
            if gathered and not isinstance(item, LogLine):
                events.extend(columns(gathered[0].run, gathered))
                gathered = []
            events.append(item)
        if gathered:
            events.extend(columns(gathered[0].run, gathered))
        return events

    def _copy_from_now_on(self, name: str) -> None:
        if name not in self._recorder.copied:
            self._recorder.copied.add(name)
            self._warn(
                f"The metric '{name}' is a tensor that is changed in place after it is recorded. "
                "Some of its values were lost; from now on it is copied when it is recorded."
            )
