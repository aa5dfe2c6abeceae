"""Steps on trial in the native front: some batches ahead, and then all as it was."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Iterator, List, Mapping, Optional, Tuple

from .. import randomness, sources
from ..batches import copied
from ..errors import NotPossible
from ..loaders import keeps_its_place
from ..snapshot import Snapshot

if TYPE_CHECKING:
    from .training import TrainingLoop


@contextlib.contextmanager
def rehearse(loop: TrainingLoop) -> Iterator[NativeRehearsal]:
    """Train on trial; afterwards model, optimizer, generators, and the loader are as before.

    In the midst of an epoch the batches are those that the run trains on next: what was read from
    its iterator comes again. Between two epochs, and behind the last batch of one, they come from
    a pass of their own.
    """
    if loop.is_evaluating:
        raise NotPossible("An evaluation is under way. Ask again when it is over.")
    left_out = loop.left_out()
    if left_out:
        raise NotPossible(" ".join(left_out))
    before = Snapshot(loop.capture()).wait()
    rehearsal = NativeRehearsal(loop)
    try:
        yield rehearsal
    finally:
        with loop.position.remembering():
            loop.restore(before)
        rehearsal.put_back()
        if loop.phase == "train":
            loop.moved()


class NativeRehearsal:
    """Reads ahead of a training loop, and trains its steps."""

    def __init__(self, loop: TrainingLoop) -> None:
        self._loop = loop
        self._trained = 0
        self._held: List[Tuple[Any, Any]] = []
        self._live: Optional[Iterator[Any]] = None
        self._own: Optional[Iterator[Any]] = None
        #: The loader's sources before a pass of our own.
        self._before: Any = None
        if loop.position.is_under_way:
            self._live = loop.position.batches()

    def read(self) -> Optional[Any]:
        """The next batch as the loader gives it; None where there is none left."""
        if self._own is None and self._live is not None:
            batch = next(self._live, None)
            if batch is not None:
                self._held.append((copied(batch), randomness.capture()))
                return batch
            if self._held:
                return None
        return next(self._pass_of_our_own(), None)

    def move(self, batch: Any) -> Any:
        """The batch on the device."""
        return self._loop.on_device(batch)

    def train(self, batch: Any) -> Mapping[str, Any]:
        """One whole step, which is not recorded and not counted; its metrics."""
        metrics = self._loop.train_on_trial(batch, self._trained)
        self._trained += 1
        return metrics

    def put_back(self) -> None:
        """Have what was read come again, and let go of a pass of our own."""
        loader = self._loop.loader
        if self._own is not None:
            # Its workers end with it, before the sources are put back.
            self._own = None
            sources.restore(loader, self._before)
        if self._live is not None and not keeps_its_place(loader):
            # What was read ahead has been drawn from the sources, and stays so.
            self._loop.position.put_back(self._held, self._live)

    def _pass_of_our_own(self) -> Iterator[Any]:
        if self._own is None:
            reasons = self._loop.findings()
            if keeps_its_place(self._loop.loader) or reasons:
                raise NotPossible(
                    "No batch of this epoch is left, and another pass over train_loader would not "
                    "be without traces. Ask again in the midst of an epoch. " + " ".join(reasons)
                )
            self._before = sources.capture(self._loop.loader)
            self._own = iter(self._loop.loader)
        return self._own
