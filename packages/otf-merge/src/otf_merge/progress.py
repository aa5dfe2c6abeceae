"""Being told how far a merge is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told how far some work is. `unit` is `bytes`, `steps` or `samples`."""

    def __call__(self, done: float, total: float, unit: str) -> None:
        """`done` of `total` units are done."""


def unwatched(done: float, total: float, unit: str) -> None:
    """Nobody looks."""
