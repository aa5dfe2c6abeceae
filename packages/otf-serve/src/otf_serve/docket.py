"""The docket: the commands that went through this server, and how far each has come.

It is a memory of bounded size. What is no longer on it is in the session's record.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Callable, Dict, List, Optional, Tuple, Union

from otf_session.commands import Outcome
from otf_session.frames import CommandProgress, CommandReply

from .pending import Pending

#: Commands with an outcome that are remembered, of all sessions together.
_MOST_ENDED = 1000


class Case:
    """One command on the docket."""

    def __init__(self, session: str, command_id: str) -> None:
        self.session = session
        self.id = command_id
        self.is_received = False
        self.progress: Optional[CommandProgress] = None
        #: When dashboards were last shown the progress, by the monotonic clock.
        self.shown = 0.0
        self.outcome: Optional[Outcome] = None
        #: Whether the outcome is the last word; else only the trainer's connection has ended.
        self.is_certain = False
        self._settled = asyncio.Event()
        self._waiting: List[Callable[[Outcome], None]] = []

    @property
    def is_interrupted(self) -> bool:
        """Whether the trainer's connection ended, so that its record may know more."""
        return self.outcome is not None and not self.is_certain

    def when_settled(self, tell: Callable[[Outcome], None]) -> None:
        """Call `tell` once, with the outcome."""
        if self.outcome is not None:
            tell(self.outcome)
        else:
            self._waiting.append(tell)

    def settle(self, outcome: Outcome, *, certain: bool) -> None:
        """The outcome is there. The trainer's word replaces a guess, and nothing replaces it."""
        if self.is_certain or (self.outcome is not None and not certain):
            return
        self.outcome, self.is_certain = outcome, certain
        self._settled.set()
        waiting, self._waiting = self._waiting, []
        for tell in waiting:
            tell(outcome)

    async def answer(self, seconds: float) -> Union[CommandReply, Pending]:
        """The reply, or how far the command is after so many seconds."""
        if self.outcome is None and seconds > 0:
            waiting = asyncio.ensure_future(self._settled.wait())
            try:
                # Not `wait_for`: before Python 3.12 it can swallow the request's cancellation.
                await asyncio.wait({waiting}, timeout=seconds)
            finally:
                waiting.cancel()
        if self.outcome is not None:
            return CommandReply(id=self.id, session=self.session, outcome=self.outcome)
        return Pending(
            id=self.id,
            session=self.session,
            status="received" if self.is_received else "queued",
            progress=self.progress,
        )


class Docket:
    """All cases, those that wait and the newest of those that are settled."""

    def __init__(self) -> None:
        self._waiting: Dict[Tuple[str, str], Case] = {}
        self._ended: OrderedDict[Tuple[str, str], Case] = OrderedDict()

    def find(self, session: str, command_id: str) -> Optional[Case]:
        """The case of a command; None where it is not remembered."""
        key = (session, command_id)
        return self._waiting.get(key) or self._ended.get(key)

    def waiting(self, session: str) -> List[Case]:
        """The commands of a session that have no outcome yet."""
        return [case for case in self._waiting.values() if case.session == session]

    def open(self, session: str, command_id: str) -> Case:
        """File a new case."""
        key = (session, command_id)
        self._ended.pop(key, None)
        case = self._waiting[key] = Case(session, command_id)
        return case

    def settle(self, session: str, command_id: str, outcome: Outcome, *, certain: bool) -> Case:
        """A command has its outcome, also one that was asked for through another server."""
        key = (session, command_id)
        case = self._waiting.pop(key, None) or self._ended.get(key) or Case(*key)
        self._ended[key] = case
        while len(self._ended) > _MOST_ENDED:
            self._ended.popitem(last=False)
        case.settle(outcome, certain=certain)
        return case
