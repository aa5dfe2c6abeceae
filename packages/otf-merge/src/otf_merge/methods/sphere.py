"""Geometry on the sphere of directions, by the scalar products of checkpoints alone.

A direction in the span of `n` checkpoints is written as `n` coefficients of their unit vectors:
every length and angle then follows from the `n` by `n` matrix of their cosines, however large the
tensors are. All is in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Callable, Optional

import torch
from torch import Tensor

from ..combining import combination
from .deltas import fractions_of

#: Beyond this cosine two directions are one, or opposite, and there is no one arc between them.
PARALLEL = 0.9995

# A mean of unit vectors that is shorter has no direction: they cancel out, and what is left is
# what rounding left of them.
_NOWHERE = 1e-3
# Below this sine an angle and its sine are the same number.
_NO_ANGLE = 1e-8
# What is left of 1 by rounding, which must not bring a base back in that has no share.
_ROUNDING = 1e-14

#: From a direction, the weights of the unit vectors and their cosines to the mean direction.
Mean = Callable[[Tensor, Tensor, Tensor], Tensor]


def spherical(
    tensors: Sequence[Tensor],
    weights: Sequence[float],
    gram: Tensor,
    base: Optional[Tensor],
    mean: Mean,
) -> Tensor:
    """The tensor in a mean direction of the tensors, and of their mean length; in their shape.

    `gram` has the tensors' scalar products, or with a base their deltas', and the mean is that of
    the deltas. Tensors of zeros have a length, but no say in the direction. Where the directions
    cancel each other out, the result is the straight average.
    """
    shares = torch.tensor(fractions_of(weights), dtype=torch.float64)
    # Whatever a tensor without weight holds, it takes no part.
    gram = torch.where((shares > 0) & (shares > 0).unsqueeze(1), gram, 0.0)
    lengths = gram.diagonal().clamp(min=0).sqrt()
    cosines = cosines_of(gram)
    point = shares * (lengths > 0)
    if length(point, cosines) < _NOWHERE:
        return spanned(tensors, shares.tolist(), base)
    pull = point / point.sum()
    point = mean(point / length(point, cosines), pull, cosines)
    point = point * (shares @ lengths) / lengths.masked_fill(lengths == 0, 1)
    return spanned(tensors, point.tolist(), base)


def cosines_of(gram: Tensor) -> Tensor:
    """The cosines between vectors by their scalar products; those with a zero vector are 0."""
    lengths = gram.diagonal().clamp(min=0).sqrt()
    inverse = torch.where(lengths > 0, 1 / lengths, 0.0)
    cosines = (gram * inverse.unsqueeze(0) * inverse.unsqueeze(1)).clamp(-1, 1)
    cosines.diagonal().copy_(lengths > 0)
    return cosines


def length(point: Tensor, cosines: Tensor) -> float:
    """The length of a vector that is given by its coefficients."""
    return math.sqrt(max(0.0, float(point @ cosines @ point)))


def logarithm(point: Tensor, pull: Tensor, cosines: Tensor) -> Tensor:
    """The mean of the unit vectors as seen from a direction: `sum(pull[i] * log_point(u[i]))`.

    The logarithm of `u` is the vector along the sphere from `point` towards `u`, as long as the
    angle between them. What is opposite to the point has none and is left out.
    """
    towards = (cosines @ point).clamp(-1, 1)
    angles, sines = torch.acos(towards), (1 - towards * towards).sqrt()
    pull = pull * torch.where(sines > _NO_ANGLE, angles / sines, 1.0)
    # To the other side of the sphere there is no shortest way: what is there does not pull.
    pull = pull * (towards > -PARALLEL)
    return pull - (pull @ towards) * point


def exponential(point: Tensor, step: Tensor, cosines: Tensor) -> Tensor:
    """The direction that is reached from `point` by a step along the sphere."""
    angle = length(step, cosines)
    reached = math.cos(angle) * point + (math.sin(angle) / angle if angle else 1.0) * step
    return reached / length(reached, cosines)


def spanned(
    tensors: Sequence[Tensor], coefficients: Sequence[float], base: Optional[Tensor]
) -> Tensor:
    """`sum(c[i] * t[i])`, or with a base `base + sum(c[i] * (t[i] - base))`, in the same shape."""
    if base is None:
        return combination(tensors, coefficients)
    rest = 1 - math.fsum(coefficients)
    share = rest if abs(rest) > _ROUNDING else 0.0
    return combination([*tensors, base], [*coefficients, share])
