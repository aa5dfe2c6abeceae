"""First looks: what a method must know of a whole tensor or model before it merges a piece.

A measure is observed piece by piece, in several threads, and folded in the order of the pieces, so
that its value depends on neither. With more than one pass, every piece is seen again, and what was
folded so far is at hand.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

Scope = Literal["tensor", "model"]


class Measure(ABC):
    """One quantity over a tensor or over the whole model."""

    def __init__(self, scope: Scope = "tensor", passes: int = 1) -> None:
        self.scope = scope
        self.passes = passes

    @abstractmethod
    def observe(self, tensors: Sequence[Tensor], base: Tensor | None, so_far: list[Any]) -> Any:
        """What one piece adds. `so_far` has the folded value of each earlier pass."""

    @abstractmethod
    def fold(self, parts: Sequence[Any]) -> Any:
        """One value out of what pieces add, in their order; at least one.

        The first may be a value that was folded before. Nobody else keeps the parts.
        """

    def value(self, folded: list[Any]) -> Any:
        """What the method is given, from the folded value of each pass."""
        return folded[-1]


class Gram(Measure):
    """The scalar products of all checkpoints with each other, in float64: shape `(n, n)`.

    With a base they are those of the deltas. Lengths, angles and anything that lies in the span of
    the checkpoints follow from it.
    """

    def observe(self, tensors: Sequence[Tensor], base: Tensor | None, so_far: list[Any]) -> Tensor:
        """The products of one piece, summed up in the tensors' own precision."""
        vectors = [it.reshape(-1) if base is None else (it - base).reshape(-1) for it in tensors]
        count = len(vectors)
        products = torch.zeros(count, count, dtype=torch.float64)
        for i in range(count):
            for j in range(i, count):
                products[i, j] = products[j, i] = float(torch.dot(vectors[i], vectors[j]))
        return products

    def fold(self, parts: Sequence[Any]) -> Tensor:
        """The sum over the pieces."""
        return torch.stack(list(parts)).sum(dim=0)


class Cutoffs(Measure):
    """For each checkpoint, the size that a given share of its deltas' sizes lies below, exactly.

    `shares` in 0 to 1 are looked up at once: the value is a list with one float64 tensor of shape
    `(n,)` for each. The cutoff of share `s` over `m` deltas is the `floor(s * m)`-th smallest
    size, counted from 0, so that `m - floor(s * m)` sizes are at least as great, more where sizes
    are equal; for a share of 1 it is infinite. Without a base the sizes of the tensors themselves
    count.

    Sizes are compared as the float32 that they round to, whose bits order as integers: the first
    pass counts their upper halves, the second the lower halves of those that matter.
    """

    _HALF = 16

    def __init__(self, shares: Sequence[float], scope: Scope = "tensor") -> None:
        super().__init__(scope, passes=2)
        self.shares = tuple(shares)

    def observe(self, tensors: Sequence[Tensor], base: Tensor | None, so_far: list[Any]) -> Tensor:
        """Counts of upper halves, `(n, 65536)`, or of lower ones, `(n, shares, 65536)`."""
        if not so_far:
            return torch.stack([self._count(_bits(it, base) >> self._HALF) for it in tensors])
        upper, _ = self._found(so_far[0])
        counts = []
        for row, tensor in zip(upper.tolist(), tensors):
            bits = _bits(tensor, base)
            halves = bits >> self._HALF
            lower = bits & ((1 << self._HALF) - 1)
            counts.append(torch.stack([self._count(lower[halves == it]) for it in row]))
        return torch.stack(counts)

    def fold(self, parts: Sequence[Any]) -> Tensor:
        """The sum over the pieces."""
        total: Tensor = parts[0]
        for part in parts[1:]:
            total += part
        return total

    def value(self, folded: list[Any]) -> list[Tensor]:
        """The cutoffs of each share, from both passes' counts."""
        upper, rest = self._found(folded[0])
        lower = (folded[1].cumsum(-1) <= rest.unsqueeze(-1)).sum(-1)
        bits = ((upper << self._HALF) | lower).to(torch.int32)
        sizes = bits.view(torch.float32).to(torch.float64)
        count = folded[0].sum(-1, keepdim=True)
        beyond = self.ranks(count) >= count
        return list(sizes.masked_fill(beyond, torch.inf).T)

    def _found(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The upper half in which each rank lies, and its rank within that; both `(n, shares)`."""
        ranks = self.ranks(counts.sum(-1, keepdim=True))
        sums = counts.cumsum(-1)
        upper = (sums.unsqueeze(1) <= ranks.unsqueeze(-1)).sum(-1).clamp_(max=counts.shape[-1] - 1)
        before = sums.gather(1, upper) - counts.gather(1, upper)
        return upper, ranks - before

    def ranks(self, count: Tensor) -> Tensor:
        """Which of the sizes in order each share means, of `count` sizes: `(n, shares)`."""
        shares = torch.tensor(self.shares, dtype=torch.float64)
        return (shares * count).floor().to(torch.int64)

    def _count(self, halves: Tensor) -> Tensor:
        return torch.bincount(halves.reshape(-1), minlength=1 << self._HALF).cpu()


def _bits(tensor: Tensor, base: Tensor | None) -> Tensor:
    """The bits of each size as a float32, which order as the sizes do: int32."""
    delta = tensor if base is None else tensor - base
    return delta.abs().to(torch.float32).contiguous().view(torch.int32)
