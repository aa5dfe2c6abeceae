"""The weighted average of checkpoints, as in model soups."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..registry import merge_method


def combination(tensors: Sequence[Tensor], coefficients: Sequence[float]) -> Tensor:
    """`sum(c[i] * t[i])`, in the tensors' shape and dtype.

    A coefficient of zero leaves its tensor out altogether, even where that is not finite.
    """
    parts = [(tensor, it) for tensor, it in zip(tensors, coefficients) if it]
    if not parts:
        # -0.0 and not 0.0: the number that changes nothing when added, not even the sign of -0.0.
        return torch.full_like(tensors[0], -0.0)
    (first, factor), *others = parts
    if factor == 1 and others:
        (second, other), *others = others
        total = torch.add(first, second, alpha=other)
    else:
        total = first * factor
    for tensor, coefficient in others:
        total.add_(tensor, alpha=coefficient)
    return total


@merge_method(
    "linear",
    summary="The weighted average.",
    paper="arXiv:2203.05482",
    granularity="element",
    propagates=True,
)
def linear(tensors: Sequence[Tensor], *, weights: Sequence[float]) -> Tensor:
    """Average tensors of one shape: `sum(w[i] * t[i]) / sum(w)`, in that shape.

    With equal weights and fine-tuned models this is the uniform soup of Wortsman et al. 2022,
    "Model soups", arXiv:2203.05482.

    The sum is taken in the tensors' dtype, which is wider than the stored one. That leaves one
    rounding at the end, so copies of a model average to exactly that model.
    """
    # In units of the greatest weight, so that weights near the ends of the range of numbers do not
    # take the products out of it, and equal ones are added up as they are and divided once.
    greatest = max(weights)
    shares = [weight / greatest for weight in weights]
    return combination(tensors, shares).div_(sum(shares))
