"""`/ws/trainer`: one socket per training process."""

from __future__ import annotations

import asyncio
import logging
from typing import Optional

import msgspec
from otf_session.errors import SessionError
from otf_session.frames import (
    PROTOCOL,
    Batch,
    CommandProgress,
    CommandReply,
    FromTrainer,
    Refusal,
    TrainerHello,
    TrainerWelcome,
    encode,
)
from starlette.websockets import WebSocket

from .catalog import Catalog
from .feed import Live
from .hub import Hub
from .peer import Peer, first_to_end
from .settings import Settings

_logger = logging.getLogger("otf_serve")
_decoder = msgspec.json.Decoder(FromTrainer)


class TrainerSocket:
    """Takes trainers in, one at a time per session."""

    def __init__(self, hub: Hub, catalog: Catalog, settings: Settings) -> None:
        self._hub = hub
        self._catalog = catalog
        self._settings = settings

    async def __call__(self, socket: WebSocket) -> None:
        """Serve one connection from its greeting to its end."""
        await socket.accept()
        peer = Peer(socket)
        async for text in peer.texts():
            hello = _hello(text)
            refusal = await self._refusal(hello)
            if hello is None or refusal is not None:
                await peer.send(encode(refusal or _NO_HELLO))
                await socket.close(1008)
                return
            await self._serve(peer, hello)
            return

    async def _refusal(self, hello: Optional[TrainerHello]) -> Optional[Refusal]:
        if hello is None:
            return _NO_HELLO
        if hello.protocol != PROTOCOL:
            version = hello.versions.get("otf-hooks", "unknown")
            older = hello.protocol < PROTOCOL
            return Refusal(
                reason=f"The trainer (version {version}) speaks protocol {hello.protocol}, this "
                f"server (version {self._settings.version}) protocol {PROTOCOL}.",
                remedy="In the environment of the "
                + ("training script" if older else "server")
                + ": pip install --upgrade onthefly-ai",
            )
        try:
            await asyncio.to_thread(self._catalog.folder, hello.session)
        except SessionError:
            return Refusal(
                reason=f"The session {hello.session} is not in {self._settings.home.path}, the "
                "home that this server shows.",
                remedy="Start trainer and server with the same ONTHEFLY_HOME.",
            )
        return None

    async def _serve(self, peer: Peer, hello: TrainerHello) -> None:
        self._hub.join_trainer(hello.session, peer, hello.last_seq)
        peer.post(TrainerWelcome(server_version=self._settings.version, viewers=self._hub.viewers))
        _logger.info("Trainer of session %s connected.", hello.session)
        try:
            await first_to_end(self._receive(peer, hello.session), peer.drain())
        finally:
            self._hub.leave_trainer(hello.session, peer)
            _logger.info("Trainer of session %s disconnected.", hello.session)

    async def _receive(self, peer: Peer, session: str) -> None:
        async for text in peer.texts():
            try:
                frame = _decoder.decode(text)
            except msgspec.DecodeError as error:
                _logger.warning("Session %s sent an unreadable frame: %s", session, error)
                continue
            if isinstance(frame, Batch) and frame.session == session and frame.events:
                self._hub.publish(Live(frame, text))
            elif isinstance(frame, CommandReply) and frame.session == session:
                self._hub.answer(frame)
            elif isinstance(frame, CommandProgress) and frame.session == session:
                self._hub.progress(frame)


_NO_HELLO = Refusal(
    reason="The trainer did not say its version.",
    remedy="In the environment of the training script: pip install --upgrade onthefly-ai",
)


def _hello(text: str) -> Optional[TrainerHello]:
    try:
        frame = _decoder.decode(text)
    except msgspec.DecodeError:
        return None
    return frame if isinstance(frame, TrainerHello) else None
