"""What methods share that work on deltas: what checkpoints have learned since their base."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def moved(base: Tensor, delta: Tensor) -> Tensor:
    """`base + delta`, in their shape; where the delta is zero it is the base to the last bit."""
    # Written so that a delta of either zero leaves a base of -0.0, without a choice by element,
    # which would take longer than all else.
    return base - (0 - delta)


def kept(delta: Tensor, mask: Tensor) -> Tensor:
    """The delta, in place, multiplied with a mask of zeros and ones in any dtype."""
    return delta.mul_(mask.to(delta.dtype))


def sizes(delta: Tensor) -> Tensor:
    """The sizes of deltas as `otf_merge.measures.Cutoffs` compares them: rounded to float32."""
    return delta.abs().to(torch.float32)


def fractions_of(weights: Sequence[float]) -> list[float]:
    """The weights as fractions of their sum."""
    # In units of the greatest, so that weights near the ends of the range of numbers stay in it.
    greatest = max(weights)
    units = [weight / greatest for weight in weights]
    return [unit / sum(units) for unit in units]


def shares_of(weights: Sequence[float], scale: float, *, normalize: bool) -> list[float]:
    """What each delta is multiplied with: `scale * w[i]`, or `scale * w[i] / sum(w)`."""
    return [scale * it for it in (fractions_of(weights) if normalize else weights)]


def left_out(density: float) -> float:
    """The share that a density leaves out, for `otf_merge.measures.Cutoffs`."""
    # 1 - 0.9 is a little less than 0.1 in binary, and would keep one weight too many.
    return round(1 - density, 12)
