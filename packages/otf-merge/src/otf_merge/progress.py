"""Being told how far a merge is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told how far some work is. `unit` is `bytes`, `steps` or `samples`."""

    def __call__(self, done: float, total: float, unit: str) -> None:
        """`done` of `total` units are done."""


def unwatched(done: float, total: float, unit: str) -> None:
    """Nobody looks."""


def part_of(progress: Progress, place: int, parts: int) -> Progress:
    """To be told of one of several equal parts of some work, after `place` others."""

    def told(done: float, total: float, unit: str) -> None:
        progress(place * total + done, parts * total, unit)

    return told
