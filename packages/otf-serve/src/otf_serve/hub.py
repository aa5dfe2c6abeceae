"""The hub: which trainers and which viewers are here, and what passes between them.

It runs on the event loop and does no I/O of its own: it is handed the functions that read.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import Callable, Dict, Optional, Protocol, Set, Tuple

from otf_session.commands import Command, CommandRequest, Outcome, Refused
from otf_session.frames import CommandDelivery, CommandReply, Frame, Viewers

from .feed import Live

_logger = logging.getLogger("otf_serve")


class TrainerPeer(Protocol):
    """A trainer's socket, as the hub sees it."""

    def post(self, frame: Frame) -> None:
        """Send a frame, in time."""


class ViewerPeer(Protocol):
    """A dashboard's socket, as the hub sees it."""

    def post(self, frame: Frame) -> None:
        """Send a frame, in time."""

    def offer(self, live: Live) -> None:
        """Show a batch to whoever watches its session."""

    def announce(self, session: str, newest: int) -> None:
        """A session's store has grown up to `newest`."""


class Hub:
    """Joins trainers and viewers."""

    def __init__(self) -> None:
        self._trainers: Dict[str, TrainerPeer] = {}
        self._viewers: Set[ViewerPeer] = set()
        self._waiting: Dict[Tuple[str, str], Callable[[Outcome], None]] = {}
        self._newest: Dict[str, int] = {}

    @functools.cached_property
    def changed(self) -> asyncio.Event:
        """Set whenever a session may look different to a viewer."""
        # Made on first use: Python 3.9 ties an event to the loop, which a new hub has not got.
        return asyncio.Event()

    @property
    def connected(self) -> frozenset[str]:
        """The sessions whose trainers are linked."""
        return frozenset(self._trainers)

    @property
    def viewers(self) -> int:
        """How many dashboards are open."""
        return len(self._viewers)

    def newest(self, session: str) -> int:
        """The newest event of a session that was heard of; 0 for none."""
        return self._newest.get(session, 0)

    # Trainers

    def join_trainer(self, session: str, trainer: TrainerPeer, last_seq: int) -> None:
        """A trainer is there; events up to `last_seq` are in its store."""
        self._trainers[session] = trainer
        self._newest[session] = max(self.newest(session), last_seq)
        for viewer in self._viewers:
            viewer.announce(session, last_seq)
        self.changed.set()

    def leave_trainer(self, session: str, trainer: TrainerPeer) -> None:
        """A trainer's socket is closed. One that reconnected in the meantime stays."""
        if self._trainers.get(session) is not trainer:
            return
        del self._trainers[session]
        for key in [key for key in self._waiting if key[0] == session]:
            self._waiting.pop(key)(
                Refused(reason="The trainer's connection ended before it could answer.")
            )
        self.changed.set()

    def publish(self, live: Live) -> None:
        """A batch has come from a trainer."""
        session = live.batch.session
        self._newest[session] = max(self.newest(session), live.batch.last)
        for viewer in self._viewers:
            viewer.offer(live)
        self.changed.set()

    def answer(self, reply: CommandReply) -> None:
        """A trainer has answered a command."""
        waiting = self._waiting.pop((reply.session, reply.id), None)
        if waiting is not None:
            waiting(reply.outcome)

    # Viewers

    def join_viewer(self, viewer: ViewerPeer) -> None:
        """A dashboard is open."""
        self._viewers.add(viewer)
        self._tell_viewers()
        self.changed.set()

    def leave_viewer(self, viewer: ViewerPeer) -> None:
        """A dashboard is closed."""
        self._viewers.discard(viewer)
        self._tell_viewers()

    def broadcast(self, frame: Frame) -> None:
        """Send a frame to every dashboard."""
        for viewer in self._viewers:
            viewer.post(frame)

    def submit(
        self,
        session: str,
        command_id: str,
        author: str,
        command: Command,
        on_outcome: Callable[[Outcome], None],
    ) -> None:
        """Deliver a command; `on_outcome` is called once with the answer."""
        trainer: Optional[TrainerPeer] = self._trainers.get(session)
        key = (session, command_id)
        if trainer is None:
            on_outcome(Refused(reason="The session's trainer is not connected to this server."))
        elif key in self._waiting:
            on_outcome(Refused(reason=f"A command with the id {command_id} is under way already."))
        else:
            self._waiting[key] = on_outcome
            request = CommandRequest(id=command_id, author=author, command=command)
            trainer.post(CommandDelivery(request=request))

    def forget(self, session: str, command_id: str) -> None:
        """Nobody waits for this answer any more."""
        self._waiting.pop((session, command_id), None)

    def _tell_viewers(self) -> None:
        for trainer in self._trainers.values():
            trainer.post(Viewers(count=self.viewers))
