"""The plain average of whole models, which methods on whole models start or finish with."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch

from .combining import weighted_mean
from .errors import InputsDiffer
from .family import is_averaged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from .parents import Parent

_COUNTER = "num_batches_tracked"


def averaged_state(parents: Sequence[Parent], weights: Sequence[float]) -> dict[str, Tensor]:
    """The weighted average of the parents' tensors, by the first one's names, each in its dtype.

    What only some of them have is averaged over those. Counters are the greatest of all; other
    whole numbers and truth values must be the same in all.
    """
    names = dict.fromkeys(name for parent in parents for name in parent.names)
    return {name: averaged(parents, name, weights) for name in names}


def averaged(parents: Sequence[Parent], name: str, weights: Sequence[float]) -> Tensor:
    """One tensor of that average, in memory of its own."""
    holders = [place for place, parent in enumerate(parents) if name in parent.names]
    tensors = [parents[place].tensor(name) for place in holders]
    dtype = tensors[0].dtype
    if not is_averaged(dtype):
        return _kept([parents[place] for place in holders], name, tensors)
    shares = [weights[place] for place in holders]
    wide = functools.reduce(torch.promote_types, (wider(it.dtype) for it in tensors))
    mean = weighted_mean(
        [it.to(wide) for it in tensors], shares if any(shares) else [1.0] * len(shares)
    )
    return mean.to(dtype, copy=True)


def wider(dtype: torch.dtype) -> torch.dtype:
    """The precision in which numbers of that dtype are added up, to be rounded once."""
    if dtype.is_complex:
        return torch.complex128
    return torch.float64 if dtype.itemsize >= torch.float32.itemsize else torch.float32


def _kept(holders: Sequence[Parent], name: str, tensors: Sequence[Tensor]) -> Tensor:
    first = tensors[0].clone()
    for parent, tensor in zip(holders[1:], tensors[1:]):
        if name.endswith(_COUNTER):
            first = torch.maximum(first, tensor.to(first.dtype))
        elif not torch.equal(first, tensor.to(first.dtype)):
            raise InputsDiffer(
                f"`{name}` differs between `{holders[0].label}` and `{parent.label}`, and "
                f"{first.dtype} is never averaged. Make it the same in all checkpoints first."
            )
    return first
