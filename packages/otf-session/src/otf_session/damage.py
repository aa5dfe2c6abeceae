"""What is wrong with a database, as far as its first bytes and its size say."""

import struct
from pathlib import Path
from typing import NamedTuple

from .home import DATABASE

_MAGIC = b"SQLite format 3\0"
_HEADER = 100


class _Header(NamedTuple):
    """The numbers in SQLite's header that say how large the file is.

    See https://www.sqlite.org/fileformat2.html#the_database_header
    """

    page_size: int
    changes: int
    pages: int
    counted_at: int

    @property
    def size(self) -> int:
        """The bytes that the file should have; 0 where the header does not know."""
        return self.page_size * self.pages if self.changes == self.counted_at else 0


def missing_bytes(path: Path) -> int:
    """How many bytes a database is too short by; 0 where that cannot be told.

    Not to be asked while somebody writes it: then the header is ahead of the file.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER)
        actual = path.stat().st_size
    except OSError:
        return 0
    if head[: len(_MAGIC)] != _MAGIC[: len(head)]:
        return 0
    wanted = _header(head).size if len(head) == _HEADER else _HEADER
    return max(0, wanted - actual)


def diagnosis(folder: Path) -> str:
    """What is to be seen of a session's database from outside, as a sentence; empty if nothing is."""
    path = folder / DATABASE
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
    except FileNotFoundError:
        return f"Its {DATABASE} is missing."
    except OSError as error:
        return f"Its {DATABASE} cannot be opened: {error.strerror or error}."
    if not size:
        return f"Its {DATABASE} is empty."
    if head != _MAGIC[: len(head)]:
        return f"Its {DATABASE} is no SQLite database."
    short = missing_bytes(path)
    if short:
        return f"Its {DATABASE} is cut short: {size:,} bytes are there, at least {short:,} are missing."
    return ""


def _header(head: bytes) -> _Header:
    (size,) = struct.unpack_from(">H", head, 16)
    changes, pages = struct.unpack_from(">II", head, 24)
    (counted_at,) = struct.unpack_from(">I", head, 92)
    # A page of 65,536 bytes does not fit into the field.
    return _Header(1 << 16 if size == 1 else size, changes, pages, counted_at)
