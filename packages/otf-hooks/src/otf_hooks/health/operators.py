"""The operators that a model calls, as they are dispatched: of modules and functions alike.

Seen below autograd, where `nn.ReLU()(x)`, `F.relu(x)`, `x.relu_()` and what attention does inside
are all one operator. What is dispatched is passed on unchanged.
"""

from __future__ import annotations

from typing import Any, Dict, Protocol, Sequence, Tuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .modules import Whereabouts


class Watcher(Protocol):
    """Looks at operators before they are executed, and at what they return."""

    def before(self, operator: str, args: Tuple[Any, ...], where: Whereabouts) -> Any:
        """Called inside the model only; what it returns is passed to `after`."""

    def after(self, seen: Any, result: Any) -> None:
        """Called where `before` returned something else than None."""


class Operators(TorchDispatchMode):
    """While entered, shows watchers what a model calls. Outside the model it shows nothing."""

    def __init__(self, where: Whereabouts, watchers: Sequence[Watcher]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._where = where
        self._watchers = watchers

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Tuple[Any, ...] = (),
        kwargs: Any = None,
    ) -> Any:
        keywords: Dict[str, Any] = kwargs or {}
        if not self._where.is_inside:
            return func(*args, **keywords)
        name = func.overloadpacket.__name__
        # In place it is the same operator, on values that are gone afterwards.
        bare = name.removesuffix("_")
        seen = [(each, each.before(bare, args, self._where)) for each in self._watchers]
        result = func(*args, **keywords)
        for watcher, what in seen:
            if what is not None:
                watcher.after(what, result)
        return result


def channel_dim(tensor: torch.Tensor, where: Whereabouts) -> int:
    """The dimension whose entries are units: by the layer that made the tensor.

    Convolutions and batch normalisation put channels first after the batch, everything else last.
    """
    kinds = (
        torch.nn.modules.conv._ConvNd,  # noqa: SLF001 - what all convolutions have in common
        torch.nn.modules.batchnorm._BatchNorm,  # noqa: SLF001
        torch.nn.GroupNorm,
        torch.nn.modules.instancenorm._InstanceNorm,  # noqa: SLF001
    )
    is_first = isinstance(where.producer, kinds) and tensor.ndim > 1
    return 1 if is_first else tensor.ndim - 1
