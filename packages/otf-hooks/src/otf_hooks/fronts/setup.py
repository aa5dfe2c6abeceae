"""What `Trainer.fit` is asked to train: its arguments, checked before anything begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, List, Optional, Union

import torch

from ..errors import ArgumentError, DeviceMismatch
from ..loaders import Loader

AmpOption = Union[bool, str, torch.dtype]

_AMP_TYPES = {
    "bf16": torch.bfloat16,
    "bfloat16": torch.bfloat16,
    "fp16": torch.float16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Setup:
    """One call of `fit`, checked: everything a loop needs to know.

    `device` is where batches are moved to; None leaves them where the loader put them (a model
    that is spread over several devices). `amp_type` is None without mixed precision.
    """

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    loss_fn: Optional[Callable[..., Any]]
    train_loader: Loader
    val_loader: Optional[Loader]
    test_loader: Optional[Loader]
    scheduler: Any
    scheduler_interval: str
    device: Optional[torch.device]
    amp_type: Optional[torch.dtype]
    grad_clip_norm: Optional[float]


def check(
    *,
    model: Any,
    optimizer: Any,
    loss_fn: Any,
    train_loader: Any,
    val_loader: Any,
    test_loader: Any,
    scheduler: Any,
    scheduler_interval: str,
    device: Any,
    amp: AmpOption,
    grad_clip_norm: Optional[float],
    needs_loss_fn: bool,
    needs_test_loader: bool,
) -> Setup:
    """The arguments of `fit` as a `Setup`, or an error that names the one that is wrong."""
    if not isinstance(model, torch.nn.Module):
        raise _wrong("model", "a torch.nn.Module", model)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise _wrong("optimizer", "a torch.optim.Optimizer", optimizer)
    if needs_loss_fn and not callable(loss_fn):
        raise _wrong("loss_fn", "a function of (output, target)", loss_fn)
    _check_loader("train_loader", train_loader, required=True)
    _check_loader("val_loader", val_loader, required=False)
    _check_loader("test_loader", test_loader, required=False)
    if needs_test_loader and test_loader is None:
        raise ArgumentError("do_test_after=True needs data to test on: pass test_loader= to fit.")
    _check_scheduler(scheduler, scheduler_interval, val_loader)
    is_number = isinstance(grad_clip_norm, (int, float)) and not isinstance(grad_clip_norm, bool)
    if grad_clip_norm is not None and not (is_number and grad_clip_norm > 0):
        raise ArgumentError(
            f"grad_clip_norm is {grad_clip_norm!r}; it is a norm greater than 0, or None."
        )
    target = _target_device(model, device)
    _check_devices(model, optimizer, loss_fn, target)
    return Setup(
        model=model,
        optimizer=optimizer,
        loss_fn=loss_fn,
        train_loader=train_loader,
        val_loader=val_loader,
        test_loader=test_loader,
        scheduler=scheduler,
        scheduler_interval=scheduler_interval,
        device=target,
        amp_type=_amp_type(amp, target),
        grad_clip_norm=grad_clip_norm,
    )


def _wrong(name: str, expected: str, value: Any) -> ArgumentError:
    if value is None:
        return ArgumentError(f"fit needs {name}=: pass {expected}.")
    return ArgumentError(f"{name} is a {type(value).__name__}; fit needs {expected}.")


def _check_loader(name: str, loader: Any, *, required: bool) -> None:
    if loader is None:
        if required:
            raise ArgumentError(f"fit needs {name}=: pass a DataLoader or any iterable of batches.")
        return
    if isinstance(loader, torch.utils.data.Dataset) or not hasattr(loader, "__iter__"):
        raise ArgumentError(
            f"{name} is a {type(loader).__name__}, which yields no batches. Wrap it: "
            f"{name}=torch.utils.data.DataLoader(..., batch_size=32)."
        )
    # Not `iter(loader) is loader`: making an iterator draws from torch's generator.
    if hasattr(loader, "__next__"):
        raise ArgumentError(
            f"{name} is an iterator, which is empty after one pass. Pass what it was made from: a "
            "DataLoader, or an object whose __iter__ starts anew."
        )


def _check_scheduler(scheduler: Any, interval: str, val_loader: Any) -> None:
    if interval not in ("epoch", "step"):
        raise ArgumentError(f"scheduler_interval is {interval!r}; it is 'epoch' or 'step'.")
    if scheduler is not None and not hasattr(scheduler, "step"):
        raise _wrong("scheduler", "a scheduler of torch.optim.lr_scheduler", scheduler)
    plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
    if plateau and (val_loader is None or interval != "epoch"):
        raise ArgumentError(
            "scheduler is a ReduceLROnPlateau, which follows val_loss: pass val_loader= to fit, "
            "and leave scheduler_interval at 'epoch'."
        )


def _target_device(model: torch.nn.Module, device: Any) -> Optional[torch.device]:
    if device is not None:
        try:
            chosen = torch.device(device)
            model.to(chosen)
        except (RuntimeError, AssertionError, TypeError) as error:
            raise ArgumentError(f"device is {device!r}, which cannot be used: {error}") from error
    devices = _devices_of(model)
    if torch.device("meta") in devices:
        raise DeviceMismatch(
            "model is on the device 'meta', which holds shapes and no numbers. Materialise it "
            "first: model.to_empty(device='cpu'), then load or initialise its weights."
        )
    return devices[0] if len(devices) == 1 else None


def _check_devices(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: Any,
    device: Optional[torch.device],
) -> None:
    trained = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    parameters = {id(tensor) for tensor in model.parameters()}
    if parameters and not any(id(tensor) in parameters for tensor in trained):
        raise ArgumentError(
            "optimizer holds none of model's parameters, so training would change nothing. Make "
            "it from them: torch.optim.AdamW(model.parameters())."
        )
    if device is None or not isinstance(loss_fn, torch.nn.Module):
        return
    for found in _devices_of(loss_fn):
        if found != device:
            raise DeviceMismatch(
                f"loss_fn has tensors on {found} and model is on {device}. Move it before fit: "
                f"loss_fn.to('{device}')."
            )


def _devices_of(module: torch.nn.Module) -> List[torch.device]:
    held = [*module.parameters(), *module.buffers()]
    return sorted({tensor.device for tensor in held}, key=str)


def _amp_type(amp: AmpOption, device: Optional[torch.device]) -> Optional[torch.dtype]:
    if amp is False or amp is None:
        return None
    if amp is True:
        on_cuda = device is not None and device.type == "cuda"
        return torch.float16 if on_cuda else torch.bfloat16
    found = _AMP_TYPES.get(amp) if isinstance(amp, str) else amp
    if found not in (torch.float16, torch.bfloat16):
        raise ArgumentError(
            f"amp is {amp!r}; it is True, False, 'bf16', 'fp16' or one of torch's two half types."
        )
    return found
