"""The steps of the native front: the default ones, and what a script's own are called with."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Callable, ContextManager, Dict, Optional

import torch

from ..batches import part
from ..errors import StepError
from .setup import Setup

#: A step as a script writes it: from a batch and the loop's state to a dict of metrics.
Step = Callable[[Any, Dict[str, Any]], "Mapping[str, Any]"]


_SEQUENCES = (list, tuple)
_PAIR = 2


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
        self.scaler = _cuda_scaler() if enabled else _PassThrough()

    def autocast(self) -> ContextManager[Any]:
        """The context in which forward and loss are computed."""
        if self._type is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device, dtype=self._type)


def _cuda_scaler() -> Any:
    # Since torch 2.3 under its general name; the older one warns since 2.4.
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda")
    return torch.cuda.amp.GradScaler()


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


def default_training_step(setup: Setup, precision: Precision, clip: Optional[float]) -> Step:
    """Forward, backward, an optimizer step: what a script's own training step replaces."""
    model, optimizer, loss_fn = setup.model, setup.optimizer, setup.loss_fn
    scaler = precision.scaler
    clear_gradients = _gradient_clearer(optimizer)
    unit = torch.ones((), device=setup.device) if scaler.state_dict() else None
    assert loss_fn is not None

    def plain(batch: Any, state: Dict[str, Any]) -> Dict[str, Any]:
        clear_gradients()
        if type(batch) in _SEQUENCES and len(batch) == _PAIR and type(batch[0]) is torch.Tensor:
            output, target = model(batch[0]), batch[1]
        else:
            args, kwargs, target = part(batch)
            output = model(*args, **kwargs)
        loss = loss_fn(output, target)
        if type(loss) is not torch.Tensor or loss.ndim:
            checked_loss(loss, "loss_fn")
        loss.backward()
        optimizer.step()
        return {"loss": loss}

    def scaled(batch: Any, state: Dict[str, Any]) -> Dict[str, Any]:
        clear_gradients()
        args, kwargs, target = part(batch)
        with precision.autocast():
            loss = checked_loss(loss_fn(model(*args, **kwargs), target), "loss_fn")
        scaler.scale(loss).backward()
        metrics = {"loss": loss}
        if clip is not None:
            scaler.unscale_(optimizer)
            metrics["grad_norm"] = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()
        if unit is not None:
            # The scale of the next step, without asking the device for it.
            metrics["loss_scale"] = scaler.scale(unit)
        return metrics

    # Two, and the usual batch in place: every statement of a step is paid for millions of times.
    return plain if setup.amp_type is None and clip is None else scaled


def _gradient_clearer(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """What `optimizer.zero_grad()` does, without the profiler's record around it.

    That record costs a short step more than all that is recorded of the step. An optimizer with a
    `zero_grad` of its own is left to it.
    """
    own = "zero_grad" in vars(optimizer)
    if own or type(optimizer).zero_grad is not torch.optim.Optimizer.zero_grad:
        return optimizer.zero_grad

    def clear() -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    return clear


def own_training_step(step: Step, before: Callable[[], None]) -> Step:
    """A script's own training step, with a look at what it returns; `before` is called first."""

    def checking(batch: Any, state: Dict[str, Any]) -> Mapping[str, Any]:
        before()
        metrics = step(batch, state)
        check_loss(metrics)
        return metrics

    return checking


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


def check_loss(metrics: Any) -> None:
    """Raise `StepError` where what a training step returned holds no usable loss."""
    if type(metrics) is not dict and not isinstance(metrics, Mapping):
        raise StepError(
            f"The training step returned {_described(metrics)}. It must return a dict with a "
            "'loss', such as {'loss': loss, 'accuracy': accuracy}."
        )
    if "loss" not in metrics:
        raise StepError(
            f"The training step returned a dict with the keys {sorted(map(str, metrics))} and no "
            "'loss'. Add the loss of the step: return {'loss': loss, ...}."
        )
    checked_loss(metrics["loss"], "training step")


def checked_loss(loss: Any, source: str) -> Any:
    """The loss, where it is a number or a tensor with one element; else `StepError`."""
    # Not isinstance at first: torch's goes through Python, and this runs every step.
    if type(loss) is torch.Tensor and loss.ndim == 0:
        return loss
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
