"""CPU and memory, of this process and of the machine."""

from __future__ import annotations

import time
from typing import Callable, Dict, NamedTuple, Optional

import psutil

#: Counted by Linux in `user` and `nice` already.
_COUNTED_TWICE = ("guest", "guest_nice")
_IDLE = ("idle", "iowait")


class HostMeter:
    """Reads through `psutil`. Shares are of the time since the last reading: the first has none.

    In a container these are still the machine's figures: `psutil` knows nothing of its limits.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._process: Optional[psutil.Process] = None
        self._before: Optional[_Times] = None

    def read(self) -> Dict[str, float]:
        """`sys/cpu` and `sys/ram` in percent, `proc/cpu` in percent of a core, `proc/ram` in bytes."""
        if self._process is None:
            self._process = psutil.Process()
        before, now = self._before, _Times.of(self._process, self._clock())
        self._before = now
        found = {
            "sys/ram": float(psutil.virtual_memory().percent),
            "proc/ram": float(self._process.memory_info().rss),
        }
        if before is None:
            return found
        # No time passes between two ticks of the kernel's clock.
        if now.machine > before.machine:
            busy = (now.busy - before.busy) / (now.machine - before.machine)
            found["sys/cpu"] = 100 * min(max(busy, 0.0), 1.0)
        if now.clock > before.clock:
            found["proc/cpu"] = 100 * (now.process - before.process) / (now.clock - before.clock)
        return found


class _Times(NamedTuple):
    """Seconds: in which the cores worked, of all cores, of the process, and of the clock."""

    busy: float
    machine: float
    process: float
    clock: float

    @classmethod
    def of(cls, process: psutil.Process, clock: float) -> _Times:
        cores = psutil.cpu_times()._asdict()
        machine = sum(seconds for name, seconds in cores.items() if name not in _COUNTED_TWICE)
        idle = sum(cores.get(name, 0.0) for name in _IDLE)
        own = process.cpu_times()
        return cls(machine - idle, machine, own.user + own.system, clock)
