"""TIES' second half, which other methods share: signs are elected, what agrees is fused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor

from ..combining import combination
from .deltas import moved

Vote = Annotated[
    Literal["mass", "count"],
    "what elects the sign of each weight: the sum of the weighted deltas (paper), or how many "
    "deltas have it (mergekit's and PEFT's other choice)",
]
Draw = Annotated[
    Literal["base", "positive"],
    "what is taken where the vote is a draw: the base (paper), or the positive deltas (mergekit "
    "and PEFT)",
]
Consensus = Annotated[
    Literal["mean", "sum", "count"],
    "how the deltas that agree are fused: their weighted mean (paper, and mergekit's TIES and "
    "DELLA), their weighted sum (fusion_bench, and mergekit's other methods), or their weighted "
    "sum divided by their count, with weights that have no say in the vote (PEFT)",
]


def elected(
    tensors: Sequence[Tensor],
    base: Tensor,
    deltas: Sequence[Tensor],
    weights: Sequence[float],
    *,
    scale: float,
    vote: Literal["mass", "count"],
    draw: Literal["base", "positive"],
    consensus: Literal["mean", "sum", "count"],
) -> Tensor:
    """Fuse, weight by weight, the deltas that have the elected sign, and add them to the base.

    `deltas` are those of `tensors`, zero where they were dropped; a zero delta takes no part. All
    have one shape, and so has the result: with the consensus `mean`
    `base + scale * (sum(w[i] * t[i]) / sum(w[i]) - base)` over the parents that agree, and the
    base where none does.
    """
    voices = [1.0] * len(weights) if consensus == "count" else weights
    signs = _signs(deltas, voices, vote, draw)
    if consensus == "mean":
        # The mean of the tensors, not that of the deltas, so that copies merge to themselves; and
        # in units of the greatest weight, so that a lone one takes no part in the arithmetic.
        greatest = max(weights)
        total, count = _agreeing(tensors, deltas, signs, [it / greatest for it in weights])
        nobody = count.eq(0).to(count.dtype)
        mean = total.addcmul_(base, nobody).div_(count.add_(nobody))
        return mean if scale == 1 else moved(base, mean.sub_(base).mul_(scale))
    total, _ = _agreeing(deltas, deltas, signs, weights)
    if consensus == "count":
        total.div_(_agreeing(deltas, deltas, signs, voices)[1].clamp_(min=1))
    return moved(base, total.mul_(scale))


def _signs(deltas: Sequence[Tensor], voices: Sequence[float], vote: str, draw: str) -> Tensor:
    """The elected sign of each weight: 1 or -1, or 0 for a draw that the base wins."""
    votes = deltas if vote == "mass" else [delta.sign() for delta in deltas]
    signs = combination(votes, voices).sign_()
    return signs.add_(0.5).sign_() if draw == "positive" else signs


def _agreeing(
    values: Sequence[Tensor], deltas: Sequence[Tensor], signs: Tensor, weights: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """The weighted sum of the values whose deltas have the elected sign, and that of the weights."""
    # -0.0, like in `combination`, changes nothing when something is added.
    total, count = torch.full_like(signs, -0.0), torch.zeros_like(signs)
    for value, delta, weight in zip(values, deltas, weights):
        if weight:
            agrees = (delta * signs).gt_(0)
            total.addcmul_(value, agrees, value=weight)
            count.add_(agrees, alpha=weight)
    return total, count
