"""The weighted average of checkpoints, as in model soups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..registry import merge_method

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@merge_method("linear", summary="The weighted average.", paper="arXiv:2203.05482")
def linear(tensors: Sequence[Tensor], *, weights: Sequence[float]) -> Tensor:
    """Average tensors of one shape: `sum(w[i] * t[i]) / sum(w)`, in that shape.

    With equal weights and fine-tuned models this is the uniform soup of Wortsman et al. 2022,
    "Model soups", arXiv:2203.05482.

    The sum is taken in double precision. For narrower tensors that leaves one rounding at the
    end, so copies of a model average to exactly that model.
    """
    wide = torch.promote_types(tensors[0].dtype, torch.float64)
    # -0.0 and not 0.0: it is the number that changes nothing when added, not even the sign of -0.0.
    total = torch.full_like(tensors[0], -0.0, dtype=wide)
    # In units of the greatest weight, so that weights near the ends of the range of numbers do not
    # take the products out of it.
    greatest = max(weights)
    shares = [weight / greatest for weight in weights]
    for tensor, share in zip(tensors, shares):
        # A weight of zero leaves the tensor out altogether, even where it is not finite.
        if share:
            total.add_(tensor, alpha=share)
    return total.div_(sum(shares))
