"""The exponential moving average over the checkpoints of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor

from ..combining import combination
from ..parameters import Range
from ..registry import merge_method


@merge_method(
    "ema",
    summary="The exponential moving average over checkpoints in their order.",
    paper="Polyak and Juditsky 1992",
    granularity="element",
    propagates=True,
    symmetric=False,
)
def ema(
    tensors: Sequence[Tensor],
    *,
    decay: Annotated[
        float,
        "what share of the average stays at each checkpoint; torch's default is 0.999, which with "
        "few checkpoints leaves nearly all of the first",
        Range(0, below=1),
    ] = 0.999,
    warmup: Annotated[
        bool, "start with a smaller decay: at most (1 + t) / (10 + t) at checkpoint t"
    ] = False,
    debias: Annotated[
        bool, "take away the first checkpoint's excess, as Adam does with its averages"
    ] = False,
) -> Tensor:
    """Average tensors of one shape in their order: `m <- d * m + (1 - d) * t[i]`, in that shape.

    The average starts as the first checkpoint, as in torch's `AveragedModel` with
    `get_ema_multi_avg_fn`. So the first has a share of `d ** (n - 1)`: of five checkpoints at the
    default decay, 0.996. With `debias` the average starts at zero instead and is divided by
    `1 - d ** n`, so that only age tells the shares: `(1 - d) * d ** (n - 1 - i) / (1 - d ** n)`.
    With `warmup` the decay of checkpoint `t`, counted from 0, is `min(d, (1 + t) / (10 + t))`.

    Polyak and Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging", on why
    averages of iterates help; the bias is that of Kingma and Ba 2015, "Adam", arXiv:1412.6980.
    """
    count = len(tensors)
    decays = [min(decay, (1 + t) / (10 + t)) if warmup else decay for t in range(count)]
    shares: list[float] = []
    left = 1.0
    for each in reversed(decays):
        shares.append((1 - each) * left)
        left *= each
    shares.reverse()
    if debias:
        shares = [share / (1 - left) for share in shares]
    else:
        shares[0] += left
    return combination(tensors, shares)
