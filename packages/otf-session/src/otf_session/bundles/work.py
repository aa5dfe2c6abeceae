"""Long work that tells how far it is, and that can be broken off."""

import itertools
from typing import Callable, Iterator, List, Optional, TypeVar

from ..errors import Cancelled

#: Told how many bytes of how many are done.
Report = Callable[[int, int], None]
#: Whether whoever asked for the work has lost interest in it.
IsCancelled = Callable[[], bool]

#: Bytes that are read, hashed and written at a time.
BLOCK = 1 << 20


_Item = TypeVar("_Item")


def portions(items: Iterator[_Item], size: int) -> Iterator[List[_Item]]:
    """The items, some at a time."""
    while True:
        some = list(itertools.islice(items, size))
        if not some:
            return
        yield some


class Work:
    """Counts the bytes of one piece of work. `did` raises `Cancelled` where it is broken off."""

    def __init__(
        self, report: Optional[Report] = None, is_cancelled: Optional[IsCancelled] = None
    ) -> None:
        self._report = report
        self._is_cancelled = is_cancelled
        self._done = 0
        self._total = 0

    def expect(self, count: int) -> None:
        """So many bytes more are to come."""
        self._total += count
        self.did(0)

    def did(self, count: int) -> None:
        """So many bytes more are done."""
        self._done += count
        if self._is_cancelled is not None and self._is_cancelled():
            raise Cancelled("It was cancelled. Nothing was left behind.")
        if self._report is not None:
            self._report(min(self._done, self._total), self._total)
