"""Spherical interpolation between any number of checkpoints, tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Optional

from torch import Tensor

from ..measures import Gram
from ..registry import merge_method
from .sphere import exponential, logarithm, spherical


@merge_method(
    "multislerp",
    summary="Interpolation on the sphere between any number of checkpoints.",
    paper="Buss and Fillmore 2001",
    granularity="element",
    measures={"gram": lambda given: Gram()},
)
def multislerp(
    tensors: Sequence[Tensor],
    *,
    weights: Sequence[float],
    gram: Tensor,
    base: Optional[Tensor] = None,
    tangent: Annotated[
        Literal["logarithm", "projection"],
        "how directions are laid out around their average: along the sphere, or straight, as in "
        "mergekit, where they cancel out so that the direction is just that of the average",
    ] = "logarithm",
) -> Tensor:
    """Go from the average direction along the sphere by the mean of the logarithms of all others.

    With unit vectors `u[i]` of the tensors, each taken as one vector, and `m` the direction of
    `sum(w[i] * u[i])`, the direction is `exp_m(sum(w[i] * log_m(u[i])) / sum(w))`, and the length
    is the weighted mean of theirs. All tensors have one shape, and so has the result; with a base
    all of this is done with the deltas. It is the first step of the iteration whose end is
    `karcher`; with two tensors both have the direction of `slerp`.

    Tensors of zeros have no say in the direction, and what is opposite to the average direction
    does not pull. Where the directions cancel each other out, the result is the straight average.
    Buss and Fillmore 2001, "Spherical averages and applications to spherical splines and
    interpolation".
    """
    if tangent == "projection":
        return spherical(tensors, weights, gram, base, lambda point, pull, cosines: point)
    return spherical(
        tensors,
        weights,
        gram,
        base,
        lambda point, pull, cosines: exponential(point, logarithm(point, pull, cosines), cosines),
    )
