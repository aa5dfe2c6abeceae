"""How tensors are cut, so that what is in memory does not depend on the model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .registry import Granularity

#: Elements in a piece: in float32, for two checkpoints, what a core's own cache about holds. It is
#: a part of what methods with random masks compute: another size gives other masks.
SIZE = 1 << 18


class Piece(NamedTuple):
    """The elements `start` to `stop` of a tensor in row-major order, and the shape they are in."""

    start: int
    stop: int
    shape: tuple[int, ...]


def cut(shape: tuple[int, ...], granularity: Granularity, size: int = SIZE) -> Iterator[Piece]:
    """The pieces of a tensor of that shape; none of one without elements."""
    count = math.prod(shape)
    if not count:
        return
    if granularity == "tensor":
        yield Piece(0, count, shape)
        return
    # A vector is one row. A matrix, or what has more dimensions, has a row for each first index.
    width = 1 if granularity == "element" else math.prod(shape[1:]) if len(shape) > 1 else count
    step = max(1, size // width) * width
    for start in range(0, count, step):
        stop = min(start + step, count)
        flat = granularity == "element"
        yield Piece(start, stop, (stop - start,) if flat else ((stop - start) // width, width))
