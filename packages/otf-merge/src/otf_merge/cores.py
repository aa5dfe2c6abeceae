"""How torch uses cores and memory while many small pieces are worked on."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

# A little under 32 MiB, glibc's limit, its own header included.
_KEPT = (1 << 25) - (1 << 12)


@contextlib.contextmanager
def one_core_each() -> Iterator[None]:
    """Within the block, every operation is done by the thread that asks for it.

    On pieces, the threads that torch would start wait for each other longer than they work, most of
    all on a busy machine. Freed pieces are used again meanwhile, instead of going back to the
    kernel and being zeroed anew: glibc keeps what is no greater than the greatest block that was
    mapped on its own and freed, up to 32 MiB; until there was one, that is 128 KiB.
    """
    torch.empty(_KEPT, dtype=torch.uint8)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
