"""Getting a file to the disk while it is still being written."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

_EVERY = 0.1


@contextlib.contextmanager
def flushing(file: BinaryIO) -> Iterator[None]:
    """Within the block, what is written goes to the disk as it comes; after it, all is there.

    A wait at the end for gigabytes that the kernel has kept would otherwise be as long as the merge
    itself. Raises the `OSError` that the disk answers with, however early it came: the kernel tells
    of it only once.
    """
    over = threading.Event()
    errors: list[OSError] = []

    def flush() -> None:
        while not over.wait(_EVERY) and not errors:
            _to_disk(file, errors)

    thread = threading.Thread(target=flush, name="otf-merge-flush", daemon=True)
    thread.start()
    try:
        yield
        file.flush()
    finally:
        over.set()
        thread.join()
    _to_disk(file, errors)
    if errors:
        raise errors[0]


def _to_disk(file: BinaryIO, errors: list[OSError]) -> None:
    try:
        os.fsync(file.fileno())
    except OSError as error:
        errors.append(error)
