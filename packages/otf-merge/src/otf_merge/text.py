"""Text for a terminal, and values as JSON."""

from __future__ import annotations

import json
import math
import shutil
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_THOUSAND = 1000


def printable(text: str) -> str:
    """The text as it does nothing to a terminal: names in files are other people's words."""
    return "".join(it if it.isprintable() or it == "\n" else "?" for it in text)


def as_json(value: Any) -> str:
    """The value as one JSON document, where what is no finite number is null."""
    return json.dumps(_plain(value), default=str, allow_nan=False)


def size(count: float) -> str:
    """Bytes as a person reads them: `2.07 GB`."""
    for unit in _UNITS[:-1]:
        if abs(count) < _THOUSAND:
            return f"{count:.3g} {unit}"
        count /= _THOUSAND
    return f"{count:.3g} {_UNITS[-1]}"


def counted(count: int, noun: str) -> str:
    """`1 tensor`, `1,024 tensors`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def hanging(head: str, text: str, indent: int) -> str:
    """The text after its head, broken at the terminal's width and indented below the head.

    Where no terminal is written to, it is one line, for `grep` and the like.
    """
    if not sys.stdout.isatty():
        return f"{head}{text}"
    width = max(40, shutil.get_terminal_size().columns)
    return textwrap.fill(
        text,
        width,
        initial_indent=head,
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(it) for key, it in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(it) for it in value]
    return value
