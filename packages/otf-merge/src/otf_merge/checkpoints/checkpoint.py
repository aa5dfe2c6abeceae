"""What every checkpoint looks like to the rest of the package."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import torch

# The key under which a merged checkpoint says what it was made of.
RECORD_KEY = "otf_merge"


class TensorSpec(NamedTuple):
    """What is known of a tensor before it is read."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """How many elements the tensor has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes its elements take."""
        return self.numel * self.dtype.itemsize


class Checkpoint(ABC):
    """An open checkpoint: its tensors' specs at once, their elements when they are asked for.

    It is a file or a folder.

    `path` is what the user named; `files` are those that hold the weights. `nesting` is the key
    under which the file keeps its tensors, if it keeps other things too, and `left_out` are the
    keys of those other things. `ties` are the groups of names that share one memory. `optimizer`
    is the optimizer's state dict, where the file has one: it is looked for only when asked.
    """

    def __init__(
        self,
        path: Path,
        specs: Mapping[str, TensorSpec],
        *,
        files: Sequence[Path] = (),
        nesting: str | None = None,
        left_out: tuple[str, ...] = (),
        ties: Sequence[tuple[str, ...]] = (),
    ) -> None:
        self.path = path
        self.specs = specs
        self.files = tuple(files) or (path,)
        self.nesting = nesting
        self.left_out = left_out
        self.ties = tuple(ties)

    @abstractmethod
    def read(self, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """The elements `start` to `stop` of that tensor in row-major order, flat, on the CPU.

        It may be the file's own memory: only look, and do not keep it. Several threads read at
        once. Raises `UnreadableInput` where the file has become unreadable.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the files."""

    def extra(self, key: str) -> Any:
        """What else the file keeps under `key`, such as an optimizer's state; None without it."""
        return None


@dataclass(frozen=True)
class Contents:
    """What a writer is given.

    `stream` yields, for the names it is asked for and in their order, each tensor's elements as
    flat pieces, in the dtypes of `specs`. `record` is complete, at the same length, once `settle` has
    returned: hashes are taken beside the stream. `ties` are names that are to share one memory; only the first of
    each group is streamed.
    """

    specs: Mapping[str, TensorSpec]
    stream: Any
    record: Mapping[str, Any]
    nesting: str | None = None
    ties: Sequence[tuple[str, ...]] = ()
    settle: Callable[[], None] = lambda: None

    def pieces(self, names: Sequence[str]) -> Iterator[tuple[str, torch.Tensor]]:
        """The names with their pieces: `(name, flat tensor)`, several times for a long tensor."""
        yield from self.stream(names)
