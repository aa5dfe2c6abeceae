"""Averaging where each weight counts as much as its model knows about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor

from ..parameters import Range
from ..registry import merge_method


@merge_method(
    "fisher",
    summary="The average in which each weight counts by its Fisher information.",
    paper="arXiv:2111.09832",
    granularity="element",
)
def fisher(
    tensors: Sequence[Tensor],
    *,
    fisher: Sequence[Tensor],
    weights: Sequence[float],
    floor: Annotated[
        float,
        "the least Fisher information of a weight, in units of its root mean square over the model",
        Range(above=0),
    ] = 1e-6,
    normalize: Annotated[
        bool,
        "divide each checkpoint's Fisher information by its L2 length over the whole model; "
        "without it the one with the greater gradients counts more",
    ] = True,
    source: Annotated[
        Literal["auto", "file", "task", "optimizer"],
        "where the Fisher information comes from: files, the task's data, or the optimizer's state "
        "in the checkpoints; auto takes the first of these that is there",
    ] = "auto",
    kind: Annotated[
        Literal["true", "sampled", "empirical"],
        "with a task: the mean over all classes, over one class drawn from the model's own "
        "predictions, or the gradient of the task's loss at the data's labels",
    ] = "true",
    seed: Annotated[int, "of the draws of kind=sampled, and of the data's order"] = 0,
) -> Tensor:
    """Merge by `sum(w[i] * F[i] * t[i]) / sum(w[i] * F[i])`, element by element.

    Matena and Raffel 2022, "Merging Models with Fisher-Weighted Averaging", arXiv:2111.09832. It is
    the mode of the product of the models' posteriors, each taken as a normal distribution around
    its weights whose precision is the diagonal of its Fisher information F. `tensors` and `fisher`
    have one shape, which the result has too.

    F comes as `otf_merge.fisher.fisher_sources` scales it, so that its root mean square over a
    model is 1. With `normalize`, as in the authors' code, that is so for each model; the factor by
    which this differs from their L2 length of 1 is the same for all, and keeps the unit of `floor`
    from depending on the model's size. Without it, all are divided by one number.

    `floor` is the least that F counts, above and below the line alike: where no model knows
    anything of a weight, the result is their average by `weights`. (Adding a constant below the
    line alone, as in other implementations, pulls such weights to zero.)
    """
    greatest = max(weights)
    parts = [
        (tensor, _real(own).clamp_min(floor).mul_(weight / greatest))
        for tensor, own, weight in zip(tensors, fisher, weights)
        if weight
    ]
    (low, information), *others = parts
    high, total = low, low * information
    for tensor, share in others:
        total.add_(tensor * share)
        information.add_(share)
        if not tensor.is_complex():
            low, high = torch.minimum(low, tensor), torch.maximum(high, tensor)
    total.div_(information)
    if total.is_complex():
        return total if others else tensors[weights.index(greatest)]
    # A mean lies among what it is taken of. With this, rounding cannot move copies of a model.
    return torch.maximum(torch.minimum(total, high), low)


def _real(information: Tensor) -> Tensor:
    """The information as real numbers; that of complex tensors comes in their dtype."""
    return information.real if information.is_complex() else information
