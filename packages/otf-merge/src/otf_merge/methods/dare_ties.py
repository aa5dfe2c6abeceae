"""DARE before TIES: random thinning, then the election of signs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from ..registry import merge_method
from .dare_linear import DropRate, Rescale, Seed, dropped
from .elections import Consensus, Draw, Vote, elected


@merge_method(
    "dare-ties",
    summary="The mean of randomly thinned, rescaled deltas that agree in sign.",
    paper="arXiv:2311.03099",
    granularity="element",
    symmetric=False,
)
def dare_ties(
    tensors: Sequence[Tensor],
    *,
    base: Tensor,
    weights: Sequence[float],
    generator: torch.Generator,
    drop_rate: DropRate = 0.9,
    rescale: Rescale = True,
    scale: Annotated[float, "what the merged delta is multiplied with"] = 1.0,
    vote: Vote = "mass",
    draw: Draw = "base",
    consensus: Consensus = "mean",
    seed: Seed = 0,
) -> Tensor:
    """Thin deltas as `dare-linear` does, then elect signs and fuse what agrees as `ties` does.

    `base + scale / (1 - p) * sum(w[i] * d[i]) / sum(w[i])` over the parents whose thinned delta
    `d[i]` has the elected sign, and the base where none has. All tensors have one shape, and so has
    the result. Yu et al. 2024, arXiv:2311.03099, and Yadav et al. 2023, arXiv:2306.01708.

    There is no trimming by size: the authors' code trims to the greatest 20 % after dropping, which
    from a drop rate of 0.8 on takes nothing away, and mergekit and PEFT leave it out as well.
    mergekit fuses by `consensus="sum"`, PEFT by `consensus="count"`, both with `draw="positive"`.
    """
    deltas = list(dropped(tensors, base, drop_rate, generator))
    return elected(
        tensors,
        base,
        deltas,
        weights,
        scale=scale / (1 - drop_rate) if rescale else scale,
        vote=vote,
        draw=draw,
        consensus=consensus,
    )
