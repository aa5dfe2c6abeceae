"""Steps on trial under Lightning: some batches ahead, and then all as it was."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Tuple

from ... import randomness
from ...batches import copied
from ...errors import NotPossible
from ...loaders import keeps_its_place
from ...snapshot import Snapshot
from .proving import replayed, rest_of
from .standing import batches_left

if TYPE_CHECKING:
    from .driver import LightningLoop


@contextlib.contextmanager
def rehearse(loop: LightningLoop, trainer: Any) -> Iterator[LightningRehearsal]:
    """Train on trial in the midst of an epoch; afterwards everything is as before.

    The batches are those that the run trains on next: what was read comes again. Loggers and
    callbacks see nothing of it, and no scheduler is stepped.
    """
    _check(loop)
    callbacks, loggers = trainer.callbacks, trainer.loggers
    trainer.callbacks, trainer.loggers = [loop.callback], []
    try:
        before = Snapshot(loop.capture()).wait()
        rehearsal = LightningRehearsal(loop, trainer)
        try:
            yield rehearsal
        finally:
            with loop.place.remembering():
                loop.restore(before)
            rehearsal.put_back()
            loop.moved()
    finally:
        trainer.callbacks, trainer.loggers = callbacks, loggers


class LightningRehearsal:
    """Reads ahead of Lightning's loop, and trains its steps by it."""

    def __init__(self, loop: LightningLoop, trainer: Any) -> None:
        self._loop = loop
        self._epoch = trainer.fit_loop.epoch_loop
        self._fetcher = loop.fetcher
        self._counted: Dict[str, Any] = self._epoch.batch_progress.state_dict()
        # A validation draws too: what is read behind it comes out otherwise.
        self._left = batches_left(trainer)
        self._fetched = self._fetcher.fetched
        self._live = self._fetcher.iterator
        self._rest = rest_of(self._live)
        self._held: List[Tuple[Any, Any]] = []
        # One that is at its end could not be stepped; going back brings another loop.
        self._epoch.update_lr_schedulers = _no_step

    def read(self) -> Optional[Any]:
        """The next batch as the loader gives it; None at the epoch's end and before a validation."""
        if len(self._held) >= self._left:
            return None
        found = next(self._rest, None)
        if found is None:
            return None
        self._held.append((copied(found), randomness.capture()))
        return found[0]

    def move(self, batch: Any) -> Any:
        """The batch as it is: Lightning moves it in its step, by hooks of the module."""
        return batch

    def train(self, batch: Any) -> Mapping[str, Any]:
        """One whole step, which is not recorded and not counted; its metrics."""
        fetcher, progress = self._fetcher, self._epoch.batch_progress
        progress.load_state_dict({name: _copied(part) for name, part in self._counted.items()})
        fetcher.iterator = iter([(batch, self._fetched, 0)])
        fetcher.fetched, fetcher.done = self._fetched, False
        loss = self._loop.train_on_trial(self._epoch)
        return {} if loss is None else {"loss": loss}

    def put_back(self) -> None:
        """Have what was read come again."""
        fetcher, place = self._fetcher, self._loop.place
        fetcher.iterator = self._live
        if not keeps_its_place(place.reading):
            # What was read ahead has been drawn, and stays so.
            place.put_back([], iter(()))
            fetcher.iterator = replayed(self._held, self._live)
        fetcher.fetched, fetcher.done = self._fetched, False


def _check(loop: LightningLoop) -> None:
    if loop.is_evaluating:
        raise NotPossible("An evaluation is under way. Ask again when it is over.")
    if loop.phase != "train" or not loop.place.is_under_way:
        raise NotPossible("Steps on trial need the midst of an epoch. Ask again there.")
    if loop.fetcher.length is None or hasattr(loop.fetcher, "iterator_wrapper"):
        raise NotPossible(
            "Steps on trial need a loader that knows its number of batches; without one Lightning "
            "reads ahead."
        )


def _copied(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else value


def _no_step(*args: Any, **kwargs: Any) -> None:
    """A step on trial is one without its scheduler."""
