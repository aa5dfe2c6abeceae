"""The check of throughput: where the time of a step goes, and what would shorten it.

Each part is measured on some steps on trial, with the device brought to a halt at its ends. What is
suggested was tried or measured here: a larger batch, mixed precision and pinned memory are timed on
this machine, and the number of workers follows from how long a batch takes to load.
"""

from __future__ import annotations

import os
from statistics import median
from typing import Any, Callable, List, Optional, Tuple

import torch

from .. import randomness
from ..batches import copied, sample_count
from ..errors import NotPossible
from ..front import Rehearsal
from . import advice
from .advice import Timings, Trials
from .examination import Examination
from .stopwatch import Stopwatch, synchronizer
from .trials import doubled, pinned

#: Steps that are measured, and steps before them that are not: the first ones are slower.
_STEPS, _WARM_UP = 12, 2
#: Prefetched batches that are worked off before the loader's own pace shows.
_MOST_PREFETCHED = 32
#: Times that each trial is repeated, in turns with what it is compared with.
_REPEATED = 5
#: Seconds after which no further step is measured, once there are a few.
_LONG_ENOUGH, _FEWEST = 60.0, 3


def check(exam: Examination) -> None:
    """Measure some steps, try what could be faster, and say where the time goes."""
    probe, notes = exam.probe, exam.notes
    prefetched = _prefetched(probe.loader)
    total = _WARM_UP + prefetched + _STEPS
    synchronize = synchronizer(probe.device)
    timings: List[Timings] = []
    with exam.rehearse() as rehearsal:
        batch: Any = None
        with Stopwatch(probe.model, probe.optimizers, exam.clock, synchronize) as watch:
            began = exam.clock()
            for number in range(total):
                exam.step(number, total)
                timing, moved = _step(exam, rehearsal, watch)
                if timing is None:
                    break
                batch = moved
                if number >= min(_WARM_UP + prefetched, total - 1):
                    timings.append(timing)
                if len(timings) >= _FEWEST and exam.clock() - began > _LONG_ENOUGH:
                    break
        if not timings:
            raise NotPossible(
                "There are too few batches left to measure. Ask again earlier in an epoch."
            )
        if not any(timing.forward for timing in timings):
            raise NotPossible(
                "The steps of this training do not call the model as a whole (under Lightning, "
                "training_step calls its parts), so that forward, backward and optimizer cannot be "
                "told apart. step_time and data_wait are recorded at every step."
            )
        exam.step(total, total)
        with randomness.preserved():
            trials = _tried(exam, rehearsal, batch, synchronize)
    middle = Timings(*(median(each) for each in zip(*timings)))
    for name, value in middle._asdict().items():
        notes.measure(f"{name} ms", 1000 * value)
    notes.measure("steps", len(timings))
    samples = sample_count(batch)
    notes.measure("samples per second", samples / middle.step if middle.step else 0.0)
    workers = int(getattr(probe.loader, "num_workers", 0) or 0)
    notes.fact("workers", workers)
    advice.data(notes, middle, workers=workers, cores=_cores())
    advice.transfer(notes, middle, trials)
    advice.batch_size(notes, middle, trials, samples)
    advice.mixed_precision(notes, middle, trials)


def _step(
    exam: Examination, rehearsal: Rehearsal, watch: Stopwatch
) -> Tuple[Optional[Timings], Any]:
    """One step as the run does it, and its batch; None where the loader is at its end."""
    clock, synchronize = exam.clock, watch.synchronize
    synchronize()
    began = clock()
    loaded = rehearsal.read()
    if loaded is None:
        return None, None
    read = clock()
    batch = rehearsal.move(loaded)
    synchronize()
    moved = clock()
    watch.begin()
    rehearsal.train(batch)
    synchronize()
    ended = clock()
    parts = watch.parts(ended)
    other = ended - moved - parts.forward - parts.backward - parts.optimizer
    return (
        Timings(
            data=read - began,
            transfer=moved - read,
            forward=parts.forward,
            backward=parts.backward,
            optimizer=parts.optimizer,
            other=max(0.0, other),
            step=ended - began,
        ),
        batch,
    )


def _tried(
    exam: Examination, rehearsal: Rehearsal, batch: Any, synchronize: Callable[[], None]
) -> Trials:
    """The same step in other ways, in turns with how it is done."""
    probe = exam.probe

    def timed(given: Any) -> float:
        # A step may change its batch in place.
        batch = copied(given)
        synchronize()
        began = exam.clock()
        rehearsal.train(batch)
        synchronize()
        return exam.clock() - began

    twice = doubled(batch)
    plain: List[float] = []
    of_twice: List[float] = []
    lowered: List[float] = []
    tries_amp = probe.amp_type is None and probe.device is not None and probe.device.type == "cuda"
    try:
        for number in range(_REPEATED):
            exam.step(number, _REPEATED)
            plain.append(timed(batch))
            if twice is not None:
                of_twice.append(timed(twice))
            if tries_amp:
                with torch.autocast("cuda", torch.bfloat16):
                    lowered.append(timed(batch))
    except torch.cuda.OutOfMemoryError:
        # Then a larger batch is nothing to suggest.
        of_twice = []
        torch.cuda.empty_cache()
    moves = pinned(batch, probe.device, exam.clock, synchronize)
    return Trials(
        plain=median(plain) if plain else 0.0,
        doubled=median(of_twice) if of_twice else None,
        lowered=median(lowered) if lowered else None,
        pageable=moves[0] if moves else None,
        pinned=moves[1] if moves else None,
        is_pinned=_is_pinned(probe.loader),
    )


def _is_pinned(loader: Any) -> bool:
    return bool(getattr(loader, "pin_memory", False))


def _prefetched(loader: Any) -> int:
    workers = int(getattr(loader, "num_workers", 0) or 0)
    factor = int(getattr(loader, "prefetch_factor", None) or 2)
    return min(_MOST_PREFETCHED, workers * factor)


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
