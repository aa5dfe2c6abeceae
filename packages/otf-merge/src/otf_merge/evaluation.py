"""Models with given tensors in them, and how good they are at the user's task."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from .batches import moved
from .checkpoints.names import counterparts
from .errors import InvalidTask
from .randomness import seeded
from .task import users_code

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from torch import Tensor, nn

    from .task import Task

_SHOWN = 10


class Scores(NamedTuple):
    """What `evaluate` found: means over `samples` rows; a higher metric is better."""

    loss: float
    metric: float
    samples: int

    @property
    def rank(self) -> tuple[float, float]:
        """Greater is better: by the metric, and where that is equal by the loss. NaN is worst."""
        metric, loss = (-math.inf if math.isnan(it) else it for it in (self.metric, -self.loss))
        return metric, loss


def evaluate(
    model: nn.Module,
    task: Task,
    data: Iterable[Any] | None = None,
    device: torch.device | str | None = None,
) -> Scores:
    """The task's loss and metric over `data`, unless given over its validation data.

    The model is in evaluation mode meanwhile; its modes and all random generators are afterwards as
    they were. It moves to `device` where one is given, and the batches to the model.
    Raises `InvalidTask` where there are no batches or the task's functions fail.
    """
    if device is not None:
        model.to(device)
    data = task.validation if data is None else data
    place = device_of(model)
    loss = metric = 0.0
    rows = 0
    with seeded(0, data), in_modes_of(model), torch.no_grad(), users_code("The task"):
        model.eval()
        for batch in data:
            there = moved(batch, place)
            outputs, targets = task.outputs(model, there), task.targets(there)
            loss += float(task.loss(outputs, targets)) * len(outputs)
            metric += float(task.metric(outputs, targets)) * len(outputs)
            rows += len(outputs)
    if not rows:
        raise InvalidTask(
            "The task's data has no batches, or none the second time. Give a loader or a list, "
            "which can be gone through again and again."
        )
    return Scores(loss / rows, metric / rows, rows)


def model_with(task: Task, state: Mapping[str, Tensor]) -> nn.Module:
    """The task's model with those tensors, in evaluation mode, on the task's device."""
    model = model_of(task)
    load_into(model, state)
    if task.device is not None:
        model.to(task.device)
    return model.eval()


def model_of(task: Task) -> nn.Module:
    """The task's model as the user's function makes it, with whatever weights that gives it."""
    with seeded(0), users_code("The task's `model`"):
        model = task.model()
    if not isinstance(model, torch.nn.Module):
        raise InvalidTask(
            f"The task's `model` made a {type(model).__name__}. It must make a `torch.nn.Module`."
        )
    return model


def load_into(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put the tensors into the model, all of them and nothing else.

    Wrappers' prefixes are reconciled. Of tensors that share memory in the model one is enough.
    Raises `InvalidTask`, with the first ten mismatches, where they do not fit.
    """
    own = model.state_dict(keep_vars=True)
    names = names_between(own, state)
    held, wanted = names_in(model, state), set(names.values())
    mismatches = [
        *(f"`{it}`: not in the checkpoint" for it in own if it not in held),
        *(f"`{it}`: not in the model" for it in state if it not in wanted),
        *(
            f"`{name}`: {list(own[name].shape)} in the model, {list(state[theirs].shape)} in the "
            "checkpoint"
            for name, theirs in names.items()
            if own[name].shape != state[theirs].shape
        ),
    ]
    if mismatches:
        shown = mismatches[:_SHOWN]
        if len(mismatches) > _SHOWN:
            shown.append(f"and {len(mismatches) - _SHOWN} more")
        raise InvalidTask(
            "The task's model does not fit the checkpoint:\n  "
            + "\n  ".join(shown)
            + "\nLet the task's `model` make the model that was trained."
        )
    model.load_state_dict({it: state[theirs] for it, theirs in names.items()}, strict=False)


def names_between(model: Collection[str], checkpoint: Collection[str]) -> dict[str, str]:
    """For each of the model's names that has one, the checkpoint's name of the same tensor.

    Beside wrappers' prefixes, one that all of the checkpoint's names begin with is set aside: that
    of the attribute under which a training module keeps the model.
    """
    found = counterparts(model, checkpoint)
    if len(found) == len(model) or not checkpoint:
        return found
    first = next(iter(checkpoint))
    for end in (place + 1 for place, letter in enumerate(first) if letter == "."):
        prefix = first[:end]
        if not all(name.startswith(prefix) for name in checkpoint):
            break
        inner = {name[end:]: name for name in checkpoint}
        beneath = {name: inner[it] for name, it in counterparts(model, inner).items()}
        if len(beneath) > len(found):
            found = beneath
    return found


def names_in(model: nn.Module, checkpoint: Collection[str]) -> dict[str, str]:
    """For each tensor of the model's state, the checkpoint's name of it.

    Of names that share memory in the model, all have that of the first which the checkpoint has.
    """
    own = model.state_dict(keep_vars=True)
    names = names_between(own, checkpoint)
    known: dict[int, str] = {}
    for name, theirs in names.items():
        known.setdefault(id(own[name]), theirs)
    shared = {name: known[id(tensor)] for name, tensor in own.items() if id(tensor) in known}
    return {**shared, **names}


def device_of(model: nn.Module) -> torch.device:
    """Where the model is: the device of its first parameter or buffer."""
    for tensor in [*model.parameters(), *model.buffers()]:
        return tensor.device
    return torch.device("cpu")


@contextlib.contextmanager
def in_modes_of(model: nn.Module) -> Iterator[None]:
    """Afterwards, every part of the model is in the mode that it was in before."""
    modes = [(part, part.training) for part in model.modules()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
