"""Flat ranges of tensors that do not lie in one piece: strided ones, and those cut into chunks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Callable, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class Chunk(NamedTuple):
    """A box of a tensor: where it begins, its shape, and its own elements in row-major order."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    read: Callable[[int, int], Tensor]


def gathered(
    shape: tuple[int, ...],
    start: int,
    stop: int,
    rows: Callable[[tuple[int, ...], int, int], Tensor],
) -> Tensor:
    """The elements `start` to `stop`, in row-major order, of a tensor of that shape, flat.

    `rows(lead, a, b)` is asked for what has the indices `lead` in the first dimensions and `a` to
    `b` in the next one, so that no more is ever in memory than is asked for.
    """
    return _within(shape or (1,), (), start, stop, rows)


def _within(
    shape: tuple[int, ...],
    lead: tuple[int, ...],
    start: int,
    stop: int,
    rows: Callable[[tuple[int, ...], int, int], Tensor],
) -> Tensor:
    width = math.prod(shape[len(lead) + 1 :])
    if start >= stop:
        return rows(lead, 0, 0).reshape(-1)
    first, head = divmod(start, width)
    last, tail = divmod(stop, width)
    if first == last:
        return _within(shape, (*lead, first), head, tail, rows)
    parts = []
    if head:
        parts.append(_within(shape, (*lead, first), head, width, rows))
        first += 1
    if first < last:
        parts.append(rows(lead, first, last).reshape(-1))
    if tail:
        parts.append(_within(shape, (*lead, last), 0, tail, rows))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def strided(tensor: Tensor, start: int, stop: int) -> Tensor:
    """Those elements of a tensor of any strides, flat, in memory of their own."""
    tensor = tensor.reshape(1) if not tensor.dim() else tensor

    def rows(lead: tuple[int, ...], a: int, b: int) -> Tensor:
        found = tensor[lead][a:b]
        return found.resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)

    return gathered(tuple(tensor.shape), start, stop, rows)


def assembled(
    shape: tuple[int, ...], dtype: torch.dtype, chunks: Sequence[Chunk], start: int, stop: int
) -> Tensor:
    """Those elements of a tensor that the chunks make up, flat."""

    def rows(lead: tuple[int, ...], a: int, b: int) -> Tensor:
        result = torch.empty((b - a, *(shape or (1,))[len(lead) + 1 :]), dtype=dtype)
        for chunk in chunks:
            _copy_rows(result, lead, a, b, chunk)
        return result

    return gathered(shape, start, stop, rows)


def _copy_rows(result: Tensor, lead: tuple[int, ...], a: int, b: int, chunk: Chunk) -> None:
    offsets, sizes = chunk.offsets or (0,), chunk.sizes or (1,)
    depth = len(lead)
    local = [index - offset for index, offset in zip(lead, offsets)]
    if any(not 0 <= index < size for index, size in zip(local, sizes)):
        return
    low, high = max(a, offsets[depth]), min(b, offsets[depth] + sizes[depth])
    inner = sizes[depth + 1 :]
    width = math.prod(inner)
    if low >= high or not width:
        return
    begin = 0
    for index, size in zip([*local, low - offsets[depth]], sizes):
        begin = begin * size + index
    block = chunk.read(begin * width, (begin + high - low) * width)
    outer = slice(low - a, high - a)
    place = (outer, *(slice(at, at + size) for at, size in zip(offsets[depth + 1 :], inner)))
    result[place] = block.reshape(high - low, *inner)
