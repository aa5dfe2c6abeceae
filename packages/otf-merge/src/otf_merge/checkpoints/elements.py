"""Tensors' elements as bytes in files, without a copy in between and without NumPy."""

from __future__ import annotations

import ctypes
import os
import threading
from typing import TYPE_CHECKING

import torch

from ..errors import UnreadableInput

if TYPE_CHECKING:
    from pathlib import Path


def memory_of(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous CPU tensor; it is that tensor's, and lives as long as it does."""
    size = tensor.numel() * tensor.element_size()
    if not size:
        return memoryview(b"")
    return memoryview((ctypes.c_ubyte * size).from_address(tensor.data_ptr()))


class ElementsFile:
    """A file from which several threads read tensors' elements, each from where it needs them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Unbuffered: each read goes straight into the tensor's own memory.
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()

    def read(self, offset: int, dtype: torch.dtype, count: int) -> torch.Tensor:
        """`count` elements from that offset in bytes, as a flat tensor in memory of its own."""
        tensor = torch.empty(count, dtype=dtype)
        memory = memory_of(tensor)
        while memory:
            got = self._read_into(memory, offset)
            if not got:
                raise self._shorter()
            memory, offset = memory[got:], offset + got
        return tensor

    def require_size(self, size: int) -> None:
        """Raise `UnreadableInput` if the file has become shorter than that."""
        if os.fstat(self._file.fileno()).st_size < size:
            raise self._shorter()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _shorter(self) -> UnreadableInput:
        return UnreadableInput(
            f"`{self.path}` has become shorter while it was read. Something writes to it; merge a "
            "finished copy."
        )

    def _read_into(self, memory: memoryview, offset: int) -> int:
        try:
            if hasattr(os, "preadv"):
                return os.preadv(self._file.fileno(), [memory], offset)
            with self._lock:
                self._file.seek(offset)
                return self._file.readinto(memory) or 0
        except OSError as error:
            raise UnreadableInput(
                f"`{self.path}` cannot be read: {error.strerror or error}."
            ) from error
