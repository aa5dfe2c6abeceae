"""Model Stock: as far from the base towards the average as the checkpoints agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from ..measures import Gram
from ..registry import merge_method
from .sphere import cosines_of, spanned

# What rounding may leave of zero.
_CANCELLED = 1e-6


@merge_method(
    "model-stock",
    summary="As far from the base towards the average as the checkpoints agree.",
    paper="arXiv:2403.19522",
    granularity="element",
    measures={"gram": lambda given: Gram()},
    fewest=2,
)
def model_stock(
    tensors: Sequence[Tensor],
    *,
    base: Tensor,
    gram: Tensor,
    extrapolate: Annotated[
        bool,
        "let checkpoints that moved apart carry the result beyond the base, to the other side, as "
        "mergekit does; the paper does not meet them",
    ] = False,
) -> Tensor:
    """Interpolate between base and average: `t * mean(t[i]) + (1 - t) * base`, in that shape.

    `t = n * c / (1 + (n - 1) * c)`, where `c` is the mean cosine between the deltas of two of the
    `n` tensors, each taken as one vector; a cosine with a delta of zeros is 0. Copies have `c = 1`
    and merge to themselves; what is unrelated has `c = 0` and leaves the base.

    The geometry behind it has no negative `c`, for which `t` falls below 0 without bound. Then the
    base stays, unless `extrapolate` is given.

    Jang, Yun and Han 2024, "Model Stock: All we need is just a few fine-tuned models",
    arXiv:2403.19522, layer by layer; there during training as well.
    """
    count = len(tensors)
    cosines = cosines_of(gram)
    pairs = torch.ones_like(cosines).triu(diagonal=1)
    cosine = float((cosines * pairs).sum() / pairs.sum())
    # n vectors that cancel each other out have a mean cosine of -1 / (n - 1): there t has no bound.
    spread = 1 + (count - 1) * cosine
    ratio = count * cosine / spread if spread > _CANCELLED else 0.0
    if ratio < 0 and not extrapolate:
        ratio = 0.0
    return spanned(tensors, [ratio / count] * count, base)
