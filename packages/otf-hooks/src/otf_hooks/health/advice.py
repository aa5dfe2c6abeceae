"""What measured times say, and what they support: numbers in, findings out."""

from __future__ import annotations

import math
from typing import NamedTuple, Optional

from .findings import Findings, milliseconds, percent

#: Shares of a step that its data, or their transfer, may take.
_DATA_CRITICAL, _DATA_WARNING, _TRANSFER_WARNING = 0.5, 0.2, 0.2
#: Seconds below which waiting for data is no matter: workers cost about that much themselves.
_LEAST_WAIT = 1e-3
#: What a trial must come to, as a share of the time now, to be worth a suggestion.
_WORTH_IT = 0.8
#: Twice the batch in less than this many times the time: the device has room.
_ROOM = 1.4


class Timings(NamedTuple):
    """Seconds of one step and of its parts."""

    data: float
    transfer: float
    forward: float
    backward: float
    optimizer: float
    other: float
    step: float


class Trials(NamedTuple):
    """Seconds of the same step done in other ways; None for what was not tried.

    `pageable` and `pinned` are the transfer alone; `is_pinned` says what the loader does now.
    """

    plain: float = 0.0
    doubled: Optional[float] = None
    lowered: Optional[float] = None
    pageable: Optional[float] = None
    pinned: Optional[float] = None
    is_pinned: bool = False


def data(notes: Findings, middle: Timings, *, workers: int, cores: int) -> None:
    """Waiting for batches, and how many workers would load them as fast as they are used."""
    share = middle.data / middle.step if middle.step else 0.0
    if share < _DATA_WARNING or middle.data < _LEAST_WAIT:
        return
    work = middle.step - middle.data
    add = notes.critical if share >= _DATA_CRITICAL else notes.warning
    add(
        "train_loader",
        "Training waits for its data.",
        value=f"{milliseconds(middle.data)} of {milliseconds(middle.step)} per step "
        f"({percent(share)})",
        meaning="The model could train on the next batch, and there is none yet.",
        remedy=_workers(middle, work, workers, cores),
    )


def _workers(middle: Timings, work: float, workers: int, cores: int) -> str:
    # All of a batch's loading is waited for without workers; with some, they take this long together.
    loading = middle.data if not workers else workers * middle.step
    needed = math.ceil(loading / max(work, 1e-9))
    if needed <= workers:
        needed = workers + 1
    usable = max(1, cores - 1)
    if needed <= usable:
        return (
            f"num_workers={needed}: a batch takes {milliseconds(loading)} to load and "
            f"{milliseconds(work)} to train on, and this process may use {cores} cores."
        )
    if workers < usable:
        return (
            f"num_workers={usable}, all that the {cores} cores of this process allow; {needed} would "
            "be needed. Make the dataset's __getitem__ cheaper: decode and resize beforehand, or cache."
        )
    return (
        f"More workers than {workers} have no core to run on ({cores} in all). Make the dataset's "
        "__getitem__ cheaper: decode and resize beforehand, or cache."
    )


def transfer(notes: Findings, middle: Timings, trials: Trials) -> None:
    """Bringing batches to the device."""
    share = middle.transfer / middle.step if middle.step else 0.0
    if share < _TRANSFER_WARNING:
        return
    remedy = "Move less: send integers or bytes, and make floats of them on the device."
    if trials.pageable is not None and trials.pinned is not None and not trials.is_pinned:
        gain = trials.pinned / trials.pageable if trials.pageable else 1.0
        if gain <= _WORTH_IT:
            remedy = (
                f"pin_memory=True: this batch took {milliseconds(trials.pinned)} from pinned memory "
                f"and {milliseconds(trials.pageable)} from where it is now."
            )
    notes.warning(
        "train_loader",
        "A large part of a step is bringing its batch to the device.",
        value=f"{milliseconds(middle.transfer)} of {milliseconds(middle.step)} per step "
        f"({percent(share)})",
        meaning="The device stands still meanwhile.",
        remedy=remedy,
    )


def batch_size(notes: Findings, middle: Timings, trials: Trials, samples: int) -> None:
    """Whether twice as many samples take hardly longer."""
    is_waiting = middle.step and middle.data / middle.step >= _DATA_WARNING
    if trials.doubled is None or not trials.plain or is_waiting:
        return
    ratio = trials.doubled / trials.plain
    if ratio < _ROOM:
        notes.info(
            "train_loader",
            "The device has room for a larger batch.",
            value=f"{milliseconds(trials.doubled)} for {2 * samples} samples, and "
            f"{milliseconds(trials.plain)} for {samples}",
            meaning="Most of a step's time does not depend on how many samples there are.",
            remedy=f"A batch_size of {2 * samples} trains {2 / ratio:.2g} times as many samples in "
            "the same time. The learning rate may have to follow.",
        )


def mixed_precision(notes: Findings, middle: Timings, trials: Trials) -> None:
    """Whether the step is faster in bfloat16."""
    if trials.lowered is None or not trials.plain or trials.lowered > _WORTH_IT * trials.plain:
        return
    notes.info(
        "model",
        "The step is faster in mixed precision.",
        value=f"{milliseconds(trials.lowered)} in bfloat16, and {milliseconds(trials.plain)} now",
        meaning="This device multiplies matrices faster in half precision.",
        remedy='amp="bf16", whose results differ in their last digits; look at the loss afterwards.',
    )
