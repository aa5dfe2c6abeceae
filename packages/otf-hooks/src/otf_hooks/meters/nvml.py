"""NVIDIA's own figures of its GPUs, through NVML."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import torch

from .meter import MeterEnded
from .visible import KINDS, visible_devices

_MILLI = 1e-3
#: NVML's bits of the reasons for lower clocks, by what a person can do about them: give it more
#: power, cool it, look at the machine.
_REASONS = {
    "throttle_power": 0x04 | 0x80,
    "throttle_thermal": 0x20 | 0x40,
    "throttle_hardware": 0x08,
}

Read = Callable[[Any, Any], Dict[str, Optional[float]]]


def load() -> Any:
    """The module `pynvml`, where there is a driver; else None. Raises nothing."""
    # The module takes far longer to import than it takes to see that there is no driver.
    if sys.platform.startswith("linux"):
        try:
            ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return None
    elif sys.platform != "win32":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    return pynvml


def cuda_identifiers() -> Optional[List[str]]:
    """The identifiers of `cuda:0`, `cuda:1`, ..., without their kind; None where torch can't tell."""
    if not torch.cuda.is_initialized():
        return None
    found = []
    for number in range(torch.cuda.device_count()):
        identifier = getattr(torch.cuda.get_device_properties(number), "uuid", None)
        if identifier is None:
            return None
        found.append(str(identifier))
    return found


class _Device(NamedTuple):
    """A device that the process sees. `whole` is the GPU, of which `handle` may be an instance."""

    number: int
    handle: Any
    whole: Any

    @property
    def is_instance(self) -> bool:
        return self.handle is not self.whole


class NvmlMeter:
    """Reads every GPU that this process sees.

    Without a driver it is over at once, and nothing is said. What a GPU does not offer has no
    series. A reading that fails ends its series, and is said once.

    Of an instance of a GPU (MIG) the memory is its own; temperature, power and clocks are those of
    the GPU that it is a part of, and its utilisation is not to be had.

    Args:
        say: Told what goes into the log.
        load: Gives `pynvml`, or None.
        identifiers: See `cuda_identifiers`.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        load: Callable[[], Any] = load,
        identifiers: Callable[[], Optional[List[str]]] = cuda_identifiers,
    ) -> None:
        self._say = say
        self._load = load
        self._identifiers = identifiers
        self._library: Any = None
        self._open: List[Tuple[_Device, str, Read]] = []

    def read(self) -> Dict[str, float]:
        """What all devices show. Raises `MeterEnded` where there is none, or none any more."""
        if self._library is None:
            self._library = self._opened()
            self._open = [
                (device, what, read)
                for device in self._devices()
                for what, read in _QUANTITIES.items()
            ]
        found: Dict[str, float] = {}
        for entry in list(self._open):
            device, what, read = entry
            try:
                values = read(self._library, device)
            except self._library.NVMLError as error:
                self._open.remove(entry)
                self._tell(device, what, error)
                continue
            for name, value in values.items():
                if value is not None:
                    found[f"gpu{device.number}/{name}"] = value
        if not self._open:
            raise MeterEnded
        return found

    def _opened(self) -> Any:
        library = self._load()
        if library is None:
            raise MeterEnded
        try:
            library.nvmlInit()
        except library.NVMLError:
            # A library without its driver: a container that was given no GPU.
            raise MeterEnded from None
        return library

    def _devices(self) -> List[_Device]:
        library = self._library
        try:
            count = library.nvmlDeviceGetCount()
            handles = [library.nvmlDeviceGetHandleByIndex(number) for number in range(count)]
            names = [_text(library.nvmlDeviceGetUUID(handle)) for handle in handles]
            seen = self._seen(names)
            devices = [self._device(*numbered) for numbered in enumerate(seen)]
            lines = [self._described(*each, names) for each in zip(devices, seen)]
        except library.NVMLError as error:
            raise MeterEnded(f"The GPUs cannot be read through NVML: {error}.") from error
        for line in lines:
            self._say(line)
        return devices

    def _seen(self, names: List[str]) -> List[str]:
        """The identifiers of what the process sees, as torch says it, or as its environment does."""
        known = self._identifiers()
        if known is None:
            return visible_devices(os.environ.get("CUDA_VISIBLE_DEVICES"), names)
        whole, part = KINDS
        return [
            identifier
            if identifier.startswith(KINDS)
            else (whole if whole + identifier in names else part) + identifier
            for identifier in known
        ]

    def _device(self, number: int, name: str) -> _Device:
        library = self._library
        handle = library.nvmlDeviceGetHandleByUUID(name)
        if not name.startswith("MIG-"):
            return _Device(number, handle, handle)
        whole = library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
        return _Device(number, handle, whole)

    def _described(self, device: _Device, name: str, names: List[str]) -> str:
        library = self._library
        gpu = _text(library.nvmlDeviceGetUUID(device.whole))
        size = library.nvmlDeviceGetMemoryInfo(device.handle).total / 1e9
        what = f"an instance ({name}) of " if device.is_instance else ""
        return (
            f"gpu{device.number} is {what}GPU {names.index(gpu)} of this machine ({gpu}), "
            f"{_text(library.nvmlDeviceGetName(device.whole))}, with {size:.1f} GB."
        )

    def _tell(self, device: _Device, what: str, error: Any) -> None:
        if not isinstance(error, self._library.NVMLError_NotSupported):
            self._say(
                f"The {what} of gpu{device.number} cannot be read any more: {error}. "
                "Its series end here."
            )


def _utilisation(library: Any, device: _Device) -> Dict[str, Optional[float]]:
    if device.is_instance:
        return {}
    return {"util": float(library.nvmlDeviceGetUtilizationRates(device.handle).gpu)}


def _memory(library: Any, device: _Device) -> Dict[str, Optional[float]]:
    # The second version counts, as nvidia-smi does, without what the driver reserves.
    try:
        found = library.nvmlDeviceGetMemoryInfo(device.handle, version=library.nvmlMemory_v2)
    except library.NVMLError_FunctionNotFound:
        found = library.nvmlDeviceGetMemoryInfo(device.handle)
    return {"memory": float(found.used)}


def _memory_of_process(library: Any, device: _Device) -> Dict[str, Optional[float]]:
    own = [
        process.usedGpuMemory
        for process in library.nvmlDeviceGetComputeRunningProcesses(device.handle)
        # In a container the driver may go by numbers that mean nothing in it.
        if process.pid == os.getpid() and process.usedGpuMemory is not None
    ]
    return {"memory_process": float(sum(own)) if own else None}


def _temperature(library: Any, device: _Device) -> Dict[str, Optional[float]]:
    kind = library.NVML_TEMPERATURE_GPU
    return {"temperature": float(library.nvmlDeviceGetTemperature(device.whole, kind))}


def _power(library: Any, device: _Device) -> Dict[str, Optional[float]]:
    return {"power": library.nvmlDeviceGetPowerUsage(device.whole) * _MILLI}


def _clocks(library: Any, device: _Device) -> Dict[str, Optional[float]]:
    kinds = {"clock_sm": library.NVML_CLOCK_SM, "clock_memory": library.NVML_CLOCK_MEM}
    return {
        name: float(library.nvmlDeviceGetClockInfo(device.whole, kind))
        for name, kind in kinds.items()
    }


def _throttling(library: Any, device: _Device) -> Dict[str, Optional[float]]:
    # By its older name, which every driver knows.
    reasons = library.nvmlDeviceGetCurrentClocksThrottleReasons(device.whole)
    return {name: float(bool(reasons & bits)) for name, bits in _REASONS.items()}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


#: What is read, each of which may fail on its own, by its name in the log.
_QUANTITIES: Dict[str, Read] = {
    "utilisation": _utilisation,
    "memory": _memory,
    "process memory": _memory_of_process,
    "temperature": _temperature,
    "power": _power,
    "clocks": _clocks,
    "throttling": _throttling,
}
