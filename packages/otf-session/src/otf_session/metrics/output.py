"""Where an export goes: it appears whole under its name, or not at all."""

import contextlib
import os
import secrets
import shutil
from pathlib import Path
from typing import Iterator

from ..errors import NotWritten


@contextlib.contextmanager
def whole_file(target: Path, *, force: bool = False) -> Iterator[Path]:
    """A path to write to, which becomes `target` when the `with` ends well.

    Raises `NotWritten` where it exists, unless by `force`, and where it cannot be written.
    """
    if target.is_dir():
        raise NotWritten(f"{target} is a folder. Name a file in it: -o {target / 'metrics.csv'}")
    if target.exists() and not force:
        raise NotWritten(f"{target} exists already. Choose another name, or use --force.")
    draft = _draft(target)
    try:
        yield draft
        _sync(draft)
        draft.replace(target)
    except OSError as error:
        raise _failed(target, error) from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes `target` when the `with` ends well.

    Raises `NotWritten` where something is there already, and where it cannot be written.
    """
    draft = _draft(target)
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise NotWritten(f"{target} exists already, and is not empty. Name a new folder.")
        draft.mkdir()
        yield draft
        if target.exists():
            target.rmdir()
        draft.rename(target)
    except OSError as error:
        raise _failed(target, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _draft(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}")


def _sync(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _failed(target: Path, error: OSError) -> NotWritten:
    return NotWritten(
        f"{target} cannot be written: {error.strerror or error}. Nothing of it was left behind."
    )
