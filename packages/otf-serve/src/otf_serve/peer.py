"""A WebSocket with one sender at a time and a bounded queue."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import AsyncIterator, Deque

from otf_session.frames import Frame, encode
from starlette.websockets import WebSocket, WebSocketDisconnect

#: Small frames (states, replies) that may wait for a peer; one that lets more pile up is gone.
_MOST_QUEUED = 1000


class Peer:
    """The other end of a socket: frames are posted without waiting, or sent with waiting."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._queue: Deque[str] = deque()
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        self._lock = asyncio.Lock()

    def post(self, frame: Frame) -> None:
        """Queue a frame. It is sent by `drain`, in the order of the posts."""
        if len(self._queue) < _MOST_QUEUED:
            self._queue.append(encode(frame))
            self._wake.set()
        else:
            self._full.set()

    async def send(self, text: str) -> None:
        """Send a text now, and wait until the peer has room for it."""
        async with self._lock:
            await self._socket.send_text(text)

    async def drain(self) -> None:
        """Send what is posted, until it is cancelled or too much has piled up."""
        await first_to_end(self._send_posted(), self._full.wait())

    async def _send_posted(self) -> None:
        while True:
            while self._queue:
                await self.send(self._queue.popleft())
            self._wake.clear()
            await self._wake.wait()

    async def texts(self) -> AsyncIterator[str]:
        """The texts that the peer sends, until it is gone. A binary message is an empty text."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            yield message.get("text") or ""


async def first_to_end(*coroutines: object) -> None:
    """Run coroutines side by side until one of them ends, then end the others.

    The first one's exception is raised, unless it is the peer's going away.
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]  # type: ignore[call-overload]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    with contextlib.suppress(WebSocketDisconnect):
        for task in done:
            task.result()
