"""Batches of data, whatever they are made of: tuples, lists and mappings of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable

import torch
from torch import Tensor

from .errors import InvalidTask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


def mapped(function: Callable[[Tensor], Tensor], batch: Any) -> Any:
    """The batch with the function's result in place of each of its tensors."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return {key: mapped(function, value) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        parts = [mapped(function, part) for part in batch]
        if hasattr(batch, "_fields"):
            return type(batch)(*parts)
        return tuple(parts) if isinstance(batch, tuple) else parts
    return batch


def tensors_in(batch: Any) -> list[Tensor]:
    """The tensors of a batch, in their order."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    mapped(keep, batch)
    return found


def moved(batch: Any, device: torch.device) -> Any:
    """The batch on that device. An object of another kind is asked to move itself."""
    if not tensors_in(batch) and hasattr(batch, "to"):
        return batch.to(device)
    return mapped(lambda tensor: tensor.to(device), batch)


def size_of(batch: Any) -> int:
    """How many samples the batch has: the length of its first tensor.

    Raises `InvalidTask` where it has none, as then single samples cannot be told.
    """
    found = next((it for it in tensors_in(batch) if it.dim()), None)
    if found is None:
        raise InvalidTask(
            f"A batch of the task is a {type(batch).__name__} without tensors. Batches must be "
            "tuples, lists or mappings of tensors, whose first dimension counts the samples."
        )
    return len(found)


def cut(batch: Any, start: int, stop: int) -> Any:
    """The samples `start` to `stop`: what is as long as the batch is cut, the rest is kept."""
    size = size_of(batch)
    return mapped(lambda it: it[start:stop] if it.dim() and len(it) == size else it, batch)


def separated(batch: Any) -> tuple[list[Tensor], Callable[[Sequence[Tensor]], Any]]:
    """The tensors that are as long as the batch, and what makes a batch of others in their place.

    So single samples can be taken by whoever must handle plain tensors.
    """
    size = size_of(batch)

    def is_cut(tensor: Tensor) -> bool:
        return bool(tensor.dim()) and len(tensor) == size

    flags = [is_cut(tensor) for tensor in tensors_in(batch)]

    def together(parts: Sequence[Tensor]) -> Any:
        given, asked = iter(parts), iter(flags)
        return mapped(lambda tensor: next(given) if next(asked) else tensor, batch)

    return [tensor for tensor, flag in zip(tensors_in(batch), flags) if flag], together


def first_samples(data: Iterable[Any], count: int) -> Iterator[Any]:
    """Batches with the first `count` samples in all, or as many as there are."""
    left = count
    for batch in data:
        size = size_of(batch)
        yield batch if size <= left else cut(batch, 0, left)
        left -= size
        if left <= 0:
            return


def in_turn(sources: Sequence[Iterable[Any]]) -> Iterator[Any]:
    """A batch of each source in turn, until all have been gone through once."""
    left = [iter(source) for source in sources]
    while left:
        for batches in list(left):
            try:
                yield next(batches)
            except StopIteration:
                left.remove(batches)


def again_and_again(data: Iterable[Any], least: int = 1) -> Iterator[Any]:
    """The batches without end, from the start again after the last.

    Those of fewer than `least` samples are left out. Raises `InvalidTask` where there are no
    others, or none any more.
    """
    while True:
        empty = True
        for batch in data:
            if size_of(batch) >= least:
                empty = False
                yield batch
        if empty:
            raise InvalidTask(
                f"The task's data has no batches of at least {least} samples, or none the second "
                "time. Give a loader or a list, which can be gone through again and again."
            )
