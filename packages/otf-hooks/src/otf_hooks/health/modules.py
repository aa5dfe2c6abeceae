"""Where in a model something happens: the modules that are being called, by name."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, List, Optional, Tuple

import torch
from torch import nn

from ..errors import NotPossible


def named(name: str, module: nn.Module) -> str:
    """A module as a person finds it in the script: its path and its class."""
    return f"{name or 'model'} ({type(module).__name__})"


class Whereabouts:
    """While entered, knows which module of a model is being called."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._calls: List[Tuple[str, nn.Module]] = []
        self._hooks: List[Any] = []
        #: The class of the last module with weights of its own that was called to its end.
        self.producer: Optional[nn.Module] = None

    def __enter__(self) -> Whereabouts:
        for name, module in self._model.named_modules():
            self._hooks.append(module.register_forward_pre_hook(self._enter(name, module)))
            self._hooks.append(module.register_forward_hook(self._leave, always_call=True))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    @property
    def is_inside(self) -> bool:
        """Whether the model is being called."""
        return bool(self._calls)

    @property
    def module(self) -> nn.Module:
        """The innermost module that is being called."""
        return self._calls[-1][1]

    @property
    def name(self) -> str:
        """Its name, for a person."""
        return named(*self._calls[-1])

    def _enter(self, name: str, module: nn.Module) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            self._calls.append((name, module))

        return hook

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._calls:
            self._calls.pop()
        if isinstance(getattr(module, "weight", None), torch.Tensor):
            self.producer = module


@contextlib.contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """Call the model without what was compiled of it, so that hooks reach its parts.

    Raises `NotPossible` for one that is compiled where torch (before 2.6) cannot do that.
    """
    if not is_compiled(model):
        yield
        return
    stance = getattr(torch.compiler, "set_stance", None)
    if stance is None:
        raise NotPossible(
            "The model is compiled, and torch before 2.6 cannot call it uncompiled for a moment, so "
            "nothing can be seen inside it. Train it uncompiled for this check."
        )
    with stance("force_eager"):
        yield


def is_compiled(model: nn.Module) -> bool:
    """Whether `torch.compile` has wrapped the model or a part of it."""
    parts = list(model.modules())
    return any(
        hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None
        for part in parts
    )
