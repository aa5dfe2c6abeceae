"""Products of two thin matrices, worked with through their factors alone.

A delta of a layer is `outputs x inputs`, far more than its factors. All here costs
`(outputs + inputs) * rank**2` operations, in the precision of what is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class Product(NamedTuple):
    """`left @ right`, of the shapes `(outputs, r)` and `(r, inputs)`."""

    left: Tensor
    right: Tensor


class Truncated(NamedTuple):
    """The nearest product of a lower rank; energies are sums of squared singular values."""

    product: Product
    energy: float
    discarded: float


def total(products: Sequence[Product], shares: Sequence[float]) -> Product:
    """The weighted sum of products, exactly: side by side, of the sum of their ranks."""
    left = torch.cat([share * it.left for it, share in zip(products, shares)], dim=1)
    return Product(left, torch.cat([it.right for it in products]))


def length(product: Product) -> float:
    """The Frobenius norm.

    An orthonormal Q changes no length, so that with `left = Q R` and `right.T = P S` it is that of
    the small `R @ S.T`. Squares are not subtracted, which keeps small differences accurate.
    """
    return float(torch.linalg.matrix_norm(_core(product)[0]))


def truncated(product: Product, rank: int) -> Truncated:
    """The nearest product of that rank or a lower one, its square-rooted values in both factors.

    By Eckart and Young that is the truncated singular value decomposition, which is taken of the
    small matrix between the two orthonormal ones: `left @ right = Q (R @ S.T) P.T`.
    """
    core, q, p = _core(product)
    u, values, vh = torch.linalg.svd(core, full_matrices=False)
    roots = values[:rank].sqrt()
    squares = values.square()
    return Truncated(
        Product((q @ u[:, :rank]) * roots, roots[:, None] * (vh[:rank] @ p.T)),
        float(squares.sum()),
        float(squares[rank:].sum()),
    )


def _core(product: Product) -> tuple[Tensor, Tensor, Tensor]:
    q, r = torch.linalg.qr(product.left)
    p, s = torch.linalg.qr(product.right.T)
    return r @ s.T, q, p
