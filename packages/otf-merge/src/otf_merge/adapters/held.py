"""A merged adapter in memory, to be looked at like one in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..checkpoints.checkpoint import Checkpoint, TensorSpec
from ..parents import Parent
from .config import config_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


class Held(Checkpoint):
    """Tensors in memory, with the configuration of the checkpoint that they are written like."""

    def __init__(
        self, state: Mapping[str, Tensor], like: Checkpoint, changes: Mapping[str, Any]
    ) -> None:
        specs = {name: TensorSpec(it.dtype, tuple(it.shape)) for name, it in state.items()}
        super().__init__(like.path, specs)
        self._state = state
        config = config_of(like)
        self._config = None if config is None else {**config.values, **changes}

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Those elements of the tensor, flat."""
        return self._state[name].reshape(-1)[start:stop]

    def extra(self, key: str) -> Any:
        """The configuration, which is all that is kept beside the tensors."""
        return self._config if key == "adapter_config" else None

    def close(self) -> None:
        """Nothing is open."""


def held(state: Mapping[str, Tensor], like: Checkpoint, changes: Mapping[str, Any]) -> Parent:
    """The tensors as a parent under their own names."""
    return Parent(Held(state, like, changes), {name: name for name in state})
