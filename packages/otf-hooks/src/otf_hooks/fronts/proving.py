"""The proof of exactness on a live run: some steps, back, the same steps, and all as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, List, Tuple

from .. import randomness, sources
from ..batches import copied
from ..errors import NotPossible
from ..front import KeepGoing
from ..loaders import keeps_its_place, persistent_workers
from ..snapshot import Snapshot
from ..trace import Trace, Tracer

if TYPE_CHECKING:
    from .training import TrainingLoop

#: A batch, and the state of the generators after it was read.
_Held = Tuple[Any, Any]


def retrain(loop: TrainingLoop, steps: int, keep_going: KeepGoing) -> List[Trace]:
    """Both traces of so many steps; only the first where it was broken off.

    The second time the batches come from a loader that was started again, as after a rewind. The
    iterator under way is kept, and what was read from it comes again: so the run is left as it was
    also where the loader turns out not to be exact.
    """
    _check(loop)
    before = Snapshot(loop.capture()).wait()
    live = loop.position.batches()
    held: List[_Held] = []
    traces: List[Trace] = []
    after = sources.capture(loop.loader)
    try:
        first = _train(loop, _holding(live, held), steps, keep_going, done=0, total=2 * steps)
        if not held:
            raise NotPossible("The epoch has no batch left. Ask again in the next epoch.")
        traces.append(first)
        after = sources.capture(loop.loader)
        if len(held) == len({entry.step for entry in first}):
            _go_back(loop, before)
            count = len(held)
            again = loop.position.batches()
            traces.append(_train(loop, again, count, keep_going, done=count, total=2 * count))
            if len({entry.step for entry in traces[1]}) < count:
                traces.pop()
    finally:
        _go_back(loop, before)
        if not keeps_its_place(loop.loader):
            loop.position.put_back(held, live)
            # What was read ahead of the run has been drawn, and stays so.
            sources.restore(loop.loader, after)
        loop.moved()
    return traces


def _check(loop: TrainingLoop) -> None:
    if loop.phase != "train" or loop.is_evaluating or not loop.position.is_under_way:
        raise NotPossible("A proof needs training to be in the midst of an epoch. Ask again there.")
    if persistent_workers(loop.loader) and not keeps_its_place(loop.loader):
        raise NotPossible(
            "train_loader has persistent_workers=True, so a second pass would end the one under "
            "way. Set persistent_workers=False to have the run proved."
        )


def _go_back(loop: TrainingLoop, before: Any) -> None:
    # A copy each time: an optimizer takes the tensors it is given for its own.
    loop.restore(Snapshot(before).wait())


def _holding(live: Iterator[Any], held: List[_Held]) -> Iterator[Any]:
    for batch in live:
        held.append((copied(batch), randomness.capture()))
        yield batch


def _train(
    loop: TrainingLoop,
    batches: Iterator[Any],
    steps: int,
    keep_going: KeepGoing,
    *,
    done: int,
    total: int,
) -> Trace:
    with Tracer(loop.model, loop.optimizer) as tracer:
        for number in range(steps):
            if not keep_going(done + number, total):
                break
            batch = next(batches, None)
            if batch is None:
                break
            loop.train_once(batch, number, tracer)
    return tracer.trace
