"""Where commands and errands wait until the training thread takes them."""

from __future__ import annotations

import queue
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Iterable,
    Iterator,
    List,
    Optional,
    Protocol,
    Tuple,
    Union,
)

from otf_session.commands import CommandRequest

if TYPE_CHECKING:
    from .engine import Engine
    from .peers import Rounds


class Errand(Protocol):
    """Something to do on the training thread that nobody asked for by a command.

    It is data, so that every process of a training can be told of it.
    """

    @property
    def at_end(self) -> bool:
        """Whether it is still done when the run has ended."""

    def run(self, engine: Engine) -> None:
        """Do it."""


Item = Union[CommandRequest, Errand]


class Waiting(Protocol):
    """A queue of what is to be done; with several processes, a queue that they share."""

    #: Whether nothing is to be done, so that a safe point has nothing to do: a look without a cost.
    is_empty: Callable[[], bool]

    def put(self, item: Item) -> None:
        """Have something done. May be called by any thread, and by a signal handler."""

    def get(self) -> Item:
        """What is to be done next, where there is something."""

    def put_back(self, items: List[Item]) -> None:
        """Have done later, and in this order, what was taken."""

    def look(self, step: int, phase: str) -> Optional[int]:
        """At a safe point: agree on what is to be done; the step at which that is due again."""

    def moved(self, step: int) -> Optional[int]:
        """Training was put at a step; the step at which they agree again."""

    def keep_step(self, number: int) -> None:
        """Agree between two of the trained batches of a long command."""

    def wait(self, seconds: float, step: int) -> Optional[Item]:
        """What is to be done next; None where nothing came for so long."""

    def rounds(self) -> Rounds:
        """An evaluation that begins."""

    def rest(self) -> List[Item]:
        """Everything that waits, also what is not agreed on, taken."""


class Inbox:
    """The queue of one process."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self.is_empty = self._queue.empty
        self.put = self._queue.put
        self.get = self._queue.get

    def put_back(self, items: List[Item]) -> None:
        """Queue them before what came meanwhile."""
        for item in [*items, *self.rest()]:
            self._queue.put(item)

    def look(self, step: int, phase: str) -> Optional[int]:
        """There is nobody to agree with."""
        return None

    def moved(self, step: int) -> Optional[int]:
        """There is nobody to agree with."""
        return None

    def keep_step(self, number: int) -> None:
        """There is nobody to agree with."""

    def wait(self, seconds: float, step: int) -> Optional[Item]:
        """What comes within so many seconds."""
        # A bounded wait, because Ctrl-C does not end an unbounded one on every platform.
        try:
            return self._queue.get(timeout=seconds)
        except queue.Empty:
            return None

    def rounds(self) -> Rounds:
        """A pass over a loader."""
        return _Pass()

    def rest(self) -> List[Item]:
        """Everything that waits, taken."""
        items = []
        while not self._queue.empty():
            items.append(self._queue.get())
        return items


class _Pass:
    """An evaluation of one process."""

    def __enter__(self) -> Rounds:
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def over(
        self, loader: Iterable[Any], *, keeps_step: bool = False
    ) -> Iterator[Tuple[int, Any, bool]]:
        """The loader's batches."""
        for number, batch in enumerate(loader):
            yield number, batch, True

    def gathered(self, value: Any) -> List[Any]:
        """The only value."""
        return [value]
