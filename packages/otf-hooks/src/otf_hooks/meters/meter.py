"""What a meter is."""

from __future__ import annotations

from typing import Dict, Protocol


class Meter(Protocol):
    """Something of the machine that can be read at any time, and costs little to read."""

    def read(self) -> Dict[str, float]:
        """What it shows now, by the names of its series. Raises `MeterEnded` where it is over."""


class MeterEnded(Exception):
    """A meter shows nothing any more. Its message is for the log; without one nothing is said."""
