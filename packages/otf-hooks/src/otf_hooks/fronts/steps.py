"""The steps of the native front: the default ones, and what a script's own are called with."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, ContextManager, Dict, Mapping, Optional

import torch

from ..batches import part
from ..errors import StepError
from .setup import Setup

#: A step as a script writes it: from a batch and the loop's state to a dict of metrics.
Step = Callable[[Any, Dict[str, Any]], Mapping[str, Any]]


class Precision:
    """Mixed precision for one `fit`: the autocast context and the gradient scaler.

    The scaler is used for float16 alone, whose gradients underflow without it; elsewhere it is
    disabled and passes everything through unchanged.
    """

    def __init__(self, setup: Setup) -> None:
        device = setup.device.type if setup.device is not None else "cpu"
        self._device = device
        self._type = setup.amp_type
        enabled = setup.amp_type is torch.float16 and device == "cuda"
        self.scaler = torch.cuda.amp.GradScaler(enabled=True) if enabled else _PassThrough()

    def autocast(self) -> ContextManager[Any]:
        """The context in which forward and loss are computed."""
        if self._type is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device, dtype=self._type)


class _PassThrough:
    """What a GradScaler does when there is nothing to scale."""

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        return loss

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        pass

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        optimizer.step()

    def update(self) -> None:
        pass

    def state_dict(self) -> Dict[str, Any]:
        return {}


def training_step(batch: Any, state: Dict[str, Any]) -> Dict[str, Any]:
    """The default step: forward, backward, an optimizer step."""
    optimizer, scaler = state["optimizer"], state["scaler"]
    parts = part(batch)
    optimizer.zero_grad(set_to_none=True)
    with state["autocast"]:
        output = state["model"](*parts.args, **parts.kwargs)
        loss = checked_loss(state["loss_fn"](output, parts.target), "loss_fn")
    scaler.scale(loss).backward()
    if state["grad_clip_norm"] is not None:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(state["model"].parameters(), state["grad_clip_norm"])
    scaler.step(optimizer)
    scaler.update()
    return {"loss": loss}


def validation_step(batch: Any, state: Dict[str, Any]) -> Dict[str, Any]:
    """The default evaluation of a batch: the loss, and the accuracy where targets are classes."""
    parts = part(batch)
    with state["autocast"]:
        output = state["model"](*parts.args, **parts.kwargs)
        loss = checked_loss(state["loss_fn"](output, parts.target), "loss_fn")
    metrics = {"loss": loss}
    accuracy = class_accuracy(output, parts.target)
    if accuracy is not None:
        metrics["accuracy"] = accuracy
    return metrics


def class_accuracy(output: Any, target: Any) -> Optional[torch.Tensor]:
    """The share of right classes for logits (N, C, ...) and class indices (N, ...), else None."""
    if not isinstance(output, torch.Tensor) or not isinstance(target, torch.Tensor):
        return None
    if target.is_floating_point() or output.ndim == 1 or output.ndim != target.ndim + 1:
        return None
    if output.shape[1] == 1 or output.shape[:1] + output.shape[2:] != target.shape:
        return None
    return (output.argmax(dim=1) == target).float().mean()


def loss_of(metrics: Any, step: str) -> Any:
    """The loss in what a training step returned, checked."""
    if not isinstance(metrics, Mapping):
        raise StepError(
            f"The {step} returned {_described(metrics)}. It must return a dict with a 'loss', such "
            "as {'loss': loss, 'accuracy': accuracy}."
        )
    if "loss" not in metrics:
        raise StepError(
            f"The {step} returned a dict with the keys {sorted(map(str, metrics))} and no 'loss'. "
            "Add the loss of the step: return {'loss': loss, ...}."
        )
    return checked_loss(metrics["loss"], step)


def checked_loss(loss: Any, source: str) -> Any:
    """The loss, where it is a number or a tensor with one element; else `StepError`."""
    if isinstance(loss, torch.Tensor):
        if loss.numel() == 1:
            return loss
        remedy = (
            "Use reduction='mean', or reduce it: loss.mean()."
            if source == "loss_fn"
            else "Reduce it before it is returned: loss.mean()."
        )
        raise StepError(
            f"The loss from {source} is a tensor of shape {tuple(loss.shape)}, not a scalar. "
            + remedy
        )
    if isinstance(loss, (int, float)):
        return loss
    raise StepError(
        f"The loss from {source} is {_described(loss)}; it must be a tensor with one element."
    )


def _described(value: Any) -> str:
    return "nothing (None)" if value is None else f"a {type(value).__name__}"
