"""The link to the server: a thread with one WebSocket, which comes and goes as the server does.

Nothing here can hold up training. Batches wait in a bounded queue and the oldest are dropped: they
are in the store, from which the server fills the gap.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import deque
from typing import Callable, Deque, Optional

import msgspec
import websockets
from otf_session.address import read_token, served_at, shown_host
from otf_session.commands import CommandRequest
from otf_session.errors import HomeUnusable
from otf_session.frames import (
    PROTOCOL,
    Batch,
    CommandDelivery,
    CommandProgress,
    CommandReply,
    Frame,
    Refusal,
    ToTrainer,
    TrainerHello,
    TrainerWelcome,
    Viewers,
    encode,
)
from otf_session.home import Home
from websockets.asyncio.client import ClientConnection, connect

_QUEUED_BATCHES = 256
_QUEUED_REPLIES = 1000
_RECONNECT_SECONDS = 1.0
_CLOSE_SECONDS = 2.0

_decoder = msgspec.json.Decoder(ToTrainer)


class Link:
    """Publishes batches to the server, and hands its commands to `on_command`."""

    def __init__(
        self,
        *,
        home: Home,
        host: str,
        port: int,
        hello: Callable[[], TrainerHello],
        on_command: Callable[[CommandRequest], None],
        warn: Callable[[str], None],
    ) -> None:
        self._home = home
        self._host = host
        self._port = port
        self._url = _url(host, port)
        self._hello = hello
        self._on_command = on_command
        self._warn = warn
        self._refused = ""
        self._batches: Deque[Batch] = deque(maxlen=_QUEUED_BATCHES)
        self._replies: Deque[Frame] = deque(maxlen=_QUEUED_REPLIES)
        self._connected = False
        self._closing = False
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._ready: Optional[asyncio.Event] = None
        #: How many dashboards are open; 0 while there is no connection.
        self.viewers = 0
        self._thread = threading.Thread(target=self._run, name="onthefly-link", daemon=True)
        self._started = threading.Event()

    def start(self) -> None:
        """Begin to look for the server."""
        self._thread.start()
        self._started.wait()

    def publish(self, batch: Batch) -> None:
        """Send a batch when there is a connection; without one it stays where it is, in the store."""
        if self._connected:
            self._batches.append(batch)
            self._signal()

    def reply(self, reply: CommandReply) -> None:
        """Send the answer to a command."""
        self._replies.append(reply)
        self._signal()

    def tell(self, progress: CommandProgress) -> None:
        """Send how far a command is; without a connection nobody wants to know."""
        if self._connected:
            self._replies.append(progress)
            self._signal()

    def close(self) -> None:
        """Send what is queued, for two seconds at most, and end the thread."""
        self._closing = True
        self._signal()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_SECONDS + 1.0)

    def _signal(self) -> None:
        loop, ready = self._loop, self._ready
        if loop is not None and ready is not None:
            # The loop is closed once the thread has ended; there is nobody left to wake then.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(ready.set)

    def _run(self) -> None:
        asyncio.run(self._stay_connected())

    async def _stay_connected(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._started.set()
        while not self._closing:
            try:
                await self._connect_once()
            except websockets.InvalidStatus as error:
                self._warn_once(
                    f"The server at {self._url} does not take this trainer in (HTTP "
                    f"{error.response.status_code}): it serves another OnTheFly home than "
                    f"{self._home.path}, or is no otf serve. Training and its record go on."
                )
            except socket.gaierror as error:
                self._warn_once(
                    f"The dashboard_host '{self._host}' has no address ({error.strerror}), so no "
                    "dashboard will show this run. Training and its record go on."
                )
            except (OSError, asyncio.TimeoutError, websockets.WebSocketException):
                # No server yet, or no longer: the normal case, tried again below.
                self.viewers = 0
            self._connected = False
            self.viewers = 0
            self._batches.clear()
            if not self._closing:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._ready.wait(), _RECONNECT_SECONDS)
                self._ready.clear()

    async def _connect_once(self) -> None:
        try:
            token = read_token(self._home)
        except HomeUnusable as error:
            self._warn_once(str(error))
            return
        if token is None:
            return
        # The token is shown to this very address: another one of the host may be somebody else's.
        address = served_at(self._home, self._host, self._port)
        if address is None:
            await self._look_who_listens()
            return
        async with connect(
            _url(address, self._port),
            additional_headers={"Authorization": f"Bearer {token}"},
            open_timeout=5,
            close_timeout=1,
            max_size=2**20,
            # The server is on this machine; a proxy for the world outside has no part in it.
            proxy=None,
        ) as connection:
            # Queue from now on: a batch both queued and below the hello's `last_seq` is dropped
            # by the server, one in neither would be missing until the next one comes.
            self._connected = True
            await connection.send(encode(self._hello()))
            await self._talk(connection)

    async def _look_who_listens(self) -> None:
        """Where the port is held by somebody else, say so; the token is not shown to them."""
        _, writer = await asyncio.open_connection(self._host, self._port)
        writer.close()
        self._warn_once(
            f"Port {self._port} is held by something else than the otf serve of this home "
            f"({self._home.path}), so no dashboard will show this run. Training and its record go "
            "on. Start trainer and server with the same ONTHEFLY_HOME, or choose another port "
            "with ONTHEFLY_DASHBOARD_PORT."
        )

    async def _talk(self, connection: ClientConnection) -> None:
        sending = asyncio.ensure_future(self._send(connection))
        receiving = asyncio.ensure_future(self._receive(connection))
        try:
            done, _ = await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (sending, receiving):
                task.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)

    async def _send(self, connection: ClientConnection) -> None:
        assert self._ready is not None
        while True:
            while self._replies or self._batches:
                frame: Frame = self._replies.popleft() if self._replies else self._batches.popleft()
                await asyncio.wait_for(connection.send(encode(frame)), 60.0)
            if self._closing:
                return
            await self._ready.wait()
            self._ready.clear()

    async def _receive(self, connection: ClientConnection) -> None:
        async for message in connection:
            try:
                frame = _decoder.decode(message)
            except msgspec.DecodeError as error:
                self._warn_once(f"The server sent something this version cannot read: {error}.")
                continue
            if isinstance(frame, CommandDelivery):
                self._on_command(frame.request)
            elif isinstance(frame, (Viewers, TrainerWelcome)):
                self.viewers = frame.count if isinstance(frame, Viewers) else frame.viewers
            elif isinstance(frame, Refusal):
                self._warn_once(f"The server refuses this trainer. {frame.reason} {frame.remedy}")
                return

    def _warn_once(self, message: str) -> None:
        if message != self._refused:
            self._refused = message
            self._warn(message)


def _url(host: str, port: int) -> str:
    return f"ws://{shown_host(host)}:{port}/ws/trainer"


def hello(session: str, last_seq: int, versions: dict[str, str]) -> TrainerHello:
    """How a trainer of this version introduces itself."""
    return TrainerHello(session=session, last_seq=last_seq, protocol=PROTOCOL, versions=versions)
