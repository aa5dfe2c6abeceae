"""What a merged file says about how it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from .checkpoints.checkpoint import Checkpoint
    from .hashing import Hashing

_UNKNOWN = "0" * 64


class Inputs:
    """What the record says of inputs, as `entries`: for each its name and SHA-256.

    Files are told by name and hash, not by path, so that sharing a merged file tells nothing of the
    machine it was made on. The hashes are taken beside the merge, and stand as zeros of the same
    length until `settle` has returned. Without `hashing` there are none.
    """

    def __init__(self, checkpoints: Iterable[Checkpoint], hashing: Hashing | None) -> None:
        self._hashing = hashing
        self._targets: list[tuple[Path, dict[str, Any], str]] = []
        self.entries = [self._entry(checkpoint) for checkpoint in checkpoints]
        if hashing is not None:
            hashing.begin(path for path, _, _ in self._targets)

    def settle(self) -> None:
        """Put every hash into its entry, once it is known."""
        if self._hashing is not None:
            for path, entry, key in self._targets:
                entry[key] = self._hashing.sha256(path)

    def _entry(self, checkpoint: Checkpoint) -> dict[str, Any]:
        entry: dict[str, Any] = {"file": checkpoint.path.name}
        if self._hashing is None:
            return entry
        if checkpoint.files == (checkpoint.path,):
            entry["sha256"] = _UNKNOWN
            self._targets.append((checkpoint.path, entry, "sha256"))
            return entry
        entry["sha256"] = {file.name: _UNKNOWN for file in checkpoint.files}
        self._targets += [(file, entry["sha256"], file.name) for file in checkpoint.files]
        return entry


def effective(weights: Sequence[float]) -> list[float]:
    """The weights as shares of 1, or as they are where one is negative and they are no shares."""
    if min(weights) < 0:
        return list(weights)
    total = sum(weights)
    return [weight / total for weight in weights]
