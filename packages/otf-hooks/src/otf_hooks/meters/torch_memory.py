"""What torch's allocators hold on accelerators."""

from __future__ import annotations

from typing import Any, Dict

import torch

_CUDA = {
    "torch_allocated": "allocated_bytes.all.current",
    "torch_reserved": "reserved_bytes.all.current",
    "torch_max_allocated": "allocated_bytes.all.peak",
}


class TorchMemory:
    """Reads counters that the allocators keep anyway; no device is asked, or waited for.

    `cuda` and `mps` are `torch.cuda` and `torch.mps`; `has_mps` says whether the latter is there.
    """

    def __init__(self, cuda: Any, mps: Any, *, has_mps: bool) -> None:
        self._cuda = cuda
        self._mps = mps if has_mps else None

    @classmethod
    def here(cls) -> TorchMemory:
        """That of this process."""
        return cls(torch.cuda, torch.mps, has_mps=torch.backends.mps.is_available())

    def read(self) -> Dict[str, float]:
        """Bytes, for every device on which torch holds any."""
        return {**self._read_cuda(), **self._read_mps()}

    def _read_cuda(self) -> Dict[str, float]:
        # Asking earlier would set CUDA up, which takes memory and time.
        if not self._cuda.is_initialized():
            return {}
        found: Dict[str, float] = {}
        for number in range(self._cuda.device_count()):
            statistics = self._cuda.memory_stats(number)
            if statistics.get("reserved_bytes.all.peak"):
                for name, key in _CUDA.items():
                    found[f"gpu{number}/{name}"] = float(statistics[key])
        return found

    def _read_mps(self) -> Dict[str, float]:
        if self._mps is None:
            return {}
        return {
            "mps/torch_allocated": float(self._mps.current_allocated_memory()),
            "mps/torch_reserved": float(self._mps.driver_allocated_memory()),
        }
