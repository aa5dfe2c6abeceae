"""The files of checkpoints, held open: what the trainer deletes meanwhile stays readable."""

import contextlib
from pathlib import Path
from typing import BinaryIO, Dict, Iterator, Sequence, Set

from ..events import CheckpointSaved
from .draft import key_of

#: As many are held at once; a process may have some 1,000 files open.
_MOST = 200


class FileGone(Exception):
    """A checkpoint's file cannot be opened."""


class FileMissing(FileGone):
    """A checkpoint's file is not there."""


class HeldFiles:
    """The files of some checkpoints of a session, until it is closed.

    `missing` are the keys of those that were not there.
    """

    def __init__(self, folder: Path, checkpoints: Sequence[CheckpointSaved]) -> None:
        self._folder = folder
        self._files: Dict[str, BinaryIO] = {}
        self.missing: Set[str] = set()
        # The trainer deletes those that are not pinned, and a best one when there is a better one.
        each = {key_of(saved): saved for saved in checkpoints}.values()
        at_risk = sorted(each, key=lambda saved: saved.pinned and saved.label != "best")
        for saved in at_risk[:_MOST]:
            try:
                self._files[key_of(saved)] = opened(self._folder / saved.path)
            except FileGone:
                self.missing.add(key_of(saved))

    def close(self) -> None:
        """Let go of all of them."""
        for file in self._files.values():
            file.close()

    @contextlib.contextmanager
    def open(self, saved: CheckpointSaved) -> Iterator[BinaryIO]:
        """A checkpoint's file, at its beginning; `FileGone` where there is none."""
        held = self._files.get(key_of(saved))
        if held is not None:
            held.seek(0)
            yield held
        else:
            with opened(self._folder / saved.path) as file:
                yield file


def opened(path: Path) -> BinaryIO:
    """A file that is there; `FileGone` where it is not."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise FileMissing("its file is missing") from None
    except OSError as error:
        raise FileGone(f"its file cannot be opened ({error.strerror or error})") from error
