"""What is on its way: bundles that come in, and files that wait to be fetched.

They lie on the disk of the home, where there is room for sessions, in a hidden folder that is this
server's alone. Where the server is killed, the next one removes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import shutil
import threading
from pathlib import Path
from typing import AsyncIterator, BinaryIO, Optional

from otf_session.bundles.staging import TRANSFER, Staging, remove_abandoned
from otf_session.errors import HomeUnusable
from otf_session.home import Home

from .endpoints import TooLarge

#: Bytes that are gathered before they are written.
_BLOCK = 1 << 20
#: Bytes on the disk that no transfer takes: trainings record there.
_RESERVE = 256 << 20
#: What the system says where there is no more room.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Transfers:
    """Folders for files on their way. Its methods write files; the server calls them in threads."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._staging: Optional[Staging] = None
        self._lock = threading.Lock()

    def open(self) -> None:
        """Remove what a server that was killed has left."""
        with contextlib.suppress(OSError):
            remove_abandoned(self._home.sessions, TRANSFER)

    def close(self) -> None:
        """Remove everything."""
        with self._lock:
            if self._staging is not None:
                self._staging.__exit__(None, None, None)
            self._staging = None

    def folder(self, size: int = 0) -> Path:
        """A new folder for so many bytes.

        Raises `TooLarge` where there is no room for them, and `HomeUnusable` where nothing can be
        written.
        """
        self._home.ensure()
        try:
            free = shutil.disk_usage(self._home.sessions).free
            if size + _RESERVE > free:
                raise TooLarge(
                    f"The file has {size:,} bytes, and in {self._home.path} {free:,} are free, of "
                    f"which {_RESERVE:,} stay so for what is being trained. Make room there, or "
                    "serve another home."
                )
            with self._lock:
                if self._staging is None:
                    staging = Staging(self._home.sessions, TRANSFER)
                    self._staging = staging.__enter__()
                folder = self._staging.path / secrets.token_hex(8)
            folder.mkdir()
        except OSError as error:
            raise HomeUnusable(
                f"Nothing can be written in {self._home.sessions}: {error.strerror or error}. Make "
                "room there, or allow this user to write it."
            ) from error
        return folder


async def receive(parts: AsyncIterator[bytes], target: Path) -> None:
    """Write what comes into a file that does not exist yet, a little of it in memory at a time.

    Raises `TooLarge` where the disk is nearly full, and `HomeUnusable` where it cannot be written.
    """
    try:
        with await asyncio.to_thread(target.open, "xb") as file:
            waiting = bytearray()
            async for part in parts:
                waiting += part
                if len(waiting) >= _BLOCK:
                    await asyncio.to_thread(_write, file, bytes(waiting))
                    waiting.clear()
            await asyncio.to_thread(_write, file, bytes(waiting))
            # Told apart from what the sender's end raises: the disk may be full only now.
            await asyncio.to_thread(file.flush)
    except OSError as error:
        kind = TooLarge if error.errno in _FULL else HomeUnusable
        raise kind(
            f"The file cannot be kept in {target.parent.parent.parent}: {error.strerror or error}."
        ) from error


def _write(file: BinaryIO, block: bytes) -> None:
    # Looked at anew each time: a sender need not say how much comes, and others send too.
    if shutil.disk_usage(file.name).free < _RESERVE + len(block):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    file.write(block)


def discard(folder: Path) -> None:
    """Remove a folder that `Transfers.folder` gave."""
    shutil.rmtree(folder, ignore_errors=True)
