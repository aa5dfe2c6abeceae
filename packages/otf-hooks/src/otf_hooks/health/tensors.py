"""All tensors of a training by name, and their extremes with one transfer per device."""

from __future__ import annotations

from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

import torch

from ..front import Probe

#: Types that torch cannot reduce, so that they are widened first.
_NARROW = {
    getattr(torch, name)
    for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
    if hasattr(torch, name)
}


class Named(NamedTuple):
    """A tensor of a training: `kind` is parameter, buffer, gradient or optimizer state."""

    kind: str
    name: str
    tensor: torch.Tensor


def held(probe: Probe) -> List[Named]:
    """Every floating point tensor of a training, none left out and none twice."""
    model = probe.model
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [
        *(Named("parameter", name, parameter) for name, parameter in model.named_parameters()),
        *(Named("buffer", name, buffer) for name, buffer in model.named_buffers()),
        *(
            Named("gradient", name, parameter.grad)
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        ),
        *(
            Named("optimizer state", f"{key} of {owner}", value)
            for optimizer in probe.optimizers
            for owner, key, value in _optimizer_state(optimizer, names)
        ),
    ]
    return [each for each in found if _has_values(each.tensor)]


def extremes(tensors: Sequence[torch.Tensor]) -> List[float]:
    """The greatest magnitude in each tensor; NaN where it holds NaN.

    Each tensor is read once, by one fused reduction that allocates nothing, and the results come
    to the host in one transfer per device.
    """
    places: Dict[Tuple[torch.device, torch.dtype], List[int]] = {}
    results: List[torch.Tensor] = []
    for number, tensor in enumerate(tensors):
        values = plain(tensor)
        largest = torch.linalg.vector_norm(values, ord=float("inf"))
        # Half types are widened, so that all of a device are one kind; doubles stay what they are.
        results.append(largest if largest.dtype is torch.float64 else largest.float())
        places.setdefault((largest.device, results[-1].dtype), []).append(number)
    found = [0.0] * len(results)
    for numbers in places.values():
        together = torch.stack([results[number] for number in numbers])
        for number, value in zip(numbers, together.tolist()):
            found[number] = float(value)
    return found


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor's values as torch can reduce them, without its history."""
    tensor = tensor.detach()
    if tensor.layout is not torch.strided:
        tensor = tensor.coalesce().values() if tensor.is_sparse else tensor.to_dense()
    return tensor.float() if tensor.dtype in _NARROW else tensor


def described(tensor: torch.Tensor) -> str:
    """How many values of a tensor are not finite."""
    values = plain(tensor)
    nans = int(values.isnan().sum())
    infinite = int(values.isinf().sum())
    return f"{nans} NaN and {infinite} infinite of {values.numel()} values"


def _has_values(tensor: torch.Tensor) -> bool:
    is_real = tensor.is_floating_point() or tensor.is_complex()
    return is_real and not tensor.is_quantized and not tensor.is_meta and tensor.numel() > 0


def _optimizer_state(
    optimizer: torch.optim.Optimizer, names: Dict[int, str]
) -> Iterator[Tuple[str, str, torch.Tensor]]:
    for number, group in enumerate(optimizer.param_groups):
        for place, parameter in enumerate(group["params"]):
            owner = names.get(id(parameter), f"parameter {place} of group {number}")
            for key, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, torch.Tensor):
                    yield owner, str(key), value
