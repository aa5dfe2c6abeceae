"""SHA-256 of files, taken in threads beside other work. torch is not needed for it."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from .errors import UnreadableInput

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

# So much is hashed without a word from Python, whose other threads may keep it waiting each time.
_CHUNK = 1 << 20


class Hashing:
    """Hashes files side by side, each once, in the order in which they are asked for.

    What is under way when the block is left is given up.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "otf-merge-hash")
        self._given_up = threading.Event()
        self._found: dict[Path, Future[str]] = {}

    def __enter__(self) -> Hashing:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._given_up.set()
        self._pool.shutdown(cancel_futures=True)

    def begin(self, files: Iterable[Path]) -> None:
        """Start with those files, if it has not been done."""
        for file in files:
            if file not in self._found:
                self._found[file] = self._pool.submit(self._sha256, file)

    def sha256(self, file: Path) -> str:
        """The hash of a file's bytes in hexadecimal digits; waits for it.

        Raises `UnreadableInput` where the file could not be read to its end.
        """
        self.begin([file])
        try:
            return self._found[file].result()
        except OSError as error:
            raise UnreadableInput(
                f"`{file}` cannot be read to its end: {error.strerror or error}."
            ) from error

    def _sha256(self, file: Path) -> str:
        digest = hashlib.sha256()
        buffer = bytearray(_CHUNK)
        view = memoryview(buffer)
        with file.open("rb", buffering=0) as opened:
            while (size := opened.readinto(buffer)) and not self._given_up.is_set():
                digest.update(view[:size])
        return digest.hexdigest()
