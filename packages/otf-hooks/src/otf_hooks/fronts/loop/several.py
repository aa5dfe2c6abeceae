"""Several models, optimizers or schedulers as one, and each of them without what wraps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Dict, List

import torch

from ...errors import ArgumentError

#: Under which name the wrappers of parallel training and of `torch.compile` hold a module.
_WRAPPED_AS = ("module", "_orig_mod")
_WRAPPERS = ("DistributedDataParallel", "DataParallel", "OptimizedModule")


class Optimizers:
    """The script's optimizers as one: their parameter groups are counted through, from 0."""

    def __init__(self, parts: Mapping[str, torch.optim.Optimizer]) -> None:
        self.parts = dict(parts)

    @property
    def param_groups(self) -> List[Dict[str, Any]]:
        """The groups of all, by reference."""
        return [group for part in self.parts.values() for group in part.param_groups]

    @property
    def state(self) -> Dict[Any, Any]:
        """What all remember of each parameter, by reference."""
        return {key: kept for part in self.parts.values() for key, kept in part.state.items()}

    def state_dict(self) -> Dict[str, Any]:
        """The states by name; and all groups, by which a checkpoint is compared with a script."""
        states = {name: part.state_dict() for name, part in self.parts.items()}
        groups = [group for state in states.values() for group in state["param_groups"]]
        return {"parts": states, "param_groups": groups}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put each state back; a `KeyError` names one that is missing."""
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])


class Schedulers:
    """The script's schedulers, which it steps itself, as one state."""

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self._parts = dict(parts)

    def state_dict(self) -> Dict[str, Any]:
        """The states by name."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put each state back; a `KeyError` names one that is missing."""
        for name, part in self._parts.items():
            part.load_state_dict(state[name])


def named(what: str, given: Any) -> Dict[str, Any]:
    """What a script gave as one, as a dict or as a list, by name."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {str(name): part for name, part in given.items()}
    if isinstance(given, (list, tuple)):
        return {str(number): part for number, part in enumerate(given)}
    return {what: given}


def as_one_module(parts: Mapping[str, torch.nn.Module]) -> torch.nn.Module:
    """A module that holds all of them under their names, or the only one; they stay what they are."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    try:
        return torch.nn.ModuleDict(dict(parts))
    except KeyError as error:
        raise ArgumentError(
            f"model has a name that cannot be used: {error.args[0]}. Names are words without dots, "
            "such as {'generator': ..., 'critic': ...}."
        ) from error


def as_one_optimizer(parts: Mapping[str, torch.optim.Optimizer]) -> Any:
    """The only one, or one that stands for all."""
    return next(iter(parts.values())) if len(parts) == 1 else Optimizers(parts)


def as_one_scheduler(parts: Mapping[str, Any]) -> Any:
    """None, the only one, or one that stands for all."""
    if not parts:
        return None
    return next(iter(parts.values())) if len(parts) == 1 else Schedulers(parts)


def unwrapped_module(model: Any) -> Any:
    """The module inside of what `torch.compile` and parallel training put around it."""
    while type(model).__name__ in _WRAPPERS:
        inner = next((getattr(model, n) for n in _WRAPPED_AS if hasattr(model, n)), None)
        if inner is None:
            break
        model = inner
    return model


def unwrapped_optimizer(optimizer: Any) -> Any:
    """The optimizer inside of Accelerate's, which passes all on but has no hooks."""
    while isinstance(getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = optimizer.optimizer
    return optimizer


def unwrapped_scheduler(scheduler: Any) -> Any:
    """The scheduler inside of Accelerate's."""
    inner = getattr(scheduler, "scheduler", None)
    return scheduler if inner is None or not hasattr(inner, "state_dict") else inner
