"""Which files and folders are read, and files written, by which module."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Callable, NamedTuple

from ..errors import UnreadableInput
from . import safetensors_file, torch_file, torch_writer
from .distributed_folder import is_distributed, open_distributed
from .weights_folder import main_file, open_folder

if TYPE_CHECKING:
    from pathlib import Path

    from ..errors import MergeError
    from .checkpoint import Checkpoint, Contents


class Format(NamedTuple):
    """How files of one format are opened, given an optional key, and written."""

    open: Callable[[Path, str | None], Checkpoint]
    write: Callable[[BinaryIO, Contents], None]


_TORCH = Format(torch_file.open_checkpoint, torch_writer.write)
_SAFETENSORS = Format(safetensors_file.open_checkpoint, safetensors_file.write)

FORMATS = {
    ".bin": _TORCH,
    ".ckpt": _TORCH,
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".safetensors": _SAFETENSORS,
}

#: The folders that are checkpoints, as messages tell of them.
FOLDERS = (
    "the folder of a model (with model.safetensors, or shards of it and their index) or of an "
    "adapter, or one that torch.distributed.checkpoint wrote"
)

# What stands in place of a large file that Git has not fetched.
_LFS_POINTER = b"version https://git-lfs"


def format_of(path: Path, error: type[MergeError]) -> Format:
    """The format that the path's suffix stands for, else an `error` that lists the suffixes."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise error(
            f"`{path}` is of no known format: its name must end in one of {', '.join(FORMATS)}."
        )
    return FORMATS[suffix]


def is_checkpoint_folder(path: Path) -> bool:
    """Whether that folder is one checkpoint, and not a folder that may hold some."""
    return path.is_dir() and (is_distributed(path) or main_file(path) is not None)


def open_checkpoint(path: Path, key: str | None) -> Checkpoint:
    """Open a file or folder; raises `UnreadableInput` where it is no whole checkpoint."""
    try:
        if not path.exists():
            raise UnreadableInput(f"`{path}` does not exist. Check the path.")
        if path.is_dir():
            return _open_folder(path, key)
        found = format_of(path, UnreadableInput)
        _require_fetched(path)
        return found.open(path, key)
    except OSError as error:
        raise UnreadableInput(f"`{path}` cannot be read: {error.strerror or error}.") from error


def _open_folder(path: Path, key: str | None) -> Checkpoint:
    if is_distributed(path):
        return open_distributed(path, key)
    main = main_file(path)
    if main is None:
        raise UnreadableInput(f"The folder `{path}` is no checkpoint. One is {FOLDERS}.")
    _require_fetched(path / main)
    return open_folder(path, key)


def _require_fetched(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise UnreadableInput(
                f"`{path}` is not the file itself but what Git LFS keeps in its place. Fetch it "
                "with `git lfs pull`."
            )
