"""A bundle being written: members are hashed as they go by, and the manifest comes last."""

import contextlib
import hashlib
import os
import time
import zipfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Iterator, Optional, Type, cast

from . import manifest
from .names import MANIFEST
from .work import BLOCK, Work

_REGULAR_FILE = 0o100644
#: The first and the last time that a zip file can state, wherever on earth: 1980-01-02, 2107-12-31.
_EARLIEST, _LATEST = 315_619_200.0, 4_354_732_800.0


class NotWhatItWas(Exception):
    """A file is not the one that the session speaks of: it was damaged, or replaced."""


class Sink:
    """Where a member's bytes go; afterwards `size` and `sha256` are those of all of them."""

    def __init__(self, target: BinaryIO, work: Work) -> None:
        self._target = target
        self._work = work
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """The hash of what was written, in hexadecimal digits."""
        return self._digest.hexdigest()

    def write(self, data: "bytes | memoryview") -> int:
        """Write some bytes on."""
        self._digest.update(data)
        self._target.write(data)
        self.size += len(data)
        self._work.did(len(data))
        return len(data)

    def flush(self) -> None:
        """What a zip file within the bundle calls; the bundle itself is flushed at its end."""


class BundleWriter:
    """Writes one bundle to `path`, which must not exist. Raises `OSError` where that fails.

    The bundle is whole once `finish` has returned.
    """

    def __init__(self, path: Path, work: Work) -> None:
        self._work = work
        self._file = path.open("x+b")
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED)

    def __enter__(self) -> "BundleWriter":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        # After `finish` it is closed already. Otherwise it is thrown away, on a disk that may be full.
        with contextlib.suppress(OSError):
            self._zip.close()
        with contextlib.suppress(OSError):
            self._file.close()

    @contextlib.contextmanager
    def member(
        self, name: str, *, size: int, when: float, compress: bool = False
    ) -> Iterator[Sink]:
        """A sink for a member of about `size` bytes; it is withdrawn where the `with` fails."""
        info = zipfile.ZipInfo(name, time.localtime(min(max(when, _EARLIEST), _LATEST))[:6])
        info.external_attr = _REGULAR_FILE << 16
        info.file_size = size
        if compress:
            info.compress_type = zipfile.ZIP_DEFLATED
        begin = self._zip.start_dir
        try:
            with self._zip.open(info, "w") as target:
                yield Sink(cast("BinaryIO", target), self._work)
        except BaseException:
            self._withdraw(info, begin)
            raise

    def add(
        self,
        name: str,
        source: BinaryIO,
        *,
        size: int,
        when: float,
        sha256: str = "",
        compress: bool = False,
    ) -> Sink:
        """Add a file. Raises `NotWhatItWas` where it has not this size and, if given, SHA-256."""
        block = memoryview(bytearray(BLOCK))
        with self.member(name, size=size, when=when, compress=compress) as sink:
            while sink.size <= size:
                count = source.readinto(block)  # type: ignore[attr-defined]
                if not count:
                    break
                sink.write(block[:count])
            if sink.size != size:
                raise NotWhatItWas("it has not the size that the session says")
            if sha256 and sink.sha256 != sha256:
                raise NotWhatItWas("its SHA-256 is not the one in the session")
        return sink

    def finish(self, contents: manifest.Manifest) -> int:
        """Write the manifest, and everything to the disk; the bundle's size is returned."""
        text = manifest.encode(contents)
        with self.member(MANIFEST, size=len(text), when=contents.created, compress=True) as sink:
            sink.write(text)
        self._zip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def _withdraw(self, info: zipfile.ZipInfo, begin: int) -> None:
        """Take out the newest member; the next one is written in its place."""
        if self._zip.NameToInfo.pop(info.filename, None) is not None:
            self._zip.filelist.remove(info)
        self._zip.start_dir = begin
        # Where the disk is full this gives it room; where even that fails, so does what comes next.
        with contextlib.suppress(OSError):
            self._file.truncate(begin)
