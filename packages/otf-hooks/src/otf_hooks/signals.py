"""SIGTERM, SIGHUP and Ctrl-C: end at a safe point, where the state is whole, as without us otherwise.

A script with handlers of its own keeps them: it ends by an exception or by returning, and the
session is closed on that way.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any, Callable, Dict, Optional

from . import console

#: What a script that has no handlers of its own leaves in force. One that was started by `nohup`
#: ignores SIGHUP, which a closing terminal sends, and goes on doing so.
_DEFAULTS: Dict[int, Any] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
    # Not on Windows.
    **({signal.SIGHUP: signal.SIG_DFL} if hasattr(signal, "SIGHUP") else {}),
}

#: Seconds that a step may take to end after SIGTERM or SIGHUP before the process ends without it.
GRACE_SECONDS = 5.0


class SignalHandlers:
    """While installed, these signals wait for a safe point; the second one of a kind does not.

    `soon` is told the signal, in the handler, and has it acted upon at the next safe point. `now`
    writes down what was recorded, ahead of the death that they mean by default.
    """

    def __init__(
        self,
        *,
        soon: Callable[[int], None],
        now: Callable[[int], None],
        say: Callable[[str], None] = console.say,
    ) -> None:
        self._soon = soon
        self._now = now
        self._say = say
        self._process = os.getpid()
        self._before: Dict[int, Any] = {}
        self._seen: set[int] = set()
        self._timer: Optional[threading.Timer] = None

    def install(self) -> None:
        """Install them where the script left the defaults, and only from the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number, default in _DEFAULTS.items():
            if signal.getsignal(number) is default:
                self._before[number] = default
                signal.signal(number, self._handle)

    def end_at_once(self) -> None:
        """No safe point will come: the first signal of a kind is what the second one is else."""
        self._seen.update(_DEFAULTS)

    def remove(self) -> None:
        """Put the defaults back, unless the script has set handlers meanwhile."""
        if self._timer is not None:
            self._timer.cancel()
        if threading.current_thread() is not threading.main_thread():
            return
        for number, default in self._before.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, default)
        self._before.clear()

    def _handle(self, number: int, frame: Optional[FrameType]) -> None:
        # Forked workers inherit the handlers, but not the session.
        is_first = os.getpid() == self._process and number not in self._seen
        self._seen.add(number)
        if number == signal.SIGINT:
            self._interrupt(is_first)
        elif is_first:
            self._soon(number)
            self._timer = threading.Timer(GRACE_SECONDS, os.kill, (self._process, number))
            self._timer.daemon = True
            self._timer.start()
        else:
            if os.getpid() == self._process:
                self._now(number)
            die_of(number)

    def _interrupt(self, is_first: bool) -> None:
        if not is_first:
            raise KeyboardInterrupt
        self._say("Ctrl-C: training ends at its next safe point; again, and it ends at once.")
        self._soon(signal.SIGINT)


def die_of(number: int) -> None:
    """End the process as the signal ends it by default."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
