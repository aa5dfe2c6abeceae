"""NVIDIA's library as its module shows it, with GPUs that a test describes."""

# The names are those of the library.
# ruff: noqa: N801, N802, N815

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Optional, Sequence


class NVMLError(Exception):
    def __str__(self) -> str:
        return self.args[0] if self.args else type(self).__name__.split("_")[-1]


class NVMLError_NotSupported(NVMLError):
    pass


class NVMLError_FunctionNotFound(NVMLError):
    pass


class NVMLError_NotFound(NVMLError):
    pass


class Gpu:
    """A GPU, or an instance of one (`whole`). `broken` are the functions that raise, and what."""

    def __init__(self, uuid: str, *, whole: Optional[Gpu] = None, **figures: Any) -> None:
        self.uuid = uuid
        self.whole = whole
        self.name = "NVIDIA Test 9000"
        self.util = 37
        self.used, self.total = 5_000_000_000, 80_000_000_000
        self.processes = {os.getpid(): 3_000_000_000, 1: 1_000_000_000}
        self.temperature = 64
        self.milliwatts = 251_500
        self.reasons = 0
        self.broken: Dict[str, Callable[[], Exception]] = {}
        vars(self).update(figures)


class Nvml:
    """The part of `pynvml` that is used."""

    NVMLError = NVMLError
    NVMLError_NotSupported = NVMLError_NotSupported
    NVMLError_FunctionNotFound = NVMLError_FunctionNotFound
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2
    nvmlMemory_v2 = 0x02000028

    def __init__(self, *gpus: Gpu, instances: Sequence[Gpu] = ()) -> None:
        self._gpus = list(gpus)
        self._instances = instances
        self.has_second_memory = True
        self.calls: List[str] = []

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, number: int) -> Gpu:
        return self._gpus[number]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Gpu:
        for gpu in [*self._gpus, *self._instances]:
            if gpu.uuid == uuid:
                return gpu
        raise NVMLError_NotFound

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: Gpu) -> Gpu:
        assert handle.whole is not None
        return handle.whole

    def nvmlDeviceGetUUID(self, handle: Gpu) -> str:
        return handle.uuid

    def nvmlDeviceGetName(self, handle: Gpu) -> bytes:
        # As older versions have it.
        return handle.name.encode()

    def nvmlDeviceGetUtilizationRates(self, handle: Gpu) -> Any:
        self._look(handle, "util")
        if handle.whole is not None:
            raise NVMLError_NotSupported
        return SimpleNamespace(gpu=handle.util, memory=1)

    def nvmlDeviceGetMemoryInfo(self, handle: Gpu, version: Optional[int] = None) -> Any:
        self._look(handle, "memory")
        if version is not None and not self.has_second_memory:
            raise NVMLError_FunctionNotFound
        reserved = 0 if version is not None else 500_000_000
        return SimpleNamespace(used=handle.used + reserved, total=handle.total)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Gpu) -> List[Any]:
        self._look(handle, "processes")
        return [SimpleNamespace(pid=p, usedGpuMemory=n) for p, n in handle.processes.items()]

    def nvmlDeviceGetTemperature(self, handle: Gpu, sensor: int) -> int:
        self._look(handle, "temperature")
        assert handle.whole is None
        return handle.temperature

    def nvmlDeviceGetPowerUsage(self, handle: Gpu) -> int:
        self._look(handle, "power")
        assert handle.whole is None
        return handle.milliwatts

    def nvmlDeviceGetClockInfo(self, handle: Gpu, kind: int) -> int:
        self._look(handle, "clocks")
        assert handle.whole is None
        return {1: 1410, 2: 2619}[kind]

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Gpu) -> int:
        self._look(handle, "throttling")
        assert handle.whole is None
        return handle.reasons

    def _look(self, handle: Gpu, what: str) -> None:
        self.calls.append(what)
        if what in handle.broken:
            error = handle.broken[what]()
            raise error
