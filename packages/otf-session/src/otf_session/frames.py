"""Frames: what travels over the two WebSockets, as JSON text.

`/ws/trainer`    a trainer says `TrainerHello` and is answered by `TrainerWelcome` or `Refusal`;
                 then it sends `Batch`, `CommandProgress` and `CommandReply`, and gets `CommandDelivery`
                 and `Viewers`.
`/ws/dashboard`  a dashboard is greeted by `DashboardWelcome`; it sends `Subscribe`, `Unsubscribe`
                 and `CommandSubmission`, and gets `Batch`, `SessionChanged`, `CommandQueued`,
                 `CommandProgress`, `CommandReply` and `Behind`.
"""

from typing import Dict, List, Union

import msgspec

from .commands import Command, CommandRequest, Outcome
from .events import AnyEvent
from .summaries import SessionSummary

#: Raised when an older peer could misread a frame. Added fields with defaults do not raise it.
PROTOCOL = 1


class Frame(msgspec.Struct, frozen=True, kw_only=True, tag_field="frame"):
    """The base of every frame; `frame` is its tag."""


class TrainerHello(Frame, frozen=True, kw_only=True, tag="trainer-hello"):
    """A trainer introduces itself. `last_seq` is the newest event in its store."""

    session: str
    last_seq: int
    protocol: int = 0
    versions: Dict[str, str] = {}


class TrainerWelcome(Frame, frozen=True, kw_only=True, tag="trainer-welcome"):
    """The server takes the trainer in; `viewers` dashboards are open."""

    server_version: str
    viewers: int


class Refusal(Frame, frozen=True, kw_only=True, tag="refusal"):
    """The server does not take the peer in. `reason` and `remedy` are sentences for a person."""

    reason: str
    remedy: str


class Viewers(Frame, frozen=True, kw_only=True, tag="viewers"):
    """The number of open dashboards has changed."""

    count: int


class CommandDelivery(Frame, frozen=True, kw_only=True, tag="command-delivery"):
    """A command for the trainer."""

    request: CommandRequest


class Batch(Frame, frozen=True, kw_only=True, tag="batch"):
    """Consecutive events of one session; the first has `seq` `first`, the next `first + 1`, ..."""

    session: str
    first: int
    events: List[AnyEvent]

    @property
    def last(self) -> int:
        """The `seq` of the newest event in the batch."""
        return self.first + len(self.events) - 1


class CommandReply(Frame, frozen=True, kw_only=True, tag="command-reply"):
    """The one answer to the command `id`."""

    id: str
    session: str
    outcome: Outcome


class CommandQueued(Frame, frozen=True, kw_only=True, tag="command-queued"):
    """The server has passed a command on to its trainer, which has not yet said it received it."""

    session: str
    request: CommandRequest


class CommandProgress(Frame, frozen=True, kw_only=True, tag="command-progress"):
    """How far a long command is: `done` of `total` (0: unknown), in `unit`, such as `batches`."""

    session: str
    id: str
    done: int
    total: int
    unit: str


class DashboardWelcome(Frame, frozen=True, kw_only=True, tag="dashboard-welcome"):
    """The server greets a dashboard with all sessions it knows."""

    server_version: str
    protocol: int
    home: str
    sessions: List[SessionSummary]


class Subscribe(Frame, frozen=True, kw_only=True, tag="subscribe"):
    """Send every event of `session` whose `seq` is greater than `after`, and all that follow."""

    session: str
    after: int


class Unsubscribe(Frame, frozen=True, kw_only=True, tag="unsubscribe"):
    """Send no more events of `session`."""

    session: str


class CommandSubmission(Frame, frozen=True, kw_only=True, tag="command-submission"):
    """A dashboard asks for a command; the answer is a `CommandReply` with the same `id`."""

    id: str
    session: str
    command: Command


class SessionChanged(Frame, frozen=True, kw_only=True, tag="session-changed"):
    """A session appeared or changed: its state, its connection, its runs."""

    session: SessionSummary


class SessionGone(Frame, frozen=True, kw_only=True, tag="session-gone"):
    """A session's folder is no longer there."""

    session: str


class Behind(Frame, frozen=True, kw_only=True, tag="behind"):
    """The dashboard read too slowly: events were left out. Take a new snapshot of `session`."""

    session: str


FromTrainer = Union[TrainerHello, Batch, CommandReply, CommandProgress]
ToTrainer = Union[TrainerWelcome, Refusal, Viewers, CommandDelivery]
FromDashboard = Union[Subscribe, Unsubscribe, CommandSubmission]
ToDashboard = Union[
    DashboardWelcome,
    Refusal,
    Batch,
    SessionChanged,
    SessionGone,
    CommandQueued,
    CommandProgress,
    CommandReply,
    Behind,
]

_encoder = msgspec.json.Encoder()


def encode(frame: Frame) -> str:
    """A frame as the text of one WebSocket message."""
    return _encoder.encode(frame).decode()
