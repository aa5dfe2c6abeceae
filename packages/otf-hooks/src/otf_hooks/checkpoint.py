"""Checkpoints: the state of a run as one file of tensors and plain values."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import tempfile
from pathlib import Path
from typing import IO, Any, BinaryIO, Dict, NamedTuple, Optional, cast

import torch

from . import predecessor
from .errors import CheckpointError

#: The version of the layout, so that a later one can tell.
FORMAT = 2


class Written(NamedTuple):
    """A checkpoint on disk; `size` is in bytes."""

    path: Path
    size: int
    sha256: str


def load(path: Path, sha256: str = "") -> Dict[str, Any]:
    """The state in a checkpoint, on the CPU; loading it runs no code.

    Raises `CheckpointError` where the file is not there, is not what was written (`sha256`), or
    holds more than tensors and plain values.
    """
    try:
        if sha256 and _sha256(path) != sha256:
            raise CheckpointError(
                f"The checkpoint {path} is not what was written: its SHA-256 differs from the one "
                "in the session. Use another checkpoint; this one is damaged or was replaced."
            )
        state: Dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(
            f"The checkpoint {path} is no longer there. `otf ctl checkpoints` lists what is kept."
        ) from None
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise CheckpointError(f"The checkpoint {path} cannot be read: {error}.") from error
    if isinstance(state, dict) and predecessor.is_one(state):
        return state
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(
            f"The checkpoint {path} has the format {state.get('format')!r}; this version reads "
            f"format {FORMAT}. Use the version of OnTheFly it was written with."
            if isinstance(state, dict)
            else f"{path} is no checkpoint of a run."
        )
    return state


def write(path: Path, state: Dict[str, Any]) -> Written:
    """Write `state` to `path`, whole or not at all.

    It goes to a temporary file beside `path` that is flushed to the disk and then renamed.
    Raises `CheckpointError` where that fails, and leaves nothing behind.
    """
    try:
        return _write(path, state)
    # torch's writer reports a full disk as a RuntimeError of its own; what cannot be pickled is
    # an AttributeError, a TypeError or a PicklingError, depending on what it is.
    except (OSError, RuntimeError, AttributeError, TypeError, pickle.PicklingError) as error:
        raise CheckpointError(f"The checkpoint {path} could not be written: {error}.") from error


def _write(path: Path, state: Dict[str, Any]) -> Written:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            remembering = _Remembering(file)
            try:
                torch.save({"format": FORMAT, **state}, cast("IO[bytes]", remembering))
            except RuntimeError:
                if remembering.error is not None:
                    raise remembering.error from None
                raise
            file.flush()
            os.fsync(file.fileno())
        digest = _sha256(temporary)
        size = temporary.stat().st_size
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return Written(path, size, digest)


class _Remembering:
    """A file that remembers why it could not be written, of which torch's writer says nothing."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: Optional[OSError] = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self._file.flush()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
