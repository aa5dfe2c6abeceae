"""The base that adapters belong to, as the task's model, and its modules by their paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InvalidTask
from ..evaluation import model_of, model_with

if TYPE_CHECKING:
    from torch import nn

    from ..parents import Parent
    from ..task import Task


def base_model(task: Task, base: Parent | None) -> nn.Module:
    """The task's model in evaluation mode, with the base's weights or, without a base, its own."""
    if base is not None:
        # All of the base's tensors, not only those whose names adapters have too.
        checkpoint = base.checkpoint
        return model_with(
            task,
            {it: checkpoint.read(it).reshape(spec.shape) for it, spec in checkpoint.specs.items()},
        )
    model = model_of(task)
    if task.device is not None:
        model.to(task.device)
    model.eval()
    return model


def submodule(model: nn.Module, path: str, label: str) -> nn.Module:
    """The model's module of that path; raises `InvalidTask` where it has none."""
    found: nn.Module | None = dict(model.named_modules()).get(path)
    if found is None or not path:
        raise InvalidTask(
            f"`{label}` adapts `{path}`, and the task's model has no module of that path. Let the "
            "task's `model` make the base that the adapters were trained on."
        )
    return found
