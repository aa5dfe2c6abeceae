"""Model Breadcrumbs with TIES' election of signs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor

from ..registry import merge_method
from .breadcrumbs import Density, Gamma, Scope, band_of, between
from .elections import Consensus, Draw, Vote, elected


@merge_method(
    "breadcrumbs-ties",
    summary="The mean of deltas that agree in sign and are neither small nor outliers.",
    paper="arXiv:2312.06795",
    granularity="element",
    measures={"band": band_of},
)
def breadcrumbs_ties(
    tensors: Sequence[Tensor],
    *,
    base: Tensor,
    weights: Sequence[float],
    band: Sequence[Tensor],
    density: Density = 0.15,
    gamma: Gamma = 0.006,
    scope: Scope = "tensor",
    scale: Annotated[float, "what the merged delta is multiplied with"] = 1.0,
    vote: Vote = "mass",
    draw: Draw = "base",
    consensus: Consensus = "mean",
) -> Tensor:
    """Leave out both tails as `breadcrumbs` does, then elect signs and fuse as `ties` does.

    `base + scale * sum(w[i] * d[i]) / sum(w[i])` over the parents whose masked delta `d[i]` has the
    elected sign, and the base where none has. All tensors have one shape, and so has the result.

    A combination that mergekit made, with `consensus="sum", draw="positive"`, of Davari and
    Belilovsky 2023, arXiv:2312.06795, and Yadav et al. 2023, arXiv:2306.01708.
    """
    deltas = list(between(tensors, base, band))
    return elected(
        tensors, base, deltas, weights, scale=scale, vote=vote, draw=draw, consensus=consensus
    )
