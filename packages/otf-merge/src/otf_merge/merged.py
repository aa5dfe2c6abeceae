"""What comes out of a merge: streamed as it is computed, or whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from .checkpoints.checkpoint import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from .engine import Engine


class Merged(Protocol):
    """The tensors of the merged model, in flat pieces and in the order they are asked for."""

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """The dtype and shape of each tensor."""

    @property
    def ties(self) -> Sequence[tuple[str, ...]]:
        """The names that share one memory; only the first of each group is streamed."""

    def stream(self, names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        """The tensors of those names, in that order, as flat pieces on the CPU."""


class Streamed:
    """A merge that is computed while it is read."""

    def __init__(self, engine: Engine) -> None:
        self.specs = engine.family.specs
        self.ties: Sequence[tuple[str, ...]] = engine.family.ties
        self.stream = engine.stream


@dataclass(frozen=True)
class Whole:
    """A merged model in memory."""

    state: Mapping[str, Tensor]
    ties: Sequence[tuple[str, ...]] = ()

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """The dtype and shape of each tensor."""
        return {name: TensorSpec(it.dtype, tuple(it.shape)) for name, it in self.state.items()}

    def stream(self, names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        """Each tensor as one piece."""
        for name in names:
            yield name, self.state[name].detach().to("cpu").contiguous().reshape(-1)


def whole(merged: Merged) -> Whole:
    """The merged model in memory; tied names are one tensor."""
    tied = {name: group[0] for group in merged.ties for name in group[1:]}
    names = [name for name in merged.specs if name not in tied]
    flat = {
        name: torch.empty(merged.specs[name].numel, dtype=merged.specs[name].dtype)
        for name in names
    }
    filled = dict.fromkeys(names, 0)
    for name, piece in merged.stream(names):
        start = filled[name]
        filled[name] = start + len(piece)
        flat[name][start : filled[name]] = piece
    own = {name: flat[name].reshape(merged.specs[name].shape) for name in names}
    return Whole({name: own[tied.get(name, name)] for name in merged.specs}, merged.ties)


def with_dtype(specs: Mapping[str, TensorSpec], dtype: torch.dtype) -> dict[str, TensorSpec]:
    """The specs with every floating-point tensor in that dtype."""
    return {
        name: TensorSpec(dtype, spec.shape) if spec.dtype.is_floating_point else spec
        for name, spec in specs.items()
    }
