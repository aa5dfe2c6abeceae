"""What `watch` is given, checked before anything begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional

import torch

from ...errors import ArgumentError
from .several import (
    as_one_module,
    as_one_optimizer,
    as_one_scheduler,
    named,
    unwrapped_module,
    unwrapped_optimizer,
    unwrapped_scheduler,
)


class NoScaler:
    """The state of a scaler where no loss is scaled."""

    def state_dict(self) -> Dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Nothing is to be put back."""


@dataclass(frozen=True)
class Watched:
    """What the script trains, and with what; several as one.

    `model` has no parameters where the script gave none. `optimizers` are those that have hooks.
    """

    model: torch.nn.Module
    has_model: bool
    optimizer: Any
    optimizers: Dict[str, torch.optim.Optimizer]
    scheduler: Any
    scaler: Any
    loss_fn: Any

    @property
    def scales(self) -> bool:
        """Whether losses are scaled, so that infinite gradients are the scaler's business."""
        return bool(self.scaler.state_dict())

    def findings(self) -> List[str]:
        """What going back cannot put back, because the script did not give it."""
        found = []
        if self.has_model and not self.optimizers:
            found.append(
                "watch was given no optimizer: what it remembers is in no checkpoint. Pass "
                "optimizer= to watch."
            )
        if self.scheduler is None and any(
            "initial_lr" in group for group in self.optimizer.param_groups
        ):
            found.append(
                "The optimizer has a scheduler, and watch was given none: its place is in no "
                "checkpoint. Pass scheduler= to watch."
            )
        return found


def check(*, model: Any, optimizer: Any, scheduler: Any, scaler: Any, loss_fn: Any) -> Watched:
    """The arguments of `watch`, or an error that names the one that is wrong."""
    modules = {n: unwrapped_module(one) for n, one in named("model", model).items()}
    optimizers = {n: unwrapped_optimizer(one) for n, one in named("optimizer", optimizer).items()}
    schedulers = {n: unwrapped_scheduler(one) for n, one in named("scheduler", scheduler).items()}
    _check_kind("model", modules, torch.nn.Module, "a torch.nn.Module, a dict or a list of them")
    _check_kind(
        "optimizer",
        optimizers,
        torch.optim.Optimizer,
        "a torch.optim.Optimizer, a dict or a list of them",
    )
    _check_state("scheduler", schedulers)
    _check_state("scaler", named("scaler", scaler))
    _check_optimizers(modules, optimizers)
    return Watched(
        model=as_one_module(modules) if modules else torch.nn.Module(),
        has_model=bool(modules),
        optimizer=as_one_optimizer(optimizers),
        optimizers=optimizers,
        scheduler=as_one_scheduler(schedulers),
        scaler=NoScaler() if scaler is None else scaler,
        loss_fn=loss_fn,
    )


def check_loader(loader: Any) -> None:
    """Raise `ArgumentError` where a pass over it cannot be begun anew."""
    if isinstance(loader, torch.utils.data.Dataset) or not hasattr(loader, "__iter__"):
        raise ArgumentError(
            f"run.batches was given a {type(loader).__name__}, which yields no batches. Wrap it: "
            "run.batches(torch.utils.data.DataLoader(..., batch_size=32))."
        )
    if hasattr(loader, "__next__"):
        raise ArgumentError(
            "run.batches was given an iterator, which is empty after one pass. Pass what it was "
            "made from: a DataLoader, or an object whose __iter__ starts anew. Where batches are "
            "counted, count inside: for number, batch in enumerate(run.batches(loader), run.batch)."
        )


def _check_kind(name: str, parts: Dict[str, Any], kind: type, expected: str) -> None:
    for part in parts.values():
        if not isinstance(part, kind):
            raise ArgumentError(f"{name} is a {type(part).__name__}; watch takes {expected}.")


def _check_state(name: str, parts: Dict[str, Any]) -> None:
    for part in parts.values():
        if not (hasattr(part, "state_dict") and hasattr(part, "load_state_dict")):
            raise ArgumentError(
                f"{name} is a {type(part).__name__}, which has no state_dict and load_state_dict: "
                "it could not be put back. Pass one of torch's."
            )


def _check_optimizers(
    modules: Dict[str, torch.nn.Module], optimizers: Dict[str, torch.optim.Optimizer]
) -> None:
    if not optimizers:
        return
    if not modules:
        raise ArgumentError(
            "watch was given an optimizer and no model: a checkpoint needs both. Pass the model: "
            "onthefly.watch(model, optimizer, ...)."
        )
    parameters = {id(p) for module in modules.values() for p in module.parameters()}
    if not parameters:
        raise ArgumentError("model has no parameters, so there is nothing to train.")
    for name, optimizer in optimizers.items():
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        if not any(id(tensor) in parameters for tensor in trained):
            which = "optimizer" if len(optimizers) == 1 else f"The optimizer '{name}'"
            raise ArgumentError(
                f"{which} holds none of model's parameters, so going back would not undo what it "
                "does. Make it from them, after the model is where it is to be trained: "
                "torch.optim.AdamW(model.parameters())."
            )


def first_parameter(model: torch.nn.Module) -> Optional[torch.Tensor]:
    """The first parameter that is trained, by whose version an update is seen."""
    return next((p for p in model.parameters() if p.requires_grad), None)
