"""Signals that end a merge, as exceptions that let it clean up behind itself."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a batch system sends before it kills, and what a closed terminal sends.
_NAMES = ("SIGTERM", "SIGHUP")


class Ended(KeyboardInterrupt):
    """The process was asked to end by a signal of that number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Raise `Ended` in the block where a signal would end the process there and then.

    A signal that is ignored, as under `nohup`, or already handled stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    taken = [it for it in numbers if signal.getsignal(it) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _raise(number: int, frame: Any) -> NoReturn:
    raise Ended(number)
