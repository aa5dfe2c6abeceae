"""The peers of a process that is one of several: what is known is passed on, and done together."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple, TypeVar

from ..errors import TrainingError
from ..inbox import Waiting
from ..parts import Recording, Session, Target
from ..peers import Alone, Peers
from ..snapshot import Snapshot
from ..trace import digest_of
from . import states
from .agreement import Agreement
from .averaging import Averaged
from .group import Group
from .inbox import SharedInbox

T = TypeVar("T")

#: What is the same on every process, because they train one model; too large to be compared.
_SAME = ("model", "optimizer", "optimizers")


class Ranks:
    """All processes of a training; see `Peers`."""

    is_parted = False

    def __init__(self, group: Group, *, averages: bool = False) -> None:
        self._group = group
        self._averages = averages
        self._averaged: Optional[Averaged] = None
        self.rank, self.size = group.rank, group.size

    def shared(self, ask: Callable[[], T]) -> T:
        """What rank 0 finds; its error, where it raises one."""
        found, error = _tried(ask) if self.rank == 0 else (None, None)
        found, told = self._group.broadcast((found, _portable(error, 0)))
        if error is not None:
            raise error
        if told is not None:
            raise told
        return found  # type: ignore[no-any-return]

    def shared_state(self, load: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
        """What rank 0 loads, without a copy of it all in one piece."""
        loaded: List[Dict[str, Any]] = []
        self.shared(lambda: loaded.append(load()))
        return states.broadcast(self._group, loaded[0] if loaded else None)

    def together(self, act: Callable[[], T]) -> T:
        """Do it here and know whether it was done everywhere."""
        found, error = _tried(act)
        told = [each for each in self._group.gather_all(_portable(error, self.rank)) if each]
        if error is not None:
            raise error
        if told:
            raise told[0]
        return found  # type: ignore[return-value]

    def gathered(self, value: T) -> List[T]:
        """Every process's value."""
        return self._group.gather_all(value)

    def whole(self, state: Dict[str, Any]) -> Dict[str, Any]:
        """On rank 0 the state, and under `ranks` what each rank has otherwise; elsewhere nothing."""
        compared = {key: value for key, value in state.items() if key not in _SAME}
        # Together, because one that cannot and goes on alone leaves the others waiting.
        digests = self.together(lambda: {key: digest_of(compared[key]) for key in compared})
        firsts = self._group.broadcast(digests)
        own = {key: state[key] for key, digest in digests.items() if firsts.get(key) != digest}
        shares = self._group.gather(self.together(lambda: Snapshot(own).wait()))
        return {**state, "ranks": shares} if self.rank == 0 else {}

    def recording(self, recorder: Target) -> Recording:
        """The recorder, or one that averages into it."""
        if not self._averages:
            return recorder
        self._averaged = Averaged(recorder, self._group)
        return self._averaged

    def inbox(self) -> Waiting:
        """An inbox that the processes share."""
        return SharedInbox(Agreement(self._group), self._exchange)

    def _exchange(self, everything: bool) -> None:
        if self._averaged is not None:
            self._averaged.exchange(everything=everything)

    def failed(self, session: Session, reason: str, trace: str) -> Tuple[str, str]:
        """Leave word; on rank 0 learn of those that failed before it."""
        if self.rank != 0:
            self._group.leave_word(session.id, {"reason": reason, "trace": trace})
            return reason, ""
        for rank in range(1, self.size):
            word = self._group.word_of(session.id, rank, "reason")
            if word is not None:
                told = f"{self._group.described(rank)} failed: {word}"
                more = self._group.word_of(session.id, rank, "trace") or ""
                return f"{told}. Rank 0 then had {reason}", f"{told}\n{more}"
        gone = [self._group.described(rank) for rank in self._group.gone()]
        if not gone:
            return reason, ""
        told = f"{' and '.join(gone)} ended without a word, as by `kill -9` or for want of memory"
        return f"{told}. Rank 0 then had {reason}", told

    def parted(self) -> Peers:
        """What is left of them for a process that has failed."""
        if self._averaged is not None:
            self._averaged.parted()
        return Parted(self.rank, self.size)


class Parted(Alone):
    """One of several processes, when it has failed and nothing can be done together any more."""

    is_parted = True

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def whole(self, state: Dict[str, Any]) -> Dict[str, Any]:
        """The state, of which the other ranks' parts are not known."""
        others: List[Optional[Dict[str, Any]]] = [None] * (self.size - 1)
        return {**state, "ranks": [{}, *others]}


def _tried(act: Callable[[], T]) -> Tuple[Optional[T], Optional[Exception]]:
    # The boundary between processes: what one raises is raised by all.
    try:
        return act(), None
    except Exception as error:  # noqa: BLE001
        return None, error


def _portable(error: Optional[Exception], rank: int) -> Optional[TrainingError]:
    """An error as the other processes raise it."""
    if error is None:
        return None
    if isinstance(error, TrainingError):
        return type(error)(f"{error} (That is on rank {rank}.)")
    return TrainingError(f"On rank {rank}: {type(error).__name__}: {error}")
