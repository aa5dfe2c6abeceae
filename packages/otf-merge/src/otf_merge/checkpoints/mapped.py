"""Memory that is mapped from a file: giving it back once it has been looked at."""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys
from typing import Callable

_Advise = Callable[[int, int], None]


def give_back(address: int, size: int) -> None:
    """Take the pages around that memory out of this process again.

    Only for memory that is mapped from a file and was never written to: whoever looks at it next
    has the pages read from the file once more. Does nothing where the system has no such call.
    """
    advise = _advise()
    if advise is not None and size:
        start = address - address % mmap.PAGESIZE
        advise(start, address + size - start)


@functools.lru_cache(maxsize=1)
def _advise() -> _Advise | None:
    if sys.platform == "win32":
        return None
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

    def advise(start: int, size: int) -> None:
        # It is advice: that it is not taken changes nothing but what is in memory.
        madvise(start, size, mmap.MADV_DONTNEED)

    return advise
