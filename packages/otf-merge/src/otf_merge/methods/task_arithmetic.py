"""Task arithmetic: the base and the sum of what each checkpoint has learned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from torch import Tensor

from ..combining import combination
from ..registry import merge_method
from .deltas import moved, shares_of

Scale = Annotated[
    float,
    "what the sum of deltas is multiplied with; the method's results hang on it more than on "
    "anything else, so search it on validation data, from 0.1 to 1",
]
Normalize = Annotated[
    bool,
    "divide by the sum of the weights, so that deltas are averaged; off in the paper and in "
    "mergekit",
]


@merge_method(
    "task-arithmetic",
    summary="The base plus the scaled sum of the deltas.",
    paper="arXiv:2212.04089",
    granularity="element",
    signed=lambda given: not given["normalize"],
)
def task_arithmetic(
    tensors: Sequence[Tensor],
    *,
    base: Tensor,
    weights: Sequence[float],
    scale: Scale = 1.0,
    normalize: Normalize = False,
) -> Tensor:
    """Add deltas to the base: `base + scale * sum(w[i] * (t[i] - base))`, in the tensors' shape.

    Ilharco et al. 2023, "Editing Models with Task Arithmetic", arXiv:2212.04089, where every
    weight is 1 and the scale is searched on validation data. A negative weight makes the model
    forget what that checkpoint has learned, a negative scale all of it. mergekit's default is a
    scale of 1, fusion_bench's 0.3. With `normalize` the weights, which then are not negative, are
    divided by their sum.
    """
    shares = shares_of(weights, scale, normalize=normalize)
    if math.isclose(sum(shares), 1, rel_tol=1e-14):
        # Then the base cancels out, and what does not enter cannot round anything away.
        return combination(tensors, shares)
    return moved(base, combination([tensor - base for tensor in tensors], shares))
