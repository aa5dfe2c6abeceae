"""DELLA: thin deltas at random, small ones more than great ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Optional

import torch
from torch import Tensor

from ..combining import combination
from ..errors import InvalidParameter
from ..parameters import Range
from ..registry import merge_method
from .dare_linear import Seed
from .deltas import kept, moved, shares_of, sizes
from .elections import Consensus, Draw, Vote, elected

_SPREAD = 0.15
# A size as a float32 without its sign.
_BITS = 31


@merge_method(
    "della",
    summary="The mean of deltas that agree in sign, thinned at random by their rank.",
    paper="arXiv:2406.11617",
    granularity="row",
    symmetric=False,
    signed=lambda given: not given["elect"],
)
def della(
    tensors: Sequence[Tensor],
    *,
    base: Tensor,
    weights: Sequence[float],
    generator: torch.Generator,
    density: Annotated[
        float,
        "the share of deltas that is kept, on average; mergekit's default is 1, which drops nothing",
        Range(above=0, most=1),
    ] = 0.5,
    epsilon: Annotated[
        Optional[float],
        "how much more often than that the greatest delta of a row is kept, and the smallest less "
        "often; the paper's window is twice as wide. By default 0.15 (mergekit), or what the "
        "density leaves room for",
        Range(0, below=1),
    ] = None,
    rescale: Annotated[
        bool,
        "divide each delta that is kept by its chance of being kept (paper); mergekit restores the "
        "sum of sizes of each tensor instead",
    ] = True,
    scale: Annotated[float, "what the merged delta is multiplied with"] = 1.0,
    elect: Annotated[
        bool,
        "elect signs and fuse what agrees (paper); without, all deltas are added up as in "
        "mergekit's della_linear",
    ] = True,
    vote: Vote = "mass",
    draw: Draw = "base",
    consensus: Consensus = "mean",
    seed: Seed = 0,
) -> Tensor:
    """Drop, elect, fuse: `base + scale * sum(w[i] * d[i]) / sum(w[i])` over parents that agree.

    Within each row of `k` weights a delta of rank `r` by size, the smallest having 0, is kept with
    the chance `p = density - epsilon + 2 * epsilon * r / (k - 1)` and then divided by `p`; a row of
    one weight has `p = density`. Signs are then elected, and what agrees is fused, as in `ties`.

    Tensors are matrices of one shape, or pieces of whole rows, and the result has their shape; a
    vector is one row. Deep, Bhardwaj and Poria 2024, "DELLA-Merging: Reducing Interference in
    Model Merging through Magnitude-Based Sampling", arXiv:2406.11617.

    Raises `InvalidParameter` where density and epsilon leave no chance between 0 and 1.
    """
    values: Sequence[Tensor] = tensors
    deltas = [tensor - base for tensor in tensors]
    if density < 1:
        spread = _spread(density, epsilon)
        for delta in deltas:
            chances = _chances(delta, density, spread)
            dice = torch.rand(base.shape, generator=generator, device=base.device)
            kept(delta, dice.lt_(chances))
            if rescale:
                delta.div_(chances)
        values = [moved(base, delta) for delta in deltas]
    if not elect:
        return moved(base, combination(deltas, shares_of(weights, scale, normalize=False)))
    return elected(
        values, base, deltas, weights, scale=scale, vote=vote, draw=draw, consensus=consensus
    )


def _spread(density: float, epsilon: float | None) -> float:
    room = min(density, 1 - density)
    if epsilon is None:
        return min(_SPREAD, room / 2)
    if epsilon < density and density + epsilon <= 1:
        return epsilon
    raise InvalidParameter(
        f"With a density of {density:g} an epsilon of {epsilon:g} keeps some deltas with a chance "
        f"of {density - epsilon:g} and some of {density + epsilon:g}, which must lie between 0 and "
        f"1. Choose an epsilon below {room:g}, or leave it out."
    )


def _chances(delta: Tensor, density: float, spread: float) -> Tensor:
    """The chance of each weight to be kept, by its rank within its row; in the delta's shape."""
    width = delta.shape[-1]
    if width <= 1:
        return torch.full_like(delta, density)
    # The bits of sizes order as they do. After the number of their row all rows are one list of whole
    # numbers, which torch sorts by their digits, in half the time of comparing within each row.
    rows = torch.arange(delta.numel() // width, device=delta.device).unsqueeze(1)
    places = (rows << _BITS).add(sizes(delta).view(torch.int32).reshape(-1, width)).reshape(-1)
    order = torch.sort(places, stable=True).indices
    low, high = density - spread, density + spread
    ramp = torch.linspace(low, high, width, dtype=delta.dtype, device=delta.device)
    chances = torch.empty_like(places, dtype=delta.dtype)
    return chances.scatter_(0, order, ramp.repeat(len(rows))).reshape(delta.shape)
