"""Sums of tensors with coefficients, which most methods end in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


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


def weighted_mean(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """`sum(w[i] * t[i]) / sum(w)`, in the tensors' shape and dtype; the weights are not negative."""
    # In units of the greatest weight, so that weights near the ends of the range of numbers do not
    # take the products out of it, and equal ones are added up as they are and divided once.
    greatest = max(weights)
    shares = [weight / greatest for weight in weights]
    return combination(tensors, shares).div_(sum(shares))
