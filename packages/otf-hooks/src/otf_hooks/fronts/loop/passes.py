"""Where the script's passes over its loaders are.

A pass is one `run.batches(loader)`. An epoch may have several, over one loader or another, one after
the other. Loaders are known by the order in which the script first asks for them: that is how
another process finds them again.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, ContextManager, Dict, Iterator, List, Optional

from ... import randomness, sources
from ...drawing import DrawsWatch, reads_ahead
from ...loaders import Loader
from ...position import DataPosition

_NOWHERE: Dict[str, Any] = {
    "epoch": 0,
    "first_step": 0,
    "under_way": False,
    "batch": 0,
    "samples": None,
    "sources": {},
}
_DRAWN_AHEAD = (
    "The loader reads a batch ahead of the step, as Accelerate's does, and its dataset draws from the "
    "global generators: what going back reads again comes out otherwise. With num_workers=1 or more, "
    "or drawn when the dataset is made, it is the same."
)


class Passes:
    """The pass that is under way, or was last, and the places in all loaders.

    `noticed` is called where findings have become known in the midst of a pass.
    """

    def __init__(self, noticed: Callable[[], None]) -> None:
        self._noticed = noticed
        self._draws = DrawsWatch()
        self._draws_ahead = False
        self._loaders: List[Loader] = []
        self._positions: List[DataPosition] = []
        self._current = 0
        #: Where loaders are to be put that the script has not asked for yet.
        self._due: Dict[int, Dict[str, Any]] = {}
        #: Which pass of its epoch it is, from 1; 0 before the first.
        self.number = 0
        #: The batches of it that were trained on.
        self.batch = 0
        self.is_under_way = False
        #: The step at which it began, and the batches that were read in all passes before it.
        self.first_step = 0
        self._read_before = 0
        self._shift_before: Optional[int] = None

    def know(self, loader: Loader) -> List[str]:
        """A loader that the script asks for; what of its place could not be put back, if any."""
        if self._index(loader) is not None:
            return []
        self._loaders.append(loader)
        self._positions.append(DataPosition(loader))
        return self._put(len(self._loaders) - 1)

    def is_known(self, loader: Loader) -> bool:
        """Whether the script has asked for it before."""
        return self._index(loader) is not None

    def is_current(self, loader: Loader) -> bool:
        """Whether the pass is one over this loader."""
        return self._index(loader) == self._current

    def is_at(self, state: Dict[str, Any]) -> bool:
        """Whether a captured place is in the very pass that is under way."""
        here = (self.is_under_way, self.number, self._current)
        return here == (bool(state["under_way"]), _number(state), _loader_number(state))

    # Going through a pass

    def new_epoch(self) -> None:
        """The passes are counted from 1 again."""
        self.number = 0

    def begin(self, loader: Loader, epoch: int, step: int) -> None:
        """Begin a pass over a loader that is known."""
        index = self._index(loader)
        assert index is not None
        before = self._read_before - self.first_step if index == self._current else None
        self._shift_before = before if self.number or self.batch else None
        self._read_before += self.batch
        self._current = index
        self.number, self.batch, self.first_step = self.number + 1, 0, step
        self._positions[index].begin_epoch(epoch, self._read_before)
        self.is_under_way = True

    def batches(self) -> Iterator[Any]:
        """The batches of this pass that are still to come."""
        batches = self._positions[self._current].batches()
        if self._draws_ahead or not reads_ahead(self._loaders[self._current]):
            return batches
        return self._looked_at(batches)

    def end(self) -> None:
        """The pass is over, at the loader's end or because the script has left it."""
        if self.is_under_way:
            self._positions[self._current].end_epoch()
            self.is_under_way = False

    def close(self) -> None:
        """Training is over: let the loaders' iterators go, with their workers."""
        for position in self._positions:
            position.close()

    # Writing down and going back

    def capture(self) -> Dict[str, Any]:
        """The place as plain values and tensors."""
        place = dict(self._due.get(self._current, _NOWHERE))
        if self._current < len(self._positions):
            place = self._positions[self._current].capture(self._read_before + self.batch)
        others = {
            **{str(index): due["sources"] for index, due in self._due.items() if "sources" in due},
            **{str(index): sources.capture(one) for index, one in enumerate(self._loaders)},
        }
        others.pop(str(self._current), None)
        return {
            **place,
            "under_way": self.is_under_way,
            "pass": self.number,
            "loader_number": self._current,
            "read_before": self._read_before,
            "read": self.batch,
            "pass_began_at": self.first_step,
            "others": others,
            "draws_ahead": self._draws_ahead,
        }

    def restore(self, state: Dict[str, Any]) -> List[str]:
        """Go back to where `capture` was called; what could not be restored, as sentences.

        A loader that is not known yet is put back when it is.
        """
        self.number = _number(state)
        self.is_under_way = bool(state["under_way"])
        self.batch = int(state.get("read", state["batch"]))
        self.first_step = int(state.get("pass_began_at", state["first_step"]))
        self._read_before = int(state.get("read_before", state["first_step"]))
        self._shift_before = None
        self._current = _loader_number(state)
        self._due = {int(index): {"sources": kept} for index, kept in _others(state).items()}
        self._due[self._current] = state
        self._draws_ahead = self._draws_ahead or bool(state.get("draws_ahead"))
        drawn = self._drawn_ahead() if self.is_under_way else []
        found = [finding for index in range(len(self._loaders)) for finding in self._put(index)]
        return [*found, *drawn]

    @property
    def loader(self) -> Optional[Loader]:
        """What the newest pass goes over."""
        return self._loaders[self._current] if self._current < len(self._loaders) else None

    def read_again(self, back: int) -> ContextManager[Iterator[Any]]:
        """The batches of the newest pass over the loader (0) or of the one before (1)."""
        return self._positions[self._current].read_again(back)

    def indices(self, step: int, steps_done: int) -> List[int]:
        """The dataset indices of the batch of `step`; none where steps and batches do not match."""
        if not self._positions or steps_done - self.first_step != self.batch:
            return []
        here = self._read_before - self.first_step
        shift = here if step > self.first_step else self._shift_before
        return [] if shift is None else self._positions[self._current].indices(step + shift)

    def findings(self) -> List[str]:
        """Why going back will not be exact, as far as it is known beforehand."""
        found = [finding for position in self._positions for finding in position.findings()]
        return [*found, *self._drawn_ahead()]

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Draw what you like inside: all generators are afterwards as they were."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(randomness.preserved())
            for position in self._positions:
                stack.enter_context(position.undisturbed())
            yield

    # Parts

    def _index(self, loader: Loader) -> Optional[int]:
        return next((n for n, known in enumerate(self._loaders) if known is loader), None)

    def _looked_at(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in self._draws.over(batches):
            if self._draws.seen and not self._draws_ahead:
                self._draws_ahead = True
                self._noticed()
            yield batch

    def _drawn_ahead(self) -> List[str]:
        return [_DRAWN_AHEAD] if self._draws_ahead else []

    def _put(self, index: int) -> List[str]:
        due = self._due.pop(index, None)
        if due is None:
            return []
        if "under_way" in due:
            return self._positions[index].restore(due)
        return sources.restore(self._loaders[index], due["sources"])


def _number(state: Dict[str, Any]) -> int:
    return int(state.get("pass", 1))


def _loader_number(state: Dict[str, Any]) -> int:
    return int(state.get("loader_number", 0))


def _others(state: Dict[str, Any]) -> Dict[str, Any]:
    return dict(state.get("others", {}))
