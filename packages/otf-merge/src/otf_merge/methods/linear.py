"""The weighted average of checkpoints, as in model soups."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..combining import weighted_mean
from ..registry import merge_method


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
    return weighted_mean(tensors, weights)
