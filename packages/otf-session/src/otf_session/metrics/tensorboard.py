"""TensorBoard's event files, written without TensorBoard.

An event file is a sequence of records: the length of the data (64 bits, little-endian), its checksum,
the data and its checksum, as in
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/lib/io/record_writer.h. The data
is a protocol buffer, `Event` of tensorflow/core/util/event.proto, with one `Summary.Value` of
tensorflow/core/framework/summary.proto per metric.
"""

import re
import struct
from pathlib import Path
from typing import BinaryIO, Dict, Iterable, List, Optional, Set

from .blocks import Block

#: CRC-32C (Castagnoli), bits reversed: https://www.rfc-editor.org/rfc/rfc3720#appendix-B.4
_POLYNOMIAL = 0x82F63B78
#: What record_writer.h adds to a checksum, so that checksums of checksums are none.
_MASK = 0xA282EAD8

_NOT_FINITE = float("nan")


def write_event_files(folder: Path, blocks: Iterable[Block], session: str, created: float) -> None:
    """Write a folder per run with an event file in it; a point's tag is its metric's name."""
    writers: Dict[str, _EventFile] = {}
    taken: Set[str] = set()
    try:
        for block in blocks:
            writer = writers.get(block.run)
            if writer is None:
                path = folder / _free(block.run, taken)
                path.mkdir()
                name = f"events.out.tfevents.{int(created):010d}.{session}"
                writer = writers[block.run] = _EventFile((path / name).open("xb"), created)
            writer.add(block)
    finally:
        for writer in writers.values():
            writer.close()


class _EventFile:
    """One run's event file."""

    def __init__(self, file: BinaryIO, created: float) -> None:
        self._file = file
        self._prefixes: Dict[str, bytes] = {}
        version = _field(3, b"brain.Event:2")
        self._record(b"\x09" + struct.pack("<d", created) + version)

    def add(self, block: Block) -> None:
        """Add a batch of measurements, one event per step."""
        columns = [(self._prefix(name), values) for name, values in block.values.items()]
        for number, (step, time) in enumerate(zip(block.steps, block.times)):
            summary = b"".join(_value(prefix, values[number]) for prefix, values in columns)
            when = b"\x09" + struct.pack("<d", time) + b"\x10" + _varint(step)
            self._record(when + _field(5, summary))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _prefix(self, tag: str) -> bytes:
        """All of a `Summary.Value` in its `Summary` but the value itself."""
        found = self._prefixes.get(tag)
        if found is None:
            named = _field(1, tag.encode())
            # The tag, and after it the four bytes of the value behind their key.
            found = b"\x0a" + _varint(len(named) + 5) + named + b"\x15"
            self._prefixes[tag] = found
        return found

    def _record(self, data: bytes) -> None:
        length = struct.pack("<Q", len(data))
        self._file.write(length + _checksum(length) + data + _checksum(data))


def _value(prefix: bytes, value: Optional[float]) -> bytes:
    return prefix + _single(_NOT_FINITE if value is None else value)


def _single(value: float) -> bytes:
    try:
        return struct.pack("<f", value)
    except OverflowError:
        # Beyond what 32 bits hold: infinite, with its sign.
        return struct.pack("<f", float("inf") if value > 0 else float("-inf"))


def _field(number: int, data: bytes) -> bytes:
    """A field of bytes in a protocol buffer."""
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    # A negative step is 64 bits in two's complement, as protocol buffers have it.
    number &= (1 << 64) - 1
    found = bytearray()
    while number >> 7:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _make_table() -> List[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)  # noqa: PLW2901
        table.append(byte)
    return table


_TABLE = _make_table()


def _checksum(data: bytes) -> bytes:
    table, crc = _TABLE, 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    rotated = crc >> 15 | crc << 17 & 0xFFFFFFFF
    return struct.pack("<I", rotated + _MASK & 0xFFFFFFFF)


def _free(run: str, taken: Set[str]) -> str:
    """A folder for a run, whose name may hold what folders' names cannot."""
    plain = re.sub(r"[^\w.+=@ -]", "_", run).strip(". ")[:100] or "run"
    name, number = plain, 1
    while name.casefold() in taken:
        number += 1
        name = f"{plain}-{number}"
    taken.add(name.casefold())
    return name
