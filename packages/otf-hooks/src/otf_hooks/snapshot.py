"""A copy of a state in host memory, made on the training thread as fast as memory allows.

Tensors are cloned, containers rebuilt, plain values taken over. On CUDA the copies are queued on the
stream on which training runs, so that the next step cannot overtake them, and nobody waits here:
whoever reads the copy waits for its event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Dict, List, Tuple, Union

import torch

from .errors import CheckpointError

_PLAIN = (bool, int, float, str, bytes, type(None))
_TORCH_VALUES = (torch.dtype, torch.device, torch.Size)


class Snapshot:
    """A state that no later step changes. `wait` before it is read."""

    def __init__(self, state: Dict[str, Any]) -> None:
        copier = _Copier()
        self._state = copier.copy(state, "")
        self._events = copier.events()

    def wait(self) -> Dict[str, Any]:
        """The state, once every copy from a device has arrived."""
        for event in self._events:
            event.synchronize()
        self._events = []
        state: Dict[str, Any] = self._state
        return state


class _Copier:
    """Copies nested values; tensors that are the same memory stay the same memory."""

    def __init__(self) -> None:
        #: The first tensor at each address; its copy has the address alone for a key.
        self._first: Dict[int, torch.Tensor] = {}
        self._copies: Dict[Union[int, Tuple[Any, ...]], torch.Tensor] = {}
        self._devices: set[torch.device] = set()

    def copy(self, value: Any, path: str) -> Any:
        kind = type(value)
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, Mapping):
            return {_key(k, path): self.copy(v, f"{path}.{k}") for k, v in value.items()}
        if kind in (list, tuple):
            return kind(self.copy(item, f"{path}[{n}]") for n, item in enumerate(value))
        if kind is set:
            return {self.copy(item, path) for item in value}
        if kind in _PLAIN or isinstance(value, _TORCH_VALUES):
            return value
        if isinstance(value, (list, tuple)):
            # A named tuple, or another class that only the script has.
            return [self.copy(item, f"{path}[{n}]") for n, item in enumerate(value)]
        return _plain(value, path)

    def _tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        # A state may have thousands of tensors, and training waits for every statement here.
        if tensor.requires_grad or type(tensor) is not torch.Tensor:
            tensor = tensor.detach()
        if tensor.layout is not torch.strided or tensor.is_quantized or not tensor.numel():
            return tensor.cpu() if not tensor.is_cpu else tensor.clone()
        # Tied weights have several names and one memory; views of it may differ in shape.
        address = tensor.data_ptr()
        first = self._first.setdefault(address, tensor)
        is_first = first is tensor or _identity(first) == _identity(tensor)
        key = address if is_first else _identity(tensor)
        if key not in self._copies:
            self._copies[key] = self._copied(tensor)
        return self._copies[key]

    def _copied(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_cpu:
            return tensor.clone()
        if tensor.device.type != "cuda":
            return tensor.cpu()
        self._devices.add(tensor.device)
        pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        pinned.copy_(tensor, non_blocking=True)
        return pinned

    def events(self) -> List[Any]:
        """One event per device, behind all copies from it."""
        return [torch.cuda.current_stream(device).record_event() for device in self._devices]


def _identity(tensor: torch.Tensor) -> Tuple[Any, ...]:
    """Equal for tensors that are the same memory in the same shape, and for no others."""
    place = (tensor.device, tensor.data_ptr(), tensor.dtype)
    return (*place, tuple(tensor.shape), tensor.stride())


def is_plain(value: Any) -> bool:
    """Whether a checkpoint can hold the value."""
    if isinstance(value, Mapping):
        return all(isinstance(k, (str, int)) and is_plain(v) for k, v in value.items())
    if type(value) in (list, tuple):
        return all(is_plain(item) for item in value)
    return type(value) in _PLAIN or isinstance(value, torch.Tensor)


def _key(key: Any, path: str) -> Any:
    if isinstance(key, (str, int, float, bool)):
        return key
    raise CheckpointError(
        f"The state{path} has the key {key!r}, a {type(key).__name__}: a checkpoint holds only "
        "tensors and plain values."
    )


def _plain(value: Any, path: str) -> Any:
    """Subclasses of plain types and NumPy's numbers, as what they are underneath."""
    item = getattr(value, "item", None)
    if type(value).__module__ == "numpy" and callable(item) and getattr(value, "ndim", 1) == 0:
        return item()
    if type(value).__module__ == "numpy" and hasattr(value, "__array__"):
        return torch.from_numpy(value.copy())
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, str):
        # Not str(value), which an enum answers with its name.
        return str.__str__(value)
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return kind(value)
    raise CheckpointError(
        f"The state{path} is a {type(value).__name__}: a checkpoint holds only tensors and plain "
        "values, so that it can be loaded without running code. Keep it out of the state_dict."
    )
