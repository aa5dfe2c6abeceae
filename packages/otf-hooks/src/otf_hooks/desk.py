"""The desk where commands are taken in, executed at safe points, and answered.

Commands come from the link's thread; errands (a guard that tripped, a checkpoint that is due, a
signal) from others. All of them wait in one inbox, which the training thread empties; with several
processes they agree there on what is executed. While a long command is under way (a test, a proof),
only what concerns it is executed; the rest waits for it.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections import deque
from functools import partial
from typing import Callable, Deque, List, Optional, Protocol, Union

from otf_session.commands import (
    Cancel,
    Command,
    CommandRequest,
    Note,
    Outcome,
    Pause,
    Refused,
    Resume,
    Stop,
    command_name,
)
from otf_session.events import CommandStatus

from .actions.outcomes import Pending
from .errors import TrainingError
from .inbox import Errand, Inbox, Item, Waiting

#: Seconds between two looks at the world while a run is held.
HOLD_SECONDS = 0.25
#: Seconds between two messages of how far a long command is.
_PROGRESS_SECONDS = 0.2


class Reports(Protocol):
    """Where the desk says what becomes of commands."""

    def command_changed(
        self, request: CommandRequest, status: CommandStatus, outcome: Optional[Outcome]
    ) -> None:
        """Record a command's status, and answer it where there is an outcome."""

    def command_progress(self, request: CommandRequest, done: int, total: int) -> None:
        """Say how far a long command is."""

    def log(self, text: str, level: int) -> None:
        """Add a line to the run's log."""


_Execute = Callable[[Command], Union[Outcome, Pending]]
#: What is executed at once while a long command is under way.
_CONCERN_LONG_ONES = (Pause, Resume, Stop, Cancel, Note)


class _Long:
    """A long command under way."""

    def __init__(self, request: CommandRequest) -> None:
        self.request = request
        self.is_cancelled = False
        self.is_held = False
        #: Whether holding it paused the run too, so that letting it go on resumes that.
        self.paused_run = False
        self.told = 0.0


class CommandDesk:
    """Executes what waits, one after the other, on the training thread."""

    def __init__(
        self,
        *,
        execute: _Execute,
        run_errand: Callable[[Errand], None],
        reports: Reports,
        inbox: Optional[Waiting] = None,
    ) -> None:
        self._execute_command = execute
        self._do_errand = run_errand
        self._reports = reports
        #: What waits to be executed.
        self.inbox: Waiting = Inbox() if inbox is None else inbox
        self._waiting: Deque[Item] = deque()
        self._current: Optional[CommandRequest] = None
        self._long: Optional[_Long] = None
        #: Whether nothing waits, so that a safe point has nothing to do: a look without a cost.
        self.is_quiet = self.inbox.is_empty

    # From any thread

    def receive(self, request: CommandRequest) -> None:
        """Take a command in; it is executed at the next safe point."""
        self._reports.command_changed(request, CommandStatus.RECEIVED, None)
        self.inbox.put(request)

    def post(self, errand: Errand) -> None:
        """Have something done at the next safe point. May be called by a signal handler."""
        self.inbox.put(errand)

    # On the training thread

    def execute_waiting(self) -> None:
        """Execute everything that waits."""
        while not self.is_quiet():
            self._take(self.inbox.get())

    def hold(self, step: int) -> None:
        """Held at a step, wait a moment for something to do, and do it."""
        item = self.inbox.wait(HOLD_SECONDS, step)
        if item is not None:
            self._take(item)

    def execute(self, request: CommandRequest) -> None:
        """Execute a command and answer it."""
        before, self._current = self._current, request
        try:
            outcome = self._outcome(request)
        finally:
            self._current = before
        if isinstance(outcome, Pending):
            outcome.start(partial(self.answer, request))
        else:
            self.answer(request, outcome)

    def answer(self, request: CommandRequest, outcome: Outcome) -> None:
        """Record and send the one answer to a command."""
        refused = isinstance(outcome, Refused)
        status = CommandStatus.REFUSED if refused else CommandStatus.APPLIED
        self._reports.command_changed(request, status, outcome)

    def refuse_rest(self) -> None:
        """The run has ended: answer what still waits."""
        for item in self.inbox.rest():
            if not isinstance(item, CommandRequest):
                if item.at_end:
                    self._run_errand(item)
                continue
            name = command_name(item.command)
            self.answer(item, Refused(reason=f"The run has ended; there is nothing to {name}."))

    def refuse_left(self, requests: List[CommandRequest]) -> None:
        """Answer what an earlier process of this session received and left open."""
        for request in requests:
            self.answer(
                request,
                Refused(reason="The process that received it ended before it was applied."),
            )

    # Long commands

    def begin_long(self) -> None:
        """The command that is being executed takes long: it reports and can be cancelled."""
        assert self._current is not None
        self._long = _Long(self._current)

    def end_long(self) -> bool:
        """It is done; whether it was cancelled."""
        long, self._long = self._long, None
        self.inbox.put_back(list(self._waiting))
        self._waiting.clear()
        return long is not None and long.is_cancelled

    def keep_going(self, done: int, total: int, step: int) -> bool:
        """Say how far the long command is and take in what concerns it; False to break it off."""
        long = self._long
        assert long is not None
        now = time.monotonic()
        if now - long.told >= _PROGRESS_SECONDS:
            long.told = now
            self._reports.command_progress(long.request, done, total)
        self.execute_waiting()
        while long.is_held and not long.is_cancelled:
            self.hold(step)
        return not long.is_cancelled

    @property
    def current(self) -> Optional[CommandRequest]:
        """The command that is being executed."""
        return self._current

    @property
    def long_command(self) -> Optional[CommandRequest]:
        """The long command that is under way."""
        return self._long.request if self._long is not None else None

    def hold_long(self, held: bool) -> bool:
        """Hold the long command, or let it go on; False where that changes nothing."""
        if self._long is None or self._long.is_held is held:
            return False
        self._long.is_held = held
        return True

    @property
    def long_paused_run(self) -> bool:
        """Whether the run is paused only because its long command was held."""
        return self._long is not None and self._long.paused_run

    def note_paused_run(self) -> None:
        """Holding the long command paused the run."""
        if self._long is not None:
            self._long.paused_run = True

    def cancel_long(self) -> None:
        """Have the long command broken off at its next batch."""
        if self._long is not None:
            self._long.is_cancelled = True

    # Parts

    def _take(self, item: Item) -> None:
        if not isinstance(item, CommandRequest):
            self._run_errand(item)
        elif self._long is not None and not isinstance(item.command, _CONCERN_LONG_ONES):
            self._waiting.append(item)
        else:
            self.execute(item)

    def _run_errand(self, errand: Errand) -> None:
        # The same boundary: what watches training must not end it by a fault of its own.
        try:
            self._do_errand(errand)
        except Exception:  # noqa: BLE001
            self._reports.log(traceback.format_exc().rstrip(), logging.ERROR)

    def _outcome(self, request: CommandRequest) -> Union[Outcome, Pending]:
        # The boundary between a person's command and the script: what goes wrong in the one, in the
        # script's own functions included, is told and does not end the other.
        try:
            return self._execute_command(request.command)
        except TrainingError as error:
            return Refused(reason=str(error))
        except Exception as error:  # noqa: BLE001
            self._reports.log(traceback.format_exc().rstrip(), logging.ERROR)
            name = command_name(request.command)
            return Refused(
                reason=f"'{name}' failed, and training is where it was: "
                f"{type(error).__name__}: {error}. The log has the traceback."
            )
