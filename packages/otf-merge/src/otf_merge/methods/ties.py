"""TIES: trim the deltas, elect signs, and average what agrees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from torch import Tensor

from ..measures import Cutoffs
from ..parameters import Range
from ..registry import merge_method
from .deltas import kept, left_out, sizes
from .elections import Consensus, Draw, Vote, elected


@merge_method(
    "ties",
    summary="The mean of the greatest deltas that agree in sign.",
    paper="arXiv:2306.01708",
    granularity="element",
    measures={"cutoffs": lambda given: Cutoffs([left_out(given["density"])], given["scope"])},
)
def ties(
    tensors: Sequence[Tensor],
    *,
    base: Tensor,
    weights: Sequence[float],
    cutoffs: Sequence[Tensor],
    density: Annotated[
        float,
        "the share of each checkpoint's deltas that is kept, the greatest ones; mergekit's default "
        "is 1, which trims nothing",
        Range(0, 1),
    ] = 0.2,
    scope: Annotated[
        Literal["model", "tensor"],
        "what the density is a share of: the whole model (paper), or each tensor (mergekit, PEFT)",
    ] = "model",
    scale: Annotated[
        float, "what the merged delta is multiplied with; the paper searches it from 0.8 to 2.5"
    ] = 1.0,
    vote: Vote = "mass",
    draw: Draw = "base",
    consensus: Consensus = "mean",
) -> Tensor:
    """Trim, elect, fuse: `base + scale * sum(w[i] * d[i]) / sum(w[i])` over parents that agree.

    1. Of each checkpoint's deltas `d[i] = t[i] - base` the greatest are kept, a share of `density`
       of the whole model; the others are zero. Equal sizes at the cutoff are all kept.
    2. The sign of each weight is that of `sum(w[i] * d[i])`.
    3. The deltas with that sign are averaged. Where there is none, the base stays.

    All tensors have one shape, and so has the result. Yadav et al. 2023, "TIES-Merging: Resolving
    Interference When Merging Models", arXiv:2306.01708, which has no weights: they multiply the
    deltas in both sums. mergekit is `scope="tensor", draw="positive"`, PEFT `scope="tensor",
    draw="positive", consensus="count"`, fusion_bench `consensus="sum", scale=0.3`.
    """
    deltas = [trimmed(tensor - base, least) for tensor, least in zip(tensors, cutoffs[0].tolist())]
    return elected(
        tensors, base, deltas, weights, scale=scale, vote=vote, draw=draw, consensus=consensus
    )


def trimmed(delta: Tensor, least: float) -> Tensor:
    """The delta, in place, zero where its size is below the least that is kept."""
    return kept(delta, sizes(delta).ge_(least))
