"""A part of a file as a file of its own, to read."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import torch

from .elements import memory_of

if TYPE_CHECKING:
    from .elements import ElementsFile


class ByteSlice(io.RawIOBase):
    """The `size` bytes from `offset` on. Several of one file can be read at once."""

    def __init__(self, file: ElementsFile, offset: int, size: int) -> None:
        super().__init__()
        self._file = file
        self._offset = offset
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Read on from there."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: object) -> int:
        """Read as many bytes as fit and are left."""
        target = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        count = max(0, min(len(target), self._size - self._at))
        found = self._file.read(self._offset + self._at, torch.uint8, count)
        target[:count] = bytes(memory_of(found))
        self._at += count
        return count
