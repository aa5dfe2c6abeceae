"""Where in a step the first value arises that is not finite: in the forward pass, or going back."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import nn

from ..batches import tensors
from .modules import named
from .tensors import described

_HALVES = (torch.float16, torch.bfloat16)


class Origin(NamedTuple):
    """The layer at which it begins, what was seen there, and whether it was so before it."""

    name: str
    value: str
    has_good_inputs: bool
    has_bad_weights: bool


class Origins:
    """Watches one step of a model: every module's inputs and outputs, and the gradients of these.

    `forward` and `backward` are afterwards where the first bad value of each pass was; `halves` are
    the greatest magnitudes of the outputs that have half precision, by the module's name.
    """

    def __init__(self, model: nn.Module) -> None:
        self.forward: Optional[Origin] = None
        self.backward: Optional[Origin] = None
        self.halves: Dict[str, Tuple[torch.dtype, float]] = {}
        self._model = model
        self._hooks: List[Any] = []
        self._largest: List[Tuple[str, torch.dtype, torch.Tensor]] = []

    def __enter__(self) -> Origins:
        for name, module in self._model.named_modules():
            self._hooks.append(module.register_forward_hook(self._output_of(named(name, module))))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def settle(self) -> None:
        """Read what was left on the device."""
        for name, dtype, largest in self._largest:
            before = self.halves.get(name, (dtype, 0.0))[1]
            self.halves[name] = (dtype, max(before, float(largest)))

    def _output_of(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            for tensor in _real(output):
                if self.forward is None and not _is_finite(tensor):
                    self.forward = Origin(
                        name,
                        f"output: {described(tensor)}",
                        all(_is_finite(given) for given in _real(args)),
                        _has_bad_weights(module),
                    )
                if tensor.dtype in _HALVES and tensor.numel():
                    largest = torch.linalg.vector_norm(tensor.detach(), ord=float("inf"))
                    self._largest.append((name, tensor.dtype, largest))
                if tensor.requires_grad:
                    tensor.register_hook(self._gradient_at(name, module))

        return hook

    def _gradient_at(self, name: str, module: nn.Module) -> Any:
        def hook(gradient: torch.Tensor) -> None:
            if self.backward is None and not _is_finite(gradient):
                value = f"gradient: {described(gradient)}"
                self.backward = Origin(name, value, True, _has_bad_weights(module))

        return hook


def _real(values: Any) -> List[torch.Tensor]:
    return [tensor for tensor in tensors(values) if tensor.is_floating_point()]


def _is_finite(tensor: torch.Tensor) -> bool:
    return bool(torch.isfinite(tensor.detach()).all())


def _has_bad_weights(module: nn.Module) -> bool:
    held = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return any(each.is_floating_point() and not _is_finite(each) for each in held)
