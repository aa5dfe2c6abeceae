"""Normalisation statistics that fit a model's own activations, as after a merge they do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from .batches import in_turn, moved, size_of
from .errors import InvalidTask
from .evaluation import device_of, in_modes_of
from .randomness import seeded
from .task import users_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import nn

    from .task import Task

#: The fewest batches that statistics are taken from, the data gone through again if need be.
FEWEST = 10


class Recalibrated(NamedTuple):
    """What `recalibrate` did: how many layers' statistics it took, from how much."""

    layers: int
    batches: int
    samples: int


def has_running_statistics(model: nn.Module) -> bool:
    """Whether a part of the model keeps running statistics of what goes through it."""
    return bool(_layers(model))


def recalibrate(
    model: nn.Module,
    task: Task,
    data: Iterable[Any] | None = None,
    batches: int = 100,
) -> Recalibrated:
    """Take the running statistics of all normalisation layers anew, from the training data.

    They are the plain means of the batches' statistics (`momentum=None`, a cumulative average), as
    `torch.optim.swa_utils.update_bn` takes them: over one pass of `data`, which is the task's
    training data unless given, but no more than `batches` batches and no fewer than ten. Batches of
    one sample have no variance and are left out. Only these layers are in training mode meanwhile,
    so that dropout does not act; modes, momenta and random generators are afterwards as they were.
    A layer counts the batches in `num_batches_tracked`.
    """
    layers = _layers(model)
    if not layers:
        return Recalibrated(0, 0, 0)
    sources = task.training_sources() if data is None else [data]
    momenta = [layer.momentum for layer in layers]
    place = device_of(model)
    seen = samples = 0
    with seeded(0, *sources), in_modes_of(model), torch.no_grad():
        model.eval()
        for layer in layers:
            layer.reset_running_stats()
            layer.train()
            layer.momentum = None
        try:
            for batch in _usable(sources, batches):
                with users_code("The task's `outputs`"):
                    task.outputs(model, moved(batch, place))
                seen += 1
                samples += size_of(batch)
        finally:
            for layer, momentum in zip(layers, momenta):
                layer.momentum = momentum
    return Recalibrated(len(layers), seen, samples)


def _layers(model: nn.Module) -> list[Any]:
    """The layers that keep running statistics: those of torch, and what is derived from them."""
    return [
        part
        for part in model.modules()
        if isinstance(part, torch.nn.modules.batchnorm._NormBase)  # noqa: SLF001 - their one base
        and part.running_mean is not None
    ]


def _usable(sources: Sequence[Iterable[Any]], most: int) -> Iterator[Any]:
    """Batches of more than one sample: of one pass, but at most `most`, and at least ten."""
    most = max(most, FEWEST)
    used = 0
    while used < FEWEST:
        before = used
        for batch in in_turn(sources):
            if size_of(batch) > 1:
                yield batch
                used += 1
                if used == most:
                    return
        if used == before:
            raise InvalidTask(
                "The task's training data has no batches of more than one sample, or none the "
                "second time, and normalisation statistics are taken over batches. Give a loader "
                "with a greater batch size, or a list."
            )
