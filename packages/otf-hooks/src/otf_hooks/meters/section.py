"""The pieces of a sample: code of ours that runs in the midst of somebody's training step."""

from __future__ import annotations

import time
from typing import Any, Callable, List, Optional, Tuple

import torch


class Section:
    """`with section.piece():` around each piece: it builds no graph, raises nothing, and is timed.

    A failure (memory, most likely) is kept in `error`: the training step goes on as if nothing had
    been there. On CUDA the device's time is measured by events on the current stream, which are
    read when they have passed; nothing waits for them. On other accelerators the host's time stands
    for both.
    """

    def __init__(
        self,
        device: Optional[torch.device] = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.error: Optional[Exception] = None
        self.clock = clock
        #: The device whose time is measured too.
        self.device = device if device is not None and device.type == "cuda" else None
        #: Seconds on the host.
        self.seconds = 0.0
        #: Where pieces began and ended on the device.
        self.events: List[Tuple[Any, Any]] = []

    def piece(self) -> _Piece:
        """A piece, which may run in any thread: backward passes have their own."""
        return _Piece(self)

    def cost(self) -> Optional[float]:
        """Seconds on the host and on the device together; None while the device is not there yet."""
        # The last one first: it says for all of them where there is only one stream.
        if not all(end.query() for _, end in reversed(self.events)):
            return None
        on_device = sum(float(begin.elapsed_time(end)) for begin, end in self.events)
        return self.seconds + on_device * 1e-3


class _Piece:
    def __init__(self, section: Section) -> None:
        self._section = section
        self._no_grad = torch.no_grad()

    def __enter__(self) -> None:
        self._began = self._section.clock()
        self._no_grad.__enter__()
        self._at_begin = self._event()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        section = self._section
        at_end = self._event()
        if at_end is not None:
            section.events.append((self._at_begin, at_end))
        self._no_grad.__exit__(kind, error, trace)
        section.seconds += section.clock() - self._began
        if isinstance(error, Exception):
            section.error = section.error or error
            return True
        return False

    def _event(self) -> Any:
        device = self._section.device
        if device is None:
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(device))
        return event


def is_no_place_for_samples() -> bool:
    """Whether what runs now is being written down, to be run again without Python.

    What were measured here would be measured in every step from then on. torch 2.2 cannot be asked
    whether it compiles.
    """
    is_compiling = getattr(torch.compiler, "is_compiling", None)
    if is_compiling is not None and is_compiling():
        return True
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
