"""Zip archives as `torch.save` writes them: records that are stored, aligned, and of any size.

Python's own writer has the long form of sizes and places from 2 GiB on, where the reader in torch
2.2 expects the short one up to 4 GiB; see the specification, APPNOTE.TXT 6.3.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from typing import TYPE_CHECKING, BinaryIO, Callable, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What the bytes of each record are aligned to, as torch does it, so that they can be mapped.
ALIGNMENT = 64
#: From this number on sizes and places are in the long form; the short one has `_SEE_LONG` then.
LONG_FROM = 0xFFFFFFFF
_SEE_LONG = 0xFFFFFFFF
_MOST_RECORDS = 0xFFFF

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_LONG_END = struct.Struct("<4sQ2H2L4Q")
_LONG_END_AT = struct.Struct("<4sLQL")
_FIELD = struct.Struct("<2H")
_CHECKSUM_AT = 14
# The fields of a record: numbers in the long form, and torch's own padding.
_LONG, _PADDING = 0x0001, 0x4246
_VERSION, _LONG_VERSION = 20, 45
# The first of January 1980: an archive is the same bytes whenever it is written.
_DATE = 0x21


class _Record(NamedTuple):
    name: bytes
    offset: int
    size: int
    checksum: int


class ZipWriter:
    """An archive that begins where `file` stands, which must be one that can seek."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = file.tell()
        self._records: list[_Record] = []

    @property
    def checksums(self) -> list[tuple[bytes, int]]:
        """The names of the records written so far, and the checksums of what is in them."""
        return [(record.name, record.checksum) for record in self._records]

    def add(self, name: str, content: bytes) -> None:
        """Write a whole record."""
        with self.record(name, len(content)) as write:
            write(content)

    @contextlib.contextmanager
    def record(self, name: str, size: int) -> Iterator[Callable[[bytes | memoryview], None]]:
        """A function that writes the next bytes of a record, which has `size` of them in all."""
        file = self._file
        at = file.tell()
        offset, encoded = at - self._start, name.encode("ascii")
        file.write(_header(encoded, offset, size))
        checksum, left = 0, size

        def write(content: bytes | memoryview) -> None:
            nonlocal checksum, left
            checksum = zlib.crc32(content, checksum)
            left -= len(content)
            file.write(content)

        yield write
        if left:
            raise AssertionError(f"{name} was to have {size} bytes, and differs by {left}")
        file.seek(at + _CHECKSUM_AT)
        file.write(struct.pack("<L", checksum))
        file.seek(0, 2)
        self._records.append(_Record(encoded, offset, size, checksum))

    def finish(self) -> None:
        """Write the directory, with which the archive ends."""
        begin = self._file.tell() - self._start
        for record in self._records:
            self._file.write(_entry(record))
        end = self._file.tell() - self._start
        self._file.write(_ending(len(self._records), begin, end))


def _header(name: bytes, offset: int, size: int) -> bytes:
    long = _long(size, size) if size >= LONG_FROM else b""
    before = offset + _LOCAL.size + len(name) + len(long) + _FIELD.size
    padding = -before % ALIGNMENT
    extra = long + _FIELD.pack(_PADDING, padding) + b"Z" * padding
    short = _short(size)
    version = _LONG_VERSION if long else _VERSION
    numbers = (version, 0, 0, 0, _DATE, 0, short, short, len(name), len(extra))
    return _LOCAL.pack(b"PK\x03\x04", *numbers) + name + extra


def _entry(record: _Record) -> bytes:
    name, offset, size, checksum = record
    numbers = [
        *([size, size] if size >= LONG_FROM else []),
        *([offset] if offset >= LONG_FROM else []),
    ]
    extra = _long(*numbers) if numbers else b""
    version = _LONG_VERSION if extra else _VERSION
    short, place = _short(size), _short(offset)
    sizes = (checksum, short, short, len(name), len(extra))
    fixed = _CENTRAL.pack(
        b"PK\x01\x02", version, version, 0, 0, 0, _DATE, *sizes, 0, 0, 0, 0, place
    )
    return fixed + name + extra


def _ending(count: int, begin: int, end: int) -> bytes:
    size = end - begin
    long = b""
    if count >= _MOST_RECORDS or end >= LONG_FROM:
        rest = _LONG_END.size - 12
        versions = (_LONG_VERSION, _LONG_VERSION)
        long = _LONG_END.pack(b"PK\x06\x06", rest, *versions, 0, 0, count, count, size, begin)
        long += _LONG_END_AT.pack(b"PK\x06\x07", 0, end, 1)
    short = min(count, _MOST_RECORDS)
    return long + _END.pack(b"PK\x05\x06", 0, 0, short, short, _short(size), _short(begin), 0)


def _long(*numbers: int) -> bytes:
    return _FIELD.pack(_LONG, 8 * len(numbers)) + struct.pack(f"<{len(numbers)}Q", *numbers)


def _short(number: int) -> int:
    return _SEE_LONG if number >= LONG_FROM else number
