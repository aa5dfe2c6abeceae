"""DARE: drop most of what was learned at random, and rescale the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import torch
from torch import Tensor

from ..combining import combination
from ..parameters import Range
from ..randomness import ones_with_chance
from ..registry import merge_method
from .deltas import kept, moved, shares_of
from .task_arithmetic import Normalize, Scale, task_arithmetic

DropRate = Annotated[
    float,
    "the chance of each weight's delta to be dropped; mergekit and PEFT count what is kept, their "
    "density. High rates do no harm only where deltas are tiny, within 0.002 or so",
    Range(0, below=1),
]
Rescale = Annotated[
    bool,
    "divide what is kept by 1 - drop_rate, so that the expected delta stays what it was (paper, "
    "PEFT); mergekit restores the sum of sizes of each tensor instead, which on small tensors can "
    "multiply what is left by hundreds",
]
Seed = Annotated[
    int, "what the random masks start from; the same seed gives the same masks", Range(0)
]


def dropped(
    tensors: Sequence[Tensor], base: Tensor, drop_rate: float, generator: torch.Generator
) -> Iterator[Tensor]:
    """Each tensor's delta, every weight of it zero with the chance `drop_rate`; not rescaled."""
    for tensor in tensors:
        yield kept(tensor - base, ones_with_chance(1 - drop_rate, base.shape, generator))


@merge_method(
    "dare-linear",
    summary="The base plus the sum of randomly thinned, rescaled deltas.",
    paper="arXiv:2311.03099",
    granularity="element",
    symmetric=False,
    signed=lambda given: not given["normalize"],
)
def dare_linear(
    tensors: Sequence[Tensor],
    *,
    base: Tensor,
    weights: Sequence[float],
    generator: torch.Generator,
    drop_rate: DropRate = 0.9,
    rescale: Rescale = True,
    scale: Scale = 1.0,
    normalize: Normalize = False,
    seed: Seed = 0,
) -> Tensor:
    """Add thinned deltas: `base + scale * sum(w[i] * m[i] * (t[i] - base)) / (1 - p)`.

    The masks `m[i]` are 0 with the chance `p`, the drop rate, else 1, for each weight and
    checkpoint by itself. All tensors have one shape, and so has the result. Without dropping it is
    task arithmetic.

    Yu et al. 2024, "Language Models are Super Mario: Absorbing Abilities from Homologous Models as
    a Free Lunch", arXiv:2311.03099, which drops 90 % and more of the tiny deltas of fine-tuned
    language models. Masks depend on the seed, the tensor's name and the order of the checkpoints.
    """
    if not drop_rate:
        unthinned: Tensor = task_arithmetic(
            tensors, base=base, weights=weights, scale=scale, normalize=normalize
        )
        return unthinned
    shares = shares_of(weights, scale / (1 - drop_rate) if rescale else scale, normalize=normalize)
    return moved(base, combination(list(dropped(tensors, base, drop_rate, generator)), shares))
