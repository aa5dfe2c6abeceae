"""The events of one session on their way to one viewer: each once, and in order.

Batches come live from the trainer's socket. Whatever is missing between what the viewer has and the
next live batch is read from the store, where every batch is before it is sent. So nothing has to be
kept for a viewer that reads slowly.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Awaitable, Callable, Deque, List, NamedTuple

from otf_session.events import AnyEvent
from otf_session.frames import Batch, Behind, encode

#: Live batches kept per viewer; older ones are read from the store.
_MOST_LIVE = 32
#: Events read from the store at once.
_READ = 500
#: A viewer that lacks more than this many events is told to take a new snapshot.
MOST_BEHIND = 20_000


class Live(NamedTuple):
    """A batch as it came from the trainer, decoded and as text."""

    batch: Batch
    text: str


ReadEvents = Callable[[str, int, int], Awaitable[List[AnyEvent]]]
SendText = Callable[[str], Awaitable[None]]


class Feed:
    """Sends `session`'s events after `after`, until it is cancelled or the viewer is too slow."""

    def __init__(
        self, *, session: str, after: int, newest: int, read: ReadEvents, send: SendText
    ) -> None:
        self.session = session
        self._cursor = after
        self._newest = newest
        self._read = read
        self._send = send
        self._live: Deque[Live] = deque(maxlen=_MOST_LIVE)
        self._wake = asyncio.Event()

    def offer(self, live: Live) -> None:
        """A batch has come from the trainer."""
        self._live.append(live)
        self.announce(live.batch.last)

    def announce(self, newest: int) -> None:
        """The store holds events up to `newest`."""
        self._newest = max(self._newest, newest)
        self._wake.set()

    async def run(self) -> None:
        """Send what there is, and wait for more."""
        while True:
            if self._newest - self._cursor > MOST_BEHIND:
                await self._send(encode(Behind(session=self.session)))
                return
            live = self._next_live()
            if live is not None:
                await self._send(live.text)
                self._cursor = live.batch.last
            elif self._cursor < self._newest:
                if not await self._send_stored():
                    # Announced, yet not there: another home, or a folder that was deleted.
                    self._newest = self._cursor
            else:
                self._wake.clear()
                await self._wake.wait()

    def _next_live(self) -> Live | None:
        while self._live and self._live[0].batch.last <= self._cursor:
            self._live.popleft()
        if self._live and self._live[0].batch.first == self._cursor + 1:
            return self._live.popleft()
        return None

    async def _send_stored(self) -> bool:
        events = await self._read(self.session, self._cursor, _READ)
        if not events:
            return False
        batch = Batch(session=self.session, first=self._cursor + 1, events=events)
        await self._send(encode(batch))
        self._cursor = batch.last
        return True
