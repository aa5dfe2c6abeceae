"""A state from rank 0 to all: its shape first, then tensor by tensor."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch

from .group import Group


class _Place(NamedTuple):
    """Where a tensor is to come."""

    shape: Tuple[int, ...]
    dtype: torch.dtype


def broadcast(group: Group, state: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    """Rank 0's state, of plain values and dense tensors on the CPU; the others pass None."""
    tensors: List[torch.Tensor] = []
    shape = group.broadcast(_parted(state, tensors) if state is not None else None)
    if state is not None:
        for tensor in tensors:
            group.broadcast_tensor(tensor.contiguous())
        return state
    found: Dict[str, Any] = _filled(shape, group)
    return found


def _parted(value: Any, tensors: List[torch.Tensor]) -> Any:
    """The value with a place for every tensor, which is appended to `tensors`."""
    if isinstance(value, torch.Tensor) and value.numel() and value.layout is torch.strided:
        tensors.append(value)
        return _Place(tuple(value.shape), value.dtype)
    if isinstance(value, dict):
        return {key: _parted(inner, tensors) for key, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_parted(inner, tensors) for inner in value)
    return value


def _filled(value: Any, group: Group) -> Any:
    if isinstance(value, _Place):
        tensor = torch.empty(value.shape, dtype=value.dtype)
        group.broadcast_tensor(tensor)
        return tensor
    if isinstance(value, dict):
        return {key: _filled(inner, group) for key, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_filled(inner, group) for inner in value)
    return value
