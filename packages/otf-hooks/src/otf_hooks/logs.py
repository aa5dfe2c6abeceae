"""The script's log lines, taken without touching how the script logs.

A handler on the root logger would do, but it would also keep `logging.basicConfig` from working
afterwards and silence the warnings that Python prints while there is no handler. The factory that
makes log records sees the same records and changes nothing.
"""

from __future__ import annotations

import logging
import os
from typing import Any, Callable

#: Takes level, logger's name and text of a line.
TakeLine = Callable[[int, str, str], None]


class LogTap:
    """Hands every record of the standard `logging` module to `take`, while it is open."""

    def __init__(self, take: TakeLine) -> None:
        self._take = take
        self._open = False
        self._before: Callable[..., logging.LogRecord] = logging.LogRecord
        # Workers of a data loader are forked from this process; their lines have no reader here.
        self._process = os.getpid()

    def open(self) -> None:
        """Begin to listen."""
        self._before = logging.getLogRecordFactory()
        self._open = True
        logging.setLogRecordFactory(self._make)

    def close(self) -> None:
        """Cease to listen; a factory that was put around this one stays."""
        self._open = False
        if logging.getLogRecordFactory() == self._make:
            logging.setLogRecordFactory(self._before)

    def _make(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._before(*args, **kwargs)
        if self._open and os.getpid() == self._process:
            self._take(record.levelno, record.name, _text(record))
        return record


def _text(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except (TypeError, ValueError):
        # Arguments that do not fit the format: logging itself reports them to the script.
        text = str(record.msg)
    if record.exc_info and record.exc_info[0] is not None:
        text += "\n" + logging.Formatter().formatException(record.exc_info)
    return text
