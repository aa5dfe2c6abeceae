"""Zip files from elsewhere, read by Python's zipfile without letting them fill the memory."""

import os
import struct
import zipfile
import zlib
from typing import BinaryIO, cast

#: The most that is read at once: a list of some 40,000 members.
_MOST = 4 << 20

#: What zipfile raises for what is no zip file, or was changed; it promises only the first. Of
#: RuntimeError there are two kinds: encryption, and what it does not know.
ZIP_FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OverflowError,
    RuntimeError,
    ValueError,
)


def careful(file: BinaryIO) -> BinaryIO:
    """The file, for `zipfile.ZipFile` to read from: it answers nothing that nobody honest asks."""
    return cast("BinaryIO", _Careful(file))


class _Careful:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, os.SEEK_END)
        file.seek(0)

    def read(self, count: int = -1) -> bytes:
        left = max(0, self._size - self._file.tell())
        wanted = left if count < 0 else min(count, left)
        if wanted > _MOST:
            raise zipfile.BadZipFile(f"it wants {wanted} bytes in memory at once")
        return self._file.read(wanted)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET and not 0 <= offset <= self._size:
            raise zipfile.BadZipFile("it points to where it has nothing")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True
