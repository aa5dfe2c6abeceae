"""Batches of any nesting: find their tensors, move them, count their samples, part their target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import torch

from .errors import LoaderError

#: The names under which a batch that is a mapping may hold its target, in the order they are tried.
TARGET_NAMES = ("target", "targets", "label", "labels", "y")


_SEQUENCES = (list, tuple)


class Parts(NamedTuple):
    """A batch, parted: the model is called with `args` and `kwargs`, the loss with `target`."""

    args: Tuple[Any, ...]
    kwargs: Dict[str, Any]
    target: Any


def tensors(batch: Any) -> Iterator[torch.Tensor]:
    """All tensors of a batch, however it is nested."""
    if isinstance(batch, torch.Tensor):
        yield batch
    elif isinstance(batch, (list, tuple)):
        for value in batch:
            yield from tensors(value)
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from tensors(value)


def sample_count(batch: Any) -> int:
    """How many samples a batch has: the length of its first tensor's first dimension, else 1."""
    # The usual batch, (input, target), without a walk: this runs every step.
    if type(batch) in _SEQUENCES and batch and type(batch[0]) is torch.Tensor and batch[0].ndim:
        return batch[0].size(0)
    for tensor in tensors(batch):
        return int(tensor.shape[0]) if tensor.ndim else 1
    return 1


def is_on(batch: Any, device: torch.device) -> bool:
    """Whether all tensors of a batch are on a device already."""
    return all(tensor.device == device for tensor in tensors(batch))


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch with every tensor on `device`; containers keep their types."""
    return map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))


def copied(batch: Any) -> Any:
    """The batch with a copy of every tensor, which a step may change in place."""
    return map_tensors(batch, torch.clone)


def part(batch: Any) -> Parts:
    """Part a batch into what the model takes and what the loss compares with.

    Of a sequence the last element is the target and the others are inputs; an only input that is a
    sequence or a mapping is spread over the model's parameters. Of a mapping the target is the
    entry named like one (`TARGET_NAMES`), and the others are keyword arguments.
    """
    if isinstance(batch, Mapping):
        return _part_mapping(batch)
    if isinstance(batch, (list, tuple)) and len(batch) > 1:
        *inputs, target = batch
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            return Parts((), {str(key): value for key, value in inputs[0].items()}, target)
        if len(inputs) == 1 and isinstance(inputs[0], (list, tuple)):
            return Parts(tuple(inputs[0]), {}, target)
        return Parts(tuple(inputs), {}, target)
    raise LoaderError(
        f"A batch is {_described(batch)}, in which no target can be found. Yield "
        "(input, target) or a dict with a 'target', or say what a step is with "
        "@trainer.training_step (and @trainer.validation_step)."
    )


def _part_mapping(batch: Mapping[Any, Any]) -> Parts:
    name: Optional[str] = next((key for key in TARGET_NAMES if key in batch), None)
    if name is None:
        raise LoaderError(
            f"A batch is a dict with the keys {sorted(map(str, batch))}, none of which is "
            f"a target ({', '.join(TARGET_NAMES)}). Rename the target's key, or say what a step "
            "is with @trainer.training_step (and @trainer.validation_step)."
        )
    return Parts((), {str(key): value for key, value in batch.items() if key != name}, batch[name])


def map_tensors(batch: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The batch with every tensor changed; containers keep their types."""
    if isinstance(batch, torch.Tensor):
        return change(batch)
    if isinstance(batch, Mapping):
        mapped = {key: map_tensors(value, change) for key, value in batch.items()}
        return mapped if type(batch) is dict else _rebuilt(batch, mapped)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(map_tensors(value, change) for value in batch))
    if isinstance(batch, (list, tuple)):
        values: List[Any] = [map_tensors(value, change) for value in batch]
        return values if type(batch) is list else tuple(values)
    return batch


def _rebuilt(batch: Mapping[Any, Any], mapped: Dict[Any, Any]) -> Any:
    # A tokenizer's BatchEncoding, a TensorDict, an OrderedDict: each is made from a dict; one that
    # is not serves as the plain dict, which the model can take just as well.
    try:
        return type(batch)(mapped)  # type: ignore[call-arg]
    except TypeError:
        return mapped


def _described(batch: Any) -> str:
    if isinstance(batch, torch.Tensor):
        return f"a single tensor of shape {tuple(batch.shape)}"
    if isinstance(batch, (list, tuple)):
        return f"a {type(batch).__name__} of {len(batch)} element(s)"
    return f"a {type(batch).__name__}"
