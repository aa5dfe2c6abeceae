"""A checkpoint with its hidden units in another order."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ..checkpoints.checkpoint import Checkpoint
from ..errors import InvalidInputs
from ..parents import Parent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from .units import Permutations, PermutationSpec

# Where a trainer keeps Gram matrices in a checkpoint.
GRAMS = "grams"


class AlignedCheckpoint(Checkpoint):
    """What another checkpoint holds, permuted as it is read.

    A tensor that is permuted is in memory whole while its pieces are read, one at a time; others
    are read as ever. Closing it closes nothing: the checkpoint that it reads is somebody else's.

    `extra` is the other checkpoint's, as it is stored. What there is in it for each weight, such as
    an optimizer's second moments, must go through `reordered` before it is used beside the weights;
    `in_order_of` does the same with a whole checkpoint of such things. Gram matrices cannot be had, since
    their order is that of a layer's inputs.
    """

    def __init__(self, parent: Parent, spec: PermutationSpec, permutations: Permutations) -> None:
        self.original = parent.checkpoint
        self.spec = spec
        self.permutations = permutations
        super().__init__(
            self.original.path,
            self.original.specs,
            files=self.original.files,
            nesting=self.original.nesting,
            left_out=self.original.left_out,
            ties=self.original.ties,
        )
        self._moved = {own: name for name, own in parent.names.items() if name in spec.axes}
        self._last: tuple[str, Tensor] | None = None
        self._lock = threading.Lock()

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Those elements of the tensor as it is now, flat."""
        if name not in self._moved:
            return self.original.read(name, start, stop)
        return self._permuted(name)[start:stop]

    def close(self) -> None:
        """Let go of the last tensor."""
        self._last = None

    def extra(self, key: str) -> Any:
        """What else the file keeps, as it is stored.

        Raises `InvalidInputs` for Gram matrices.
        """
        found = self.original.extra(key)  # noqa: S610 - a checkpoint's, not a query's
        if key == GRAMS and found is not None:
            raise InvalidInputs(
                f"The Gram matrices in `{self.path}` were gathered before its hidden units were put "
                "in another order. Give a --task, to gather them anew, or leave --align out."
            )
        return found

    def reordered(self, name: str, tensor: Tensor) -> Tensor:
        """A tensor that goes with one of the weights, by the first checkpoint's name, in their order."""
        return self.spec.permuted(name, tensor, self.permutations)

    def _permuted(self, name: str) -> Tensor:
        with self._lock:
            if self._last is None or self._last[0] != name:
                whole = self.original.read(name).reshape(self.specs[name].shape)
                moved = self.spec.permuted(self._moved[name], whole, self.permutations)
                self._last = (name, moved.reshape(-1))
            return self._last[1]


def in_order_of(parent: Parent, other: Checkpoint, names: Mapping[str, str]) -> Checkpoint:
    """What goes with a parent's weights, such as their Fisher information, in the parent's order.

    `names` has `other`'s names of the tensors by the first checkpoint's. Where the parent is not
    aligned it is `other` itself.
    """
    aligned = parent.checkpoint
    if not isinstance(aligned, AlignedCheckpoint):
        return other
    return AlignedCheckpoint(Parent(other, names), aligned.spec, aligned.permutations)
