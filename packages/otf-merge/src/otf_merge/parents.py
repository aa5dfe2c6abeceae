"""What is merged, as methods that work on whole models see it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from .checkpoints.checkpoint import Checkpoint, TensorSpec


@dataclass(frozen=True)
class Parent:
    """One checkpoint, under the first checkpoint's names.

    `names` says what the checkpoint itself calls each tensor.
    """

    checkpoint: Checkpoint
    names: Mapping[str, str]

    @property
    def label(self) -> str:
        """What to call it in messages and reports: its file's or folder's name."""
        return self.checkpoint.path.name

    @functools.cached_property
    def specs(self) -> dict[str, TensorSpec]:
        """The dtype and shape of each of its tensors."""
        return {name: self.checkpoint.specs[own] for name, own in self.names.items()}

    def tensor(self, name: str) -> Tensor:
        """One tensor in its shape and dtype. It may be the file's own memory: only look."""
        own = self.names[name]
        return self.checkpoint.read(own).reshape(self.checkpoint.specs[own].shape)

    def elements(self, name: str, start: int, stop: int) -> Tensor:
        """Those elements of a tensor, flat, in its dtype. Only look, and do not keep them."""
        return self.checkpoint.read(self.names[name], start, stop)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors with their names, one after the other."""
        for name in self.names:
            yield name, self.tensor(name)

    def state(self) -> dict[str, Tensor]:
        """A state dict that `load_state_dict` takes, in memory of its own."""
        return {name: tensor.clone() for name, tensor in self.tensors()}

    def extra(self, key: str) -> Any:
        """What else the file keeps under `key`, such as an optimizer's state; None without it."""
        return self.checkpoint.extra(key)  # noqa: S610 - a checkpoint's, not a query's
