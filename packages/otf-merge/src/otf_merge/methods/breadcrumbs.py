"""Model Breadcrumbs: neither the smallest nor the greatest of what was learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from ..combining import combination
from ..measures import Cutoffs
from ..parameters import Range
from ..registry import merge_method
from .deltas import kept, left_out, moved, shares_of, sizes
from .task_arithmetic import Normalize, Scale, task_arithmetic

Density = Annotated[
    float,
    "the share of each checkpoint's deltas that is kept; the authors' code starts from 0.15, and "
    "mergekit's default is 1, which drops nothing",
    Range(above=0, most=1),
]
Gamma = Annotated[
    float,
    "the share that is dropped from the greatest deltas, as far as the density leaves any to drop; "
    "the authors' code starts from 0.006, mergekit's default is 0.01",
    Range(0, below=1),
]
Scope = Annotated[
    Literal["tensor", "model"], "what the shares are of: each tensor (paper), or the whole model"
]


class Band(Cutoffs):
    """The sizes of the smallest and the greatest delta that are kept, of each checkpoint.

    Of `m` deltas the `floor(beta * m)` smallest and the `floor(gamma * m)` greatest are left out,
    where `beta = 1 - density - gamma`: at least one is kept of a tensor however small.
    """

    def __init__(self, density: float, gamma: float, scope: Literal["tensor", "model"]) -> None:
        self.gamma = min(gamma, left_out(density))
        self.beta = left_out(density + self.gamma)
        super().__init__([self.beta, left_out(self.gamma)], scope)

    def ranks(self, count: Tensor) -> Tensor:
        """The ranks between which the deltas are kept."""
        below, above = ((it * count).floor().to(torch.int64) for it in (self.beta, self.gamma))
        return torch.cat([below, (count - 1 - above).clamp_(min=0)], dim=1)


def band_of(given: Mapping[str, Any]) -> Band:
    """The measure that `breadcrumbs` takes by its parameters."""
    return Band(given["density"], given["gamma"], given["scope"])


def between(tensors: Sequence[Tensor], base: Tensor, band: Sequence[Tensor]) -> Iterator[Tensor]:
    """Each tensor's delta, zero where its size lies outside of that checkpoint's band."""
    for tensor, least, greatest in zip(tensors, band[0].tolist(), band[1].tolist()):
        delta = tensor - base
        size = sizes(delta)
        yield kept(delta, (size <= greatest).to(size.dtype).mul_(size.ge_(least)))


@merge_method(
    "breadcrumbs",
    summary="The base plus the sum of deltas that are neither small nor outliers.",
    paper="arXiv:2312.06795",
    granularity="element",
    measures={"band": band_of},
    signed=lambda given: not given["normalize"],
)
def breadcrumbs(
    tensors: Sequence[Tensor],
    *,
    base: Tensor,
    weights: Sequence[float],
    band: Sequence[Tensor],
    density: Density = 0.15,
    gamma: Gamma = 0.006,
    scope: Scope = "tensor",
    scale: Scale = 1.0,
    normalize: Normalize = False,
) -> Tensor:
    """Add deltas without their tails: `base + scale * sum(w[i] * m[i] * (t[i] - base))`.

    The masks `m[i]` leave out, of each tensor of each checkpoint, the share `gamma` of the deltas
    that is greatest and as many of the smallest as leave the share `density`. Equal sizes at
    either end are all kept. All tensors have one shape, and so has the result.

    Davari and Belilovsky 2023, "Model Breadcrumbs: Scaling Multi-Task Model Merging with Sparse
    Masks", arXiv:2312.06795; there `beta` is what is left out below, `1 - density - gamma`, and
    the scale is searched.
    """
    if density == 1:
        untouched: Tensor = task_arithmetic(
            tensors, base=base, weights=weights, scale=scale, normalize=normalize
        )
        return untouched
    shares = shares_of(weights, scale, normalize=normalize)
    return moved(base, combination(list(between(tensors, base, band)), shares))
