"""The parts of one training step in seconds: forward, backward, optimizer."""

from __future__ import annotations

from typing import Any, Callable, List, NamedTuple, Optional, Sequence

import torch
from torch import nn


class Parts(NamedTuple):
    """Seconds in the model's forward pass, from its end to the optimizer, and in the optimizer."""

    forward: float
    backward: float
    optimizer: float


class Stopwatch:
    """While entered, times the model's calls and the optimizers' steps.

    What lies between the model's last output and the optimizer's step counts as backward: the
    loss, and clipping where there is any. The device is brought to a halt at each mark, since it
    would otherwise still be at work on what the host has left behind.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        clock: Callable[[], float],
        synchronize: Callable[[], None],
    ) -> None:
        self.synchronize = synchronize
        self._model = model
        self._optimizers = optimizers
        self._clock = clock
        self._hooks: List[Any] = []
        self.begin()

    def __enter__(self) -> Stopwatch:
        model = self._model
        self._hooks = [
            model.register_forward_pre_hook(lambda *_: self._called()),
            model.register_forward_hook(lambda *_: self._returned()),
        ]
        for optimizer in self._optimizers:
            self._hooks.append(optimizer.register_step_pre_hook(lambda *_: self._stepping()))
            self._hooks.append(optimizer.register_step_post_hook(lambda *_: self._stepped()))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def begin(self) -> None:
        """A step begins."""
        self._forward = self._optimizer = self._backward = 0.0
        self._mark, self._nested = 0.0, 0
        self._output_at: Optional[float] = None

    def parts(self, ended: float) -> Parts:
        """What was measured since `begin`, of a step that has ended."""
        if self._output_at is not None:
            # No optimizer came after it: the step accumulates gradients.
            self._backward += ended - self._output_at
        return Parts(self._forward, self._backward, self._optimizer)

    def _now(self) -> float:
        self.synchronize()
        return self._clock()

    def _called(self) -> None:
        self._mark = self._now()
        if self._output_at is not None:
            self._backward += self._mark - self._output_at
            self._output_at = None

    def _returned(self) -> None:
        self._output_at = self._now()
        self._forward += self._output_at - self._mark

    def _stepping(self) -> None:
        # One class's step may call that of the class it is made from, which tells it again.
        self._nested += 1
        if self._nested > 1:
            return
        self._mark = self._now()
        if self._output_at is not None:
            self._backward += self._mark - self._output_at
            self._output_at = None

    def _stepped(self) -> None:
        self._nested -= 1
        if self._nested:
            return
        self._optimizer += self._now() - self._mark


def synchronizer(device: Optional[torch.device]) -> Callable[[], None]:
    """What waits until the device has done all it was given; nothing for the CPU."""
    kind = device.type if device is not None else _any_accelerator()
    if kind == "cuda":
        return torch.cuda.synchronize
    if kind == "mps":
        return torch.mps.synchronize
    return _nothing


def _any_accelerator() -> str:
    # A model that is spread over several devices.
    return "cuda" if torch.cuda.is_available() and torch.cuda.is_initialized() else "cpu"


def _nothing() -> None:
    """The CPU has done what it was given when it returns."""
