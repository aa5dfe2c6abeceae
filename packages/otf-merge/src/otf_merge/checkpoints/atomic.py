"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from typing import TYPE_CHECKING, BinaryIO

from .flushing import flushing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path, *, sync: bool = False) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` when the block ends without an error.

    Until then it lies beside `path` under a hidden name, so that the last step is a rename within
    one file system. On any error, Ctrl-C included, it is removed. Where `path` is a link, the file
    that it leads to is replaced.

    With `sync` all is on the disk, and not only with the operating system, before it takes the
    place, and the new name is on the disk when the block has ended.
    """
    path = path.resolve()
    temporary = _beside(path)
    try:
        with temporary.open("xb") as file, flushing(file) if sync else contextlib.nullcontext():
            yield file
        temporary.replace(path)
        if sync:
            _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """A folder to write into, which takes the place of `path` as a file does in `replacing`.

    A folder cannot be renamed over another. So the old one is renamed first, and removed last: at
    every moment at least one of the two is there, whole.
    """
    path = path.resolve()
    temporary = _beside(path)
    try:
        temporary.mkdir()
        yield temporary
        if sync:
            for file in temporary.iterdir():
                _sync(file)
            _sync_folder(temporary)
        _take_place(temporary, path)
        if sync:
            _sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _take_place(folder: Path, path: Path) -> None:
    if not path.exists():
        folder.rename(path)
        return
    old = _beside(path)
    path.rename(old)
    try:
        folder.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _sync(file: Path) -> None:
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def _sync_folder(folder: Path) -> None:
    """Have the names in the folder on the disk too, where the system can do that."""
    if os.name == "nt":
        return
    # What is renamed is in place already, and some file systems sync no folders.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
