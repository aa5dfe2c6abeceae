"""What every checkpoint file looks like to the rest of the package."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

# The key under which a merged checkpoint says what it was made of.
RECORD_KEY = "otf_merge"


class TensorSpec(NamedTuple):
    """What is known of a tensor before it is read."""

    dtype: torch.dtype
    shape: tuple[int, ...]


class Checkpoint(ABC):
    """An open checkpoint file: the specs of its tensors at once, the tensors one by one.

    `nesting` is the key under which the file keeps its tensors, if it keeps other things too, and
    `left_out` are the keys of those other things.
    """

    def __init__(
        self,
        path: Path,
        specs: Mapping[str, TensorSpec],
        nesting: str | None = None,
        left_out: tuple[str, ...] = (),
    ) -> None:
        self.path = path
        self.specs = specs
        self.nesting = nesting
        self.left_out = left_out

    @abstractmethod
    def read(self, name: str) -> torch.Tensor:
        """The tensor of that name, on the CPU. It may be the file's own memory: only look."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""


@dataclass(frozen=True)
class Contents:
    """What a writer is given: it pulls the tensors one by one, in the order that suits it."""

    specs: Mapping[str, TensorSpec]
    produce: Callable[[str], torch.Tensor]
    record: Mapping[str, Any]
    nesting: str | None
