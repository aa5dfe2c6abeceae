"""The proof of exactness on a live Lightning run: some steps, back, the same steps, and all as it was."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Iterator, List, Tuple

from ... import randomness, sources
from ...batches import copied
from ...errors import NotPossible
from ...front import KeepGoing
from ...loaders import keeps_its_place
from ...snapshot import Snapshot
from ...trace import Trace, Tracer

if TYPE_CHECKING:
    from .driver import LightningLoop

#: A batch, and the state of the generators after it was read.
_Held = Tuple[Any, Any]


def retrain(loop: LightningLoop, trainer: Any, steps: int, keep_going: KeepGoing) -> List[Trace]:
    """Both traces of so many steps; only the first where it was broken off.

    Loggers and callbacks see nothing of it. The second time the batches come from loaders that were started again, as after a rewind; the iterator under way is
    kept, so that the run is left as it was also where the loaders turn out not to be exact.
    """
    _check(loop)
    callbacks, loggers = trainer.callbacks, trainer.loggers
    trainer.callbacks, trainer.loggers = [loop.callback], []
    try:
        return _retrain(loop, steps, keep_going)
    finally:
        trainer.callbacks, trainer.loggers = callbacks, loggers


def _retrain(loop: LightningLoop, steps: int, keep_going: KeepGoing) -> List[Trace]:
    before = Snapshot(loop.capture()).wait()
    reading, fetcher = loop.place.reading, loop.fetcher
    # A copy keeps the iterator that is under way, when the loader itself makes another.
    live, fetched = copy.copy(fetcher.combined_loader), fetcher.fetched
    held: List[_Held] = []
    traces: List[Trace] = []
    after = sources.capture(reading)
    fetcher.iterator = _holding(live, held)
    try:
        first = _train(loop, steps, keep_going, done=0, total=2 * steps)
        if not held:
            raise NotPossible("The epoch has no batch left. Ask again in the next epoch.")
        traces.append(first)
        after = sources.capture(reading)
        if len(held) == len({entry.step for entry in first}):
            _go_back(loop, before)
            loop.place.open()
            fetcher.fetched = fetched
            count = len(held)
            traces.append(_train(loop, count, keep_going, done=count, total=2 * count))
            if len({entry.step for entry in traces[1]}) < count:
                traces.pop()
    finally:
        _go_back(loop, before)
        if not keeps_its_place(reading):
            loop.place.put_back([], iter(()))
            fetcher.iterator = replayed(held, live)
            # What was read ahead of the run has been drawn, and stays so.
            sources.restore(reading, after)
        fetcher.fetched, fetcher.done = fetched, False
        loop.moved()
    return traces


def _check(loop: LightningLoop) -> None:
    if loop.phase != "train" or loop.is_evaluating or not loop.place.is_under_way:
        raise NotPossible("A proof needs training to be in the midst of an epoch. Ask again there.")
    if loop.fetcher.length is None or hasattr(loop.fetcher, "iterator_wrapper"):
        raise NotPossible(
            "A proof needs a loader that knows its number of batches; without one Lightning reads "
            "ahead."
        )
    if loop.place.reading.persistent_workers and not keeps_its_place(loop.place.reading):
        raise NotPossible(
            "train_loader has persistent_workers=True, so a second pass would end the one under "
            "way. Set persistent_workers=False to have the run proved."
        )


def _go_back(loop: LightningLoop, before: Any) -> None:
    # A copy each time: an optimizer takes the tensors it is given for its own.
    loop.restore(Snapshot(before).wait())


def _holding(live: Iterator[Any], held: List[_Held]) -> Iterator[Any]:
    for batch in rest_of(live):
        held.append((copied(batch), randomness.capture()))
        yield batch


def replayed(held: List[_Held], rest: Iterator[Any]) -> Iterator[Any]:
    """What was read ahead, each with the randomness it left, and then the rest."""
    for batch, random in held:
        randomness.restore(random)
        yield batch
    yield from rest_of(rest)


def rest_of(live: Iterator[Any]) -> Iterator[Any]:
    """What is still to come; not by `for`, to which Lightning's loader begins anew."""
    end = object()
    return iter(lambda: next(live, end), end)


def _train(
    loop: LightningLoop, steps: int, keep_going: KeepGoing, *, done: int, total: int
) -> Trace:
    with Tracer(loop.module, loop.optimizers) as tracer:  # type: ignore[arg-type]
        for number in range(steps):
            if not keep_going(done + number, total) or not loop.train_once(number, tracer):
                break
    return tracer.trace
