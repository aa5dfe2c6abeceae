"""The zip archives that `torch.save` writes: where in the file each of their records lies."""

from __future__ import annotations

import struct
import zipfile
from typing import BinaryIO, NamedTuple

_LOCAL_HEADER = 30
_NAME_AND_EXTRA = struct.Struct("<HH")


class Record(NamedTuple):
    """The bytes of one record in the file; `stored` where they are not compressed."""

    offset: int
    size: int
    stored: bool


class NotAnArchive(ValueError):
    """The file is no zip archive, or a damaged one."""


def records_of(file: BinaryIO) -> dict[str, Record]:
    """The archive's records, under their names without the folder that all of them are in."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError) as error:
        raise NotAnArchive(str(error)) from error
    return {it.filename.partition("/")[2]: _record(file, it) for it in entries}


def _record(file: BinaryIO, entry: zipfile.ZipInfo) -> Record:
    # Name and padding stand before the bytes, and may differ from those in the directory.
    file.seek(entry.header_offset)
    header = file.read(_LOCAL_HEADER)
    if len(header) < _LOCAL_HEADER:
        raise NotAnArchive(f"the record {entry.filename} lies beyond the end of the file")
    name, extra = _NAME_AND_EXTRA.unpack_from(header, _LOCAL_HEADER - _NAME_AND_EXTRA.size)
    offset = entry.header_offset + _LOCAL_HEADER + name + extra
    return Record(offset, entry.file_size, entry.compress_type == zipfile.ZIP_STORED)
