"""The Karcher mean: the point on the sphere that is nearest to all checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Optional

from torch import Tensor

from ..measures import Gram
from ..parameters import Range
from ..registry import merge_method
from .sphere import exponential, length, logarithm, spherical


@merge_method(
    "karcher",
    summary="The mean on the sphere: nearest to all checkpoints' directions.",
    paper="arXiv:2603.04972",
    granularity="element",
    measures={"gram": lambda given: Gram()},
)
def karcher(
    tensors: Sequence[Tensor],
    *,
    weights: Sequence[float],
    gram: Tensor,
    base: Optional[Tensor] = None,
    max_iter: Annotated[int, "how many steps are taken at most", Range(1)] = 10,
    tol: Annotated[
        float, "a step shorter than this angle, in radians, is the last", Range(0)
    ] = 1e-5,
) -> Tensor:
    """The direction `m` that minimises `sum(w[i] * angle(m, u[i]) ** 2)`, of the mean length.

    With unit vectors `u[i]` of the tensors, each taken as one vector, `m` starts as the direction
    of `sum(w[i] * u[i])` and goes `exp_m(sum(w[i] * log_m(u[i])) / sum(w))` again and again. The
    result's length is the weighted arithmetic mean of the tensors' lengths. All tensors have one
    shape, and so has the result; with a base all of this is done with the deltas. Steps are taken
    with `n` coefficients, not with tensors, so more of them cost nothing.

    Tensors of zeros have no say in the direction; mergekit leaves out all that are shorter than
    `tol`. What is opposite to the average direction does not pull. Where the directions cancel each
    other out, the result is the straight average.

    Karcher 1977, "Riemannian center of mass and mollifier smoothing"; for language models Wang, Ye
    and Yin 2026, "Functionality-Oriented LLM Merging on the Fisher-Rao Manifold",
    arXiv:2603.04972.
    """

    def mean(point: Tensor, pull: Tensor, cosines: Tensor) -> Tensor:
        for _ in range(max_iter):
            step = logarithm(point, pull, cosines)
            if length(step, cosines) < tol:
                break
            point = exponential(point, step, cosines)
        return point

    return spherical(tensors, weights, gram, base, mean)
