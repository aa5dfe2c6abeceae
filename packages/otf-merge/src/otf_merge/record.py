"""What a merged file says about how it was made."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Any

from .errors import UnreadableInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from .checkpoints.checkpoint import Checkpoint

# Small enough to stay in a core's own cache between being read and being hashed.
_CHUNK = 1 << 18
_UNKNOWN = "0" * 64


class Hashes:
    """The SHA-256 of the inputs' files, taken in a thread beside the merge.

    `entries` is what the record says of inputs. Files are told by name and hash, not by path, so
    that sharing a merged file tells nothing of the machine it was made on. The hashes stand as
    zeros of the same length in it until `wait` has returned.
    """

    def __init__(self, checkpoints: Iterable[Checkpoint], *, wanted: bool = True) -> None:
        self._wanted = wanted
        self._targets: list[tuple[Path, dict[str, Any], str]] = []
        self.entries = [self._entry(checkpoint) for checkpoint in checkpoints]
        self._error: OSError | None = None
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otf-merge-hash", daemon=True)

    def start(self) -> None:
        """Start to hash."""
        self._thread.start()

    def wait(self) -> None:
        """Return once every hash is in its entry."""
        self._thread.join()
        if self._error is not None:
            raise UnreadableInput(
                f"An input cannot be read to its end: {self._error.strerror or self._error}."
            ) from self._error

    def give_up(self) -> None:
        """Stop soon: nobody wants the hashes any more."""
        self._given_up.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _entry(self, checkpoint: Checkpoint) -> dict[str, Any]:
        entry: dict[str, Any] = {"file": checkpoint.path.name}
        if not self._wanted:
            return entry
        if checkpoint.files == (checkpoint.path,):
            entry["sha256"] = _UNKNOWN
            self._targets.append((checkpoint.path, entry, "sha256"))
            return entry
        entry["sha256"] = {file.name: _UNKNOWN for file in checkpoint.files}
        self._targets += [(file, entry["sha256"], file.name) for file in checkpoint.files]
        return entry

    def _run(self) -> None:
        try:
            for path, entry, key in self._targets:
                entry[key] = sha256(path, self._given_up.is_set)
        except OSError as error:
            self._error = error


def sha256(path: Path, given_up: Callable[[], bool] = lambda: False) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while (size := file.readinto(buffer)) and not given_up():
            digest.update(view[:size])
    return digest.hexdigest()


def effective(weights: Sequence[float]) -> list[float]:
    """The weights as shares of 1."""
    total = sum(weights)
    return [weight / total for weight in weights]
