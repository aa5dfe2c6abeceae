"""Which files are meant by the paths that were given, and opening them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ..errors import InvalidInputs, UnreadableInput
from .formats import FORMATS, format_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from .checkpoint import Checkpoint

_FEWEST = 2


def files_of(paths: Iterable[Path], outputs: Collection[Path]) -> list[Path]:
    """The checkpoint files meant by `paths`: each file, and each folder's files by name.

    From a folder none of `outputs` is taken: a merge that is repeated does not merge its own
    result of the last time.
    """
    results = {output.resolve() for output in outputs}
    files: list[Path] = []
    for path in paths:
        files += _folder_files(path, results) if path.is_dir() else [path]
    if len(files) < _FEWEST:
        named = f"only `{files[0]}`" if files else "none"
        raise InvalidInputs(
            f"A merge needs at least two checkpoints, and there is {named}. Name more files, or "
            "a folder that holds them."
        )
    return files


def _folder_files(folder: Path, results: set[Path]) -> list[Path]:
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in FORMATS and path.is_file() and path.resolve() not in results
    )
    if not found:
        raise InvalidInputs(
            f"The folder `{folder}` holds no checkpoints, that is no files that end in one of "
            f"{', '.join(FORMATS)}."
        )
    return found


@contextlib.contextmanager
def opened(files: Sequence[Path], key: str | None) -> Iterator[list[Checkpoint]]:
    """The files as open checkpoints, closed again with the block."""
    with contextlib.ExitStack() as stack:
        checkpoints = []
        for file in files:
            checkpoint = _open(file, key)
            stack.callback(checkpoint.close)
            checkpoints.append(checkpoint)
        yield checkpoints


def _open(file: Path, key: str | None) -> Checkpoint:
    try:
        if not file.exists():
            raise UnreadableInput(f"`{file}` does not exist. Check the path.")
        return format_of(file, UnreadableInput).open(file, key)
    except OSError as error:
        raise UnreadableInput(f"`{file}` cannot be read: {error.strerror or error}.") from error
