"""`/ws/dashboard`: one socket per open dashboard."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from pathlib import Path
from typing import Dict, List

import msgspec
from otf_session.commands import Outcome
from otf_session.errors import SessionError
from otf_session.events import AnyEvent
from otf_session.frames import (
    PROTOCOL,
    CommandReply,
    CommandSubmission,
    DashboardWelcome,
    Frame,
    FromDashboard,
    SessionGone,
    Subscribe,
    Unsubscribe,
    encode,
)
from otf_session.queries import events_after
from otf_session.store import SessionReader
from starlette.websockets import WebSocket, WebSocketDisconnect

from .absence import absence
from .catalog import Catalog
from .feed import Feed, Live
from .hub import Hub
from .peer import Peer, first_to_end
from .settings import Settings

_logger = logging.getLogger("otf_serve")
_decoder = msgspec.json.Decoder(FromDashboard)


class ViewerSocket:
    """Takes dashboards in."""

    def __init__(self, hub: Hub, catalog: Catalog, settings: Settings) -> None:
        self._hub = hub
        self._catalog = catalog
        self._settings = settings

    async def __call__(self, socket: WebSocket) -> None:
        """Serve one connection from the greeting to its end."""
        await socket.accept()
        viewer = _Viewer(Peer(socket), self._hub, self._catalog)
        # Joined before it is greeted: what changes in between is sent again, never left out.
        self._hub.join_viewer(viewer)
        try:
            sessions = await asyncio.to_thread(self._catalog.summaries, self._hub.connected)
            welcome = DashboardWelcome(
                server_version=self._settings.version,
                protocol=PROTOCOL,
                home=str(self._settings.home.path),
                sessions=sessions,
            )
            with contextlib.suppress(WebSocketDisconnect):
                await viewer.peer.send(encode(welcome))
                await first_to_end(viewer.receive(), viewer.peer.drain())
        finally:
            self._hub.leave_viewer(viewer)
            viewer.close()


class _Viewer:
    """One open dashboard and the sessions it watches."""

    def __init__(self, peer: Peer, hub: Hub, catalog: Catalog) -> None:
        self.peer = peer
        self._hub = hub
        self._catalog = catalog
        self._feeds: Dict[str, Feed] = {}
        self._tasks: Dict[str, asyncio.Task[None]] = {}

    def post(self, frame: Frame) -> None:
        self.peer.post(frame)

    def offer(self, live: Live) -> None:
        feed = self._feeds.get(live.batch.session)
        if feed is not None:
            feed.offer(live)

    def announce(self, session: str, newest: int) -> None:
        feed = self._feeds.get(session)
        if feed is not None:
            feed.announce(newest)

    def close(self) -> None:
        for session in list(self._tasks):
            self._unsubscribe(session)

    async def receive(self) -> None:
        async for text in self.peer.texts():
            try:
                frame = _decoder.decode(text)
            except msgspec.DecodeError as error:
                _logger.warning("A dashboard sent an unreadable frame: %s", error)
                continue
            if isinstance(frame, Subscribe):
                await self._subscribe(frame)
            elif isinstance(frame, Unsubscribe):
                self._unsubscribe(frame.session)
            else:
                await self._submit(frame)

    async def _subscribe(self, frame: Subscribe) -> None:
        self._unsubscribe(frame.session)
        try:
            folder = await asyncio.to_thread(self._catalog.folder, frame.session)
            summary = await asyncio.to_thread(
                self._catalog.summary, frame.session, self._hub.connected
            )
        except SessionError:
            self.post(SessionGone(session=frame.session))
            return
        feed = Feed(
            session=frame.session,
            after=max(frame.after, 0),
            newest=max(self._hub.newest(frame.session), summary.last_seq),
            read=partial(_read, folder),
            send=self.peer.send,
        )
        self._feeds[frame.session] = feed
        self._tasks[frame.session] = asyncio.ensure_future(self._run(feed))

    async def _run(self, feed: Feed) -> None:
        # The task's boundary: nobody awaits it. A viewer that is gone is noticed by its reader.
        try:
            await feed.run()
        except (WebSocketDisconnect, RuntimeError):
            _logger.debug("A viewer of session %s went away.", feed.session)
        except SessionError as error:
            _logger.warning("Session %s: %s", feed.session, error)
            self.post(SessionGone(session=feed.session))
        finally:
            if self._feeds.get(feed.session) is feed:
                del self._feeds[feed.session]
                del self._tasks[feed.session]

    def _unsubscribe(self, session: str) -> None:
        self._feeds.pop(session, None)
        task = self._tasks.pop(session, None)
        if task is not None:
            task.cancel()

    async def _submit(self, frame: CommandSubmission) -> None:
        def answered(outcome: Outcome) -> None:
            self.post(CommandReply(id=frame.id, session=frame.session, outcome=outcome))

        reason = await absence(frame.session, self._hub, self._catalog)
        self._hub.submit(
            frame.session, frame.id, "dashboard", frame.command, answered, absence=reason
        )


async def _read(folder: Path, session: str, after: int, limit: int) -> List[AnyEvent]:
    def read() -> List[AnyEvent]:
        with SessionReader(folder) as reader:
            return events_after(reader.database, after, limit)

    return await asyncio.to_thread(read)
