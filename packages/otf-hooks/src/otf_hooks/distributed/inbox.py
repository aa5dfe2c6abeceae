"""The inbox that all processes of a training share: what they take from it, they take at one step."""

from __future__ import annotations

import contextlib
import queue
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from ..errors import LoaderError, OutOfStep, RankLost, StepError
from ..inbox import Item
from ..peers import Rounds
from .agreement import Agreement, Found, Kind, Pace

#: Phases that hold only a few safe points, and an evaluation, which has rounds of its own.
_SELDOM = ("between", "end")
_EVALUATING = ("validate", "test")
_NONE = object()


class SharedInbox:
    """What this process was asked for, until all know of it; then what all of them do."""

    def __init__(self, agreement: Agreement, exchange: Callable[[bool], None]) -> None:
        self._agreement = agreement
        #: Called in every round, on all processes, and told whether what follows may be no step.
        self._exchange = exchange
        self._mine: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._agreed: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._outgoing: List[Item] = []
        self.is_empty = self._agreed.empty
        self.put = self._mine.put
        self.get = self._agreed.get
        self._pace = Pace()
        #: The steps from the last round to the next.
        self._from = self._due = 0

    def put_back(self, items: List[Item]) -> None:
        """They are agreed on; queue them before what came meanwhile."""
        for item in [*items, *_taken(self._agreed)]:
            self._agreed.put(item)

    def look(self, step: int, phase: str) -> Optional[int]:
        """Agree where that is due; the step of the next time."""
        is_due = phase in _SELDOM or not self._from <= step < self._due
        if is_due and phase not in _EVALUATING:
            under_way = phase not in _SELDOM
            pace = self._pace.proposed(step)
            found = self.agree(Kind.STEPS, step, pace, is_under_way=under_way)
            self._pace.agreed(found.pace, step)
            self._from, self._due = step, step + found.pace
        return self._due

    def moved(self, step: int) -> Optional[int]:
        """Training was put at a step; they agree again after the next one."""
        self._pace.interrupted()
        self._from, self._due = step, step + 1
        return self._due

    def keep_step(self, number: int) -> None:
        """Agree between two trained batches."""
        if number % self._pace.steps == 0:
            self.agree(Kind.STEPS_OF_A_LONG_COMMAND, number, self._pace.steps)

    def wait(self, seconds: float, step: int) -> Optional[Item]:
        """What is to be done next, agreed on in a round of its own, however short the wait."""
        if self._agreed.empty():
            if self._agreement.is_first:
                with contextlib.suppress(queue.Empty):
                    self._outgoing.append(self._mine.get(timeout=seconds))
            self.agree(Kind.LOOKS_WHILE_HELD, step, self._pace.steps)
            self._pace.interrupted()
        return None if self._agreed.empty() else self._agreed.get()

    def rounds(self) -> Rounds:
        """An evaluation that begins."""
        return EvaluationRounds(self)

    def rest(self) -> List[Item]:
        """Everything that waits, also what the others have not heard of."""
        mine, self._outgoing = self._outgoing, []
        return [*_taken(self._agreed), *mine, *_taken(self._mine)]

    def agree(
        self,
        kind: Kind,
        at: int,
        pace: int,
        *,
        is_under_way: bool = False,
        is_done: bool = False,
        failure: Optional[str] = None,
    ) -> Found:
        """Have a round; what is to be done is queued."""
        mine, self._outgoing = [*self._outgoing, *_taken(self._mine)], []
        found = self._agreement.round(kind, at, mine, pace, is_done=is_done, failure=failure)
        for item in found.items:
            self._agreed.put(item)
        self._exchange(bool(found.items) or kind is not Kind.STEPS or not is_under_way)
        return found

    def gathered(self, value: Any) -> List[Any]:
        """Every process's value."""
        return self._agreement.gathered(value)


class EvaluationRounds:
    """Rounds between the batches of an evaluation, until the last process has none left."""

    def __init__(self, inbox: SharedInbox) -> None:
        self._inbox = inbox
        self._pace = Pace()
        self._due = 0
        self._is_over = False

    def __enter__(self) -> Rounds:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Where this process failed, have the others fail at the next round, and not wait."""
        is_ours = isinstance(error, Exception) and not isinstance(error, (RankLost, OutOfStep))
        if is_ours and not self._is_over:
            self._round(is_done=True, failure=f"{type(error).__name__}: {error}")

    def over(
        self, loader: Iterable[Any], *, keeps_step: bool = False
    ) -> Iterator[Tuple[int, Any, bool]]:
        """This process's batches; behind them None, or the last one again, while others have some."""
        batches = iter(loader)
        number, last, is_done = 0, _NONE, False
        while True:
            if number >= self._due:
                found = self._round(is_done=is_done)
                if found.failures:
                    raise StepError(_told(found.failures))
                if found.are_all_done:
                    self._is_over = True
                    return
                self._due = number + (1 if keeps_step else found.pace)
            batch = _NONE if is_done else next(batches, _NONE)
            is_done = batch is _NONE
            if not is_done:
                yield number, batch, True
                last = batch
                number += 1
            elif keeps_step:
                if last is _NONE:
                    raise LoaderError(
                        "A process has no batch at all, and a sharded model needs one."
                    )
                yield number, last, False
                number += 1
            else:
                yield number, None, False
                number = self._due

    def gathered(self, value: Any) -> List[Any]:
        """Every process's value."""
        return self._inbox.gathered(value)

    def _round(self, *, is_done: bool, failure: Optional[str] = None) -> Found:
        kind, at = Kind.BATCHES_OF_AN_EVALUATION, self._due
        proposed = self._pace.proposed(at)
        found = self._inbox.agree(kind, at, proposed, is_done=is_done, failure=failure)
        self._pace.agreed(found.pace, at)
        self._is_over = self._is_over or bool(found.failures)
        return found


def _taken(items: queue.SimpleQueue[Item]) -> List[Item]:
    taken = []
    while not items.empty():
        taken.append(items.get())
    return taken


def _told(failures: Dict[int, str]) -> str:
    return " ".join(
        f"On rank {rank} the evaluation failed: {why}." for rank, why in failures.items()
    )
