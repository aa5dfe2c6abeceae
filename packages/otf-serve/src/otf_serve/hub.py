"""The hub: which trainers and which viewers are here, and what passes between them.

It runs on the event loop and does no I/O of its own: it is handed the functions that read.
"""

from __future__ import annotations

import asyncio
import functools
import time
from typing import Callable, Dict, Optional, Protocol, Set

import msgspec
from otf_session.commands import Command, CommandRequest, Outcome, Refused
from otf_session.events import CommandChanged
from otf_session.frames import (
    CommandDelivery,
    CommandProgress,
    CommandQueued,
    CommandReply,
    Frame,
    Viewers,
)

from .docket import Case, Docket
from .feed import Live

#: The largest command in bytes; a trainer's link does not take frames of more than a mebibyte.
LARGEST_COMMAND = 64 * 1024
#: Commands of one session that may wait for their outcomes.
_MOST_WAITING = 100
#: Seconds between two reports of one command's progress that dashboards are sent.
_PROGRESS_SECONDS = 0.1

_ABSENT = "The session's trainer is not connected to this server."
_INTERRUPTED = (
    "The trainer's connection ended before it could answer. If it received the command, what became "
    "of it is in the session's record once it is connected again."
)


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
        self._docket = Docket()
        self._newest: Dict[str, int] = {}

    @functools.cached_property
    def changed(self) -> asyncio.Event:
        """Set whenever a session may look different to a viewer."""
        # Made on first use: Python 3.9 ties an event to the loop, which a new hub has not got.
        return asyncio.Event()

    def touch(self) -> None:
        """Sessions may look different than before: dashboards are told soon."""
        self.changed.set()

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

    def announce(self, session: str, newest: int) -> None:
        """A session's store holds events up to `newest`, whoever wrote them."""
        self._newest[session] = max(self.newest(session), newest)
        for viewer in self._viewers:
            viewer.announce(session, newest)

    # Trainers

    def join_trainer(self, session: str, trainer: TrainerPeer, last_seq: int) -> None:
        """A trainer is there; events up to `last_seq` are in its store."""
        self._trainers[session] = trainer
        self.announce(session, last_seq)
        self.changed.set()

    def leave_trainer(self, session: str, trainer: TrainerPeer) -> None:
        """A trainer's socket is closed. One that reconnected in the meantime stays."""
        if self._trainers.get(session) is not trainer:
            return
        del self._trainers[session]
        for case in self._docket.waiting(session):
            self._docket.settle(session, case.id, Refused(reason=_INTERRUPTED), certain=False)
        self.changed.set()

    def publish(self, live: Live) -> None:
        """A batch has come from a trainer."""
        session = live.batch.session
        self._newest[session] = max(self.newest(session), live.batch.last)
        for viewer in self._viewers:
            viewer.offer(live)
        for event in live.batch.events:
            if isinstance(event, CommandChanged):
                self._recorded(session, event)
        self.changed.set()

    def answer(self, reply: CommandReply) -> None:
        """A trainer has answered a command."""
        self._docket.settle(reply.session, reply.id, reply.outcome, certain=True)

    def progress(self, frame: CommandProgress) -> None:
        """A trainer says how far a command is."""
        case = self.adopt(frame.session, frame.id)
        if case.outcome is not None:
            return
        case.progress, now = frame, time.monotonic()
        # Of what goes fast, dashboards are shown some: the queue of a slow one has an end.
        if now - case.shown >= _PROGRESS_SECONDS:
            case.shown = now
            self.broadcast(frame)

    def _recorded(self, session: str, event: CommandChanged) -> None:
        if event.outcome is not None:
            # The reply is usually here already. Where it got lost, this is the answer.
            self._docket.settle(session, event.id, event.outcome, certain=True)
            return
        case = self._docket.find(session, event.id)
        if case is not None:
            case.is_received = True

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

    # Commands

    def submit(
        self,
        session: str,
        command_id: str,
        author: str,
        command: Command,
        on_outcome: Callable[[Outcome], None],
        *,
        absence: str = "",
    ) -> Case:
        """Deliver a command; `on_outcome` is called once with the answer.

        `absence` is what is said where the session's trainer is not connected.
        """
        waiting = self._docket.waiting(session)
        if any(case.id == command_id for case in waiting):
            # Not filed: on the docket is the one that is under way.
            case = Case(session, command_id)
            reason = f"A command with the id {command_id} is under way already."
            case.settle(Refused(reason=reason), certain=True)
        else:
            request = CommandRequest(id=command_id, author=author, command=command)
            refusal = self._refusal(session, len(waiting), request, absence)
            if refusal is not None:
                case = self._docket.settle(session, command_id, refusal, certain=True)
            else:
                case = self._docket.open(session, command_id)
                self.broadcast(CommandQueued(session=session, request=request))
                self._trainers[session].post(CommandDelivery(request=request))
        case.when_settled(on_outcome)
        return case

    def _refusal(
        self, session: str, waiting: int, request: CommandRequest, absence: str
    ) -> Optional[Refused]:
        """Why a command cannot be delivered, if it cannot."""
        if session not in self._trainers:
            return Refused(reason=absence or _ABSENT)
        if waiting >= _MOST_WAITING:
            return Refused(
                reason=f"{waiting} commands wait for this trainer already. Ask again when it has "
                "reached a safe point."
            )
        if len(msgspec.json.encode(request)) > LARGEST_COMMAND:
            return Refused(reason=f"A command may have {LARGEST_COMMAND} bytes; this one has more.")
        return None

    def case(self, session: str, command_id: str) -> Optional[Case]:
        """What is remembered of a command; None where it is nothing."""
        return self._docket.find(session, command_id)

    def adopt(self, session: str, command_id: str) -> Case:
        """The case of a command that its trainer has received, perhaps from another server."""
        case = self._docket.find(session, command_id)
        if case is None or case.is_interrupted:
            case = self._docket.open(session, command_id)
        case.is_received = True
        return case

    def _tell_viewers(self) -> None:
        for trainer in self._trainers.values():
            trainer.post(Viewers(count=self.viewers))
