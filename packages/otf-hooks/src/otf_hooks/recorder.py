"""The hot path: what the training thread does to record a step.

It appends references to a `deque`, whose appends and pops are atomic, so that the training thread
and the writer share no lock. Numbers and CPU tensors are read at once (a CPU tensor costs no
synchronisation, and may be changed in place by the next step). A tensor on an accelerator is only
held; the writer reads it back.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Mapping, NamedTuple, Optional, Union

import msgspec
import torch
from otf_session.events import AnyEvent


class HeldTensor(NamedTuple):
    """A scalar on an accelerator, and its version when it was recorded."""

    tensor: torch.Tensor
    version: int


Value = Union[float, int, HeldTensor]


class Measurement(msgspec.Struct, frozen=True, gc=False):
    """What was measured at one step of one run.

    `time` is in seconds since the epoch. Where the step's duration and number of samples are
    known, `seconds` and `samples`, the writer derives `step_time` and `throughput` from them.
    `waited` are those of the seconds in which the step waited for its batch.

    A msgspec struct, because one is made every step: it is made in C, and holds no cycles that
    the garbage collector would have to look for.
    """

    run: str
    step: int
    time: float
    values: Dict[str, Value]
    seconds: float = 0.0
    samples: int = 0
    waited: Optional[float] = None


Item = Union[Measurement, AnyEvent]


class Recorder:
    """The buffer between the training thread and the writer."""

    def __init__(self, warn: Callable[[str], None], clock: Callable[[], float] = time.time) -> None:
        self._items: Deque[Item] = deque()
        self._append = self._items.append
        self._clock = clock
        #: Told what is not recorded, and why.
        self.warn = warn
        self._skipped: set[str] = set()
        #: Whether any value was ever held back: without one nobody has to look for them.
        self.holds = False
        #: Metrics whose tensors the script changes in place: they are copied when recorded.
        self.copied: set[str] = set()

    def record(
        self,
        run: str,
        step: int,
        values: Mapping[str, Any],
        seconds: float = 0.0,
        samples: int = 0,
        waited: Optional[float] = None,
    ) -> None:
        """Record the values measured at a step: numbers, or tensors with one element."""
        held: Dict[str, Value] = {}
        # Every statement here is paid for at every step, on the training thread.
        for name, value in values.items():
            kind = type(value)
            if kind is float or kind is int:
                held[name] = value
            elif kind is torch.Tensor and value.is_cpu and value.ndim == 0:
                held[name] = value.item()
            else:
                taken = self._take(name, value)
                if taken is not None:
                    held[name] = taken
        if held:
            self._append(Measurement(run, step, self._clock(), held, seconds, samples, waited))

    def put(self, measurement: Measurement) -> None:
        """Record what was measured before, as numbers."""
        self._append(measurement)

    def add(self, event: AnyEvent) -> None:
        """Record an event."""
        self._append(event)

    def drain(self) -> List[Item]:
        """Everything recorded since the last call, in order. For the writer thread only."""
        items = self._items
        return [items.popleft() for _ in range(len(items))]

    def _take(self, name: str, value: Any) -> Optional[Value]:
        if isinstance(value, torch.Tensor):
            if value.numel() == 1:
                return self._take_tensor(name, value)
        else:
            try:
                return float(value)
            except (TypeError, ValueError):
                pass
        if name not in self._skipped:
            self._skipped.add(name)
            self.warn(
                f"The metric '{name}' is not recorded: it is {described(value)}, and a metric is "
                "one number or a tensor with one element."
            )
        return None

    def _take_tensor(self, name: str, value: torch.Tensor) -> Value:
        if value.is_cpu:
            return float(value.item())
        # Detached, so that the loss does not keep its graph alive until the writer has read it.
        self.holds = True
        value = value.detach()
        if name in self.copied or value.is_inference():
            value = value.clone()
        return HeldTensor(value, version_of(value))


def version_of(tensor: torch.Tensor) -> int:
    """How often a tensor was changed in place; torch does not count for inference tensors."""
    return 0 if tensor.is_inference() else tensor._version  # noqa: SLF001


def described(value: Any) -> str:
    """What a value is, in words for the person who returned it as a metric."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"
