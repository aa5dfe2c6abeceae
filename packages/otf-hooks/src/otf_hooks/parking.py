"""What training holds on a device, parked in host memory during a pause, and brought back.

The tensors stay the same objects, so that the optimizer, the module and the script keep hold of
them; only the memory behind them is exchanged.
"""

from __future__ import annotations

import gc
from typing import Any, List, NamedTuple, Tuple

import torch


class Parked(NamedTuple):
    """How many bytes went to host memory, and how many the devices have free beside before."""

    moved: int
    freed: int


class Parking:
    """Tensors that are away from their device."""

    def __init__(self) -> None:
        self._away: List[Tuple[torch.Tensor, torch.device]] = []

    @property
    def is_empty(self) -> bool:
        """Whether everything is where it belongs."""
        return not self._away

    def park(self, tensors: List[Any]) -> Parked:
        """Move these tensors to host memory and empty the devices' caches."""
        before = _free_memory()
        moved = 0
        for tensor in tensors:
            if tensor.is_cpu or not tensor.numel():
                continue
            self._away.append((tensor, tensor.device))
            moved += tensor.numel() * tensor.element_size()
            tensor.data = tensor.data.to("cpu")
        gc.collect()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        return Parked(moved, max(0, _free_memory() - before))

    def bring_back(self) -> None:
        """Move everything back to where it was, bit for bit."""
        while self._away:
            # Taken off only then: a device that is full now may have room the next time.
            tensor, device = self._away[-1]
            tensor.data = tensor.data.to(device)
            self._away.pop()


def _free_memory() -> int:
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return 0
    devices = range(torch.cuda.device_count())
    return int(sum(torch.cuda.mem_get_info(device)[0] for device in devices))
