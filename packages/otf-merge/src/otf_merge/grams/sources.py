"""Where each checkpoint's Gram matrices come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..alignment.aligned import AlignedCheckpoint
from ..batches import first_samples, moved, size_of
from ..errors import InvalidInputs, InvalidTask, MissingNeed
from ..evaluation import device_of, in_modes_of, model_with, names_between, names_in
from ..progress import part_of, unwatched
from ..randomness import seeded
from ..task import users_code
from .gathering import GramGatherer
from .layers import KEY, Grams

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from ..parents import Parent
    from ..progress import Progress
    from ..task import Task


@dataclass(frozen=True)
class GramSources:
    """The Gram matrices of each checkpoint, under the first one's names, and where they are from."""

    grams: tuple[Grams, ...]
    report: dict[str, Any]


def gram_sources(
    parents: Sequence[Parent],
    *,
    files: Sequence[Path] = (),
    task: Task | None = None,
    samples: int = 256,
    seed: int = 0,
    progress: Progress = unwatched,
) -> GramSources:
    """The Gram matrices of the parents' layers: from files, from data, or from the checkpoints.

    `files` are what `Grams.save` wrote, one for each parent. With a task that has training data,
    each parent looks at the first `samples` samples of its domain, or of all of `train`, in
    evaluation mode. Else they are read from the checkpoints, where a trainer has kept them under
    the key `grams`. Raises `MissingNeed` where there are none, with the ways to come by them.
    """
    if files:
        found, source = _from_files(parents, files), "file"
    elif task is not None and task.has_training_data:
        return _from_task(parents, task, samples, seed, progress)
    else:
        found, source = _from_checkpoints(parents), "checkpoint"
    renamed = [_as_in(parents[0], parent, it) for parent, it in zip(parents, found)]
    return GramSources(tuple(renamed), {"source": source})


def gathered(
    model: nn.Module,
    data: Iterable[Any],
    task: Task,
    samples: int = 256,
    seed: int = 0,
    progress: Progress = unwatched,
) -> tuple[Grams, int]:
    """The Gram matrices of a model's layers over the first samples of `data`, and their number.

    The model is in evaluation mode meanwhile; modes and random generators are afterwards as they
    were.
    """
    done = 0
    gatherer = GramGatherer(model)
    with seeded(seed, data), in_modes_of(model), torch.no_grad(), gatherer:
        model.eval()
        place = device_of(model)
        for batch in first_samples(data, samples):
            with users_code("The task's `outputs`"):
                task.outputs(model, moved(batch, place))
            done += size_of(batch)
            progress(done, max(samples, done), "samples")
    if not done:
        raise InvalidTask(
            "The task's training data has no batches, or none the second time, and Gram matrices "
            "are taken over samples. Give a loader or a list."
        )
    return gatherer.grams(), done


def _from_files(parents: Sequence[Parent], files: Sequence[Path]) -> list[Grams]:
    if len(files) != len(parents):
        raise InvalidInputs(
            f"There are {len(parents)} checkpoints and {len(files)} files of Gram matrices. Give "
            "one for each checkpoint, in their order."
        )
    for parent in parents:
        if isinstance(parent.checkpoint, AlignedCheckpoint):
            raise InvalidInputs(
                f"The Gram matrices for `{parent.label}` were gathered before its hidden units were "
                "put in another order. Give a --task, to gather them anew, or leave --align out."
            )
    return [Grams.load(file) for file in files]


def _from_task(
    parents: Sequence[Parent], task: Task, samples: int, seed: int, progress: Progress
) -> GramSources:
    found, counts = [], []
    for place, parent in enumerate(parents):
        state = dict(parent.tensors())
        model = model_with(task, state)
        data = task.data_of(place, len(parents))
        watched = part_of(progress, place, len(parents))
        grams, count = gathered(model, data, task, samples, seed, watched)
        ours = names_in(model, state)
        found.append(grams.renamed(ours))
        counts.append(count)
    return GramSources(tuple(found), {"source": "task", "samples": counts})


def _from_checkpoints(parents: Sequence[Parent]) -> list[Grams]:
    states: list[Mapping[str, Any] | None] = [
        parent.extra(KEY)  # noqa: S610 - a checkpoint's, not a query's
        for parent in parents
    ]
    without = [parent.label for parent, state in zip(parents, states) if not state]
    if without:
        raise MissingNeed(
            "RegMean needs to know what goes into each layer, as Gram matrices, and there is "
            f"nothing to tell it for {', '.join(f'`{it}`' for it in without)}. There are three "
            "ways: --task module:function, to gather them from data; --grams FILES, one for each "
            "checkpoint, as `otf_merge.grams.Grams.save` writes them; or checkpoints in which the "
            f"trainer kept them under the key `{KEY}`."
        )
    return [
        Grams.from_state(state, f"`{parent.label}`")
        for parent, state in zip(parents, states)
        if state
    ]


def _as_in(first: Parent, parent: Parent, grams: Grams) -> Grams:
    """The Gram matrices under the first checkpoint's names."""
    ours = names_between(list(grams), list(first.names))
    if not ours:
        raise InvalidInputs(
            f"The Gram matrices for `{parent.label}` are of none of its tensors: they are of "
            f"`{next(iter(grams))}`, for example. Give those of the same model."
        )
    return grams.renamed(ours)
