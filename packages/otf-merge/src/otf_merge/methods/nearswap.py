"""NearSwap: the base moves towards a checkpoint, but nowhere further than a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from ..parameters import Range
from ..registry import merge_method


@merge_method(
    "nearswap",
    summary="The base, moved towards one checkpoint by no more than a threshold.",
    paper="QuartetAnemoi-70B",
    granularity="element",
    most=1,
)
def nearswap(
    tensors: Sequence[Tensor],
    *,
    base: Tensor,
    threshold: Annotated[
        float,
        "weights nearer than this to the checkpoint's become its own, others move by this much; t "
        "in mergekit, which has no default",
        Range(above=0),
    ] = 0.0001,
) -> Tensor:
    """`t[0]` where it is within the threshold of the base, else the base moved towards it by that.

    Written as interpolation, the checkpoint's share is `min(1, threshold / |t[0] - base|)`. Both
    tensors have one shape, and so has the result. Published with the language model
    QuartetAnemoi-70B by its author, alchemonaut, in 2024.
    """
    tensor = tensors[0]
    delta = tensor - base
    near = delta.abs() <= threshold
    return torch.where(near, tensor, base + delta.clamp_(-threshold, threshold))
