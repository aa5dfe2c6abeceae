"""One model's Fisher diagonal, read piece by piece like a checkpoint."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Callable, NamedTuple

import torch

from ..checkpoints.checkpoint import Checkpoint, TensorSpec
from ..errors import InvalidInputs
from ..pieces import cut

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from torch import Tensor


class Part(NamedTuple):
    """One tensor's Fisher information: `(stored - offset) * factor`.

    `read` gives the stored elements `start` to `stop`, flat.
    """

    spec: TensorSpec
    read: Callable[[int, int], Tensor]
    factor: float = 1.0
    offset: float = 0.0

    @classmethod
    def of(cls, tensor: Tensor, factor: float = 1.0, offset: float = 0.0) -> Part:
        """The part that is a tensor, in memory or mapped from a file."""
        flat = tensor.detach().reshape(-1)
        spec = TensorSpec(tensor.dtype, tuple(tensor.shape))
        return cls(spec, lambda start, stop: flat[start:stop], factor, offset)

    @classmethod
    def stored_in(cls, checkpoint: Checkpoint, name: str) -> Part:
        """The part that is a tensor of an open checkpoint."""
        return cls(checkpoint.specs[name], functools.partial(checkpoint.read, name))


class Diagonal(Checkpoint):
    """The Fisher diagonal of one checkpoint, as a checkpoint of its own.

    `path` is the file that it is of or from, for messages. What is read is divided by `scale`; a
    tensor of `even` has an information of one everywhere.
    """

    def __init__(
        self,
        path: Path,
        parts: Mapping[str, Part],
        *,
        scale: float = 1.0,
        even: Mapping[str, TensorSpec] | None = None,
    ) -> None:
        self.parts = parts
        self._scale = scale
        self._even = even or {}
        specs = {
            name: TensorSpec(precision(it.spec.dtype), it.spec.shape) for name, it in parts.items()
        }
        super().__init__(path, {**specs, **self._even})

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Those elements of the scaled diagonal, flat, in float32 at least."""
        dtype, _ = spec = self.specs[name]
        stop = spec.numel if stop is None else stop
        if name in self._even:
            return torch.ones(stop - start, dtype=dtype)
        _, read, factor, offset = self.parts[name]
        values = read(start, stop).to(device="cpu", dtype=dtype, copy=True)
        return (values.sub_(offset) if offset else values).mul_(factor / self._scale)

    def close(self) -> None:
        """Nothing is open here: the checkpoint that it is of closes its file."""

    def scaled(self, scale: float, even: Mapping[str, TensorSpec]) -> Diagonal:
        """The same diagonal in units of `scale`, with one everywhere in the tensors of `even`."""
        parts = {name: part for name, part in self.parts.items() if name not in even}
        return Diagonal(self.path, parts, scale=self._scale * scale, even=even)

    def mean_square(
        self, names: Collection[str], told: Callable[[int], None] = lambda nbytes: None
    ) -> float:
        """The mean of the squared elements of those tensors; `told` of every portion of bytes.

        Raises `InvalidInputs` where one is negative or not finite, as no Fisher information is.
        """
        total, count = 0.0, 0
        for name in names:
            shape = self.specs[name].shape
            for start, stop, _ in cut(shape, "element"):
                piece = self.read(name, start, stop)
                square = float(piece.to(torch.float64).square().sum())
                if not math.isfinite(square) or bool((piece < 0).any()):
                    raise InvalidInputs(
                        f"The Fisher information of `{name}` from `{self.path.name}` has negative "
                        "elements, or such that are not finite. It is a mean of squares: look at "
                        "how it was computed."
                    )
                total += square
                told(piece.numel() * piece.element_size())
            count += math.prod(shape)
        return total / count if count else 0.0


def precision(dtype: torch.dtype) -> torch.dtype:
    """The dtype of a tensor's Fisher information: float32, of wider tensors float64."""
    return torch.float64 if dtype in (torch.float64, torch.complex128) else torch.float32
