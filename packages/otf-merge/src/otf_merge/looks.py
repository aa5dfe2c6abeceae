"""A measure at work: it sees all pieces, pass by pass, in several threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor

    from torch import Tensor

    from .measures import Measure
    from .pieces import Piece

#: Reads one piece of every checkpoint, and of the base where there is one.
Read = Callable[[str, "Piece"], "tuple[Sequence[Tensor], Tensor | None]"]


class Look:
    """One measure over the pieces of a tensor, or of all tensors of a model.

    The executor must start what it is given in that order: the jobs of a later pass wait for the
    earlier one to be folded, which therefore has been started before them. Pieces are folded in
    their order as soon as they can be, so that what is kept does not grow with their number.
    """

    def __init__(self, measure: Measure, pieces: Sequence[tuple[str, Piece]], read: Read) -> None:
        self.measure = measure
        self._pieces = pieces
        self._read = read
        self._passes = [_Pass(measure, len(pieces)) for _ in range(measure.passes)]
        self._value: Any = None
        self._valued = False
        self._lock = threading.Lock()

    def start(self, pool: Executor) -> None:
        """Hand every pass's pieces to the executor."""
        for number in range(len(self._passes)):
            for index in range(len(self._pieces)):
                pool.submit(self._observe, number, index)

    def value(self, timeout: float | None = None) -> Any:
        """What the method is given; waits for it, and raises what a piece raised.

        Raises `TimeoutError` where it is not there within `timeout` seconds.
        """
        folded = [each.folded(timeout) for each in self._passes]
        with self._lock:
            if not self._valued:
                self._value = self.measure.value(folded)
                self._valued = True
        return self._value

    def _observe(self, number: int, index: int) -> None:
        this = self._passes[number]
        try:
            so_far = [each.folded(None) for each in self._passes[:number]]
            tensors, base = self._read(*self._pieces[index])
            this.add(index, self.measure.observe(tensors, base, so_far))
        except BaseException as error:  # noqa: BLE001 - raised again by whoever asks for the value
            this.fail(error)


class _Pass:
    """What has been folded of one pass, in the order of the pieces."""

    def __init__(self, measure: Measure, count: int) -> None:
        self._measure = measure
        self._count = count
        self._next = 0
        self._waiting: dict[int, Any] = {}
        self._total: Any = None
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()

    def add(self, index: int, part: Any) -> None:
        with self._lock:
            self._waiting[index] = part
            while self._next in self._waiting:
                part = self._waiting.pop(self._next)
                parts = [self._total, part] if self._next else [part]
                self._total = self._measure.fold(parts)
                self._next += 1
            if self._next == self._count:
                self._over.set()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._over.set()

    def folded(self, timeout: float | None) -> Any:
        if not self._over.wait(timeout):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._total
