"""Which file suffix is read and written by which module."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Callable, NamedTuple

from . import safetensors_file, torch_file

if TYPE_CHECKING:
    from pathlib import Path

    from ..errors import MergeError
    from .checkpoint import Checkpoint, Contents


class Format(NamedTuple):
    """How files of one format are opened, given an optional key, and written."""

    open: Callable[[Path, str | None], Checkpoint]
    write: Callable[[BinaryIO, Contents], None]


_TORCH = Format(torch_file.open_checkpoint, torch_file.write)
_SAFETENSORS = Format(safetensors_file.open_checkpoint, safetensors_file.write)

FORMATS = {
    ".ckpt": _TORCH,
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".safetensors": _SAFETENSORS,
}


def format_of(path: Path, error: type[MergeError]) -> Format:
    """The format that the path's suffix stands for, else an `error` that lists the suffixes."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise error(
            f"`{path}` is of no known format: its name must end in one of {', '.join(FORMATS)}."
        )
    return FORMATS[suffix]
