"""Stochastic weight averaging: the equal average of checkpoints along one run."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..combining import weighted_mean
from ..registry import merge_method


@merge_method(
    "swa",
    summary="The equal average of one run's checkpoints.",
    paper="arXiv:1803.05407",
    granularity="element",
    propagates=True,
)
def swa(tensors: Sequence[Tensor]) -> Tensor:
    """Average tensors of one shape with equal weights: `sum(t[i]) / n`, in that shape.

    Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization",
    arXiv:1803.05407. The checkpoints come from the end of one run, at a constant or cyclical
    learning rate. All that tells it from `linear` is that it takes no weights.
    """
    return weighted_mean(tensors, [1.0] * len(tensors))
