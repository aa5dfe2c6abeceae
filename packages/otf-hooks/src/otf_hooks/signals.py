"""SIGTERM: write down what was recorded, then end as the process would have ended without us."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any, Callable, Optional


class TerminationHandler:
    """While installed, runs `before` ahead of the death that SIGTERM means by default.

    A script with a handler of its own keeps it: it ends by an exception or by returning, and the
    session is closed on that way.
    """

    def __init__(self, before: Callable[[], None]) -> None:
        self._before = before
        self._installed = False
        self._process = os.getpid()

    def install(self) -> None:
        """Install it where the script left the default, and only from the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._handle)
            self._installed = True

    def remove(self) -> None:
        """Put the default back, unless the script has set a handler meanwhile."""
        on_main = threading.current_thread() is threading.main_thread()
        if self._installed and on_main and signal.getsignal(signal.SIGTERM) == self._handle:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._installed = False

    def _handle(self, number: int, frame: Optional[FrameType]) -> Any:
        # Forked workers inherit the handler, but not the session.
        if os.getpid() == self._process:
            self._before()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
