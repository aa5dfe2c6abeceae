"""Where Lightning's loops stand, as questions that they answer by public attributes."""

from __future__ import annotations

import math
from typing import Any

from ...errors import LoaderError


def is_validation_due(trainer: Any) -> bool:
    """Whether Lightning may validate behind the batch that was trained on; it decides itself."""
    if not trainer.enable_validation:
        return False
    progress, every = trainer.fit_loop.epoch_loop.batch_progress, trainer.val_check_batch
    if progress.is_last_batch or trainer.should_stop or every is None:
        return True
    counted = progress.total if trainer.check_val_every_n_epoch is None else progress.current
    return math.isfinite(every) and counted.ready % every == 0


def batches_left(trainer: Any) -> float:
    """The batches until the epoch's end, or until Lightning may validate, if that is sooner."""
    progress, every = trainer.fit_loop.epoch_loop.batch_progress, trainer.val_check_batch
    left = float(trainer.num_training_batches - progress.current.ready)
    if not trainer.enable_validation or every is None or not math.isfinite(every):
        return left
    counted = progress.total if trainer.check_val_every_n_epoch is None else progress.current
    return float(min(left, every - counted.ready % every))


def is_done(trainer: Any) -> bool:
    """Whether training is at its end: as `fit_loop.done`, which also prints why."""
    fit = trainer.fit_loop
    epochs, steps = fit.epoch_progress.current.processed, trainer.global_step
    by_epochs = fit.max_epochs not in (None, -1) and epochs >= fit.max_epochs
    by_steps = fit.max_steps not in (None, -1) and steps >= fit.max_steps
    return bool(by_epochs or by_steps or trainer.should_stop)


def is_epoch_read(trainer: Any) -> bool:
    """Whether all batches of the epoch were read."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    return bool(progress.is_last_batch or progress.current.ready >= trainer.num_training_batches)


def has_epoch_means(trainer: Any) -> bool:
    """Whether the module has logged a mean over an epoch of training."""
    return any(name.endswith("_epoch") for name in trainer.callback_metrics)


def find_fetcher(trainer: Any) -> Any:
    """What reads the batches: Lightning's loop over an epoch is handed it when an epoch begins."""
    fit = trainer.fit_loop
    own, taker = fit.epoch_loop, _Taker()
    fit.epoch_loop = taker
    try:
        fit.advance()
    finally:
        fit.epoch_loop = own
    if taker.fetcher is None:
        raise LoaderError("Lightning has no data to train on.")
    return taker.fetcher


def start_reading(trainer: Any, fetcher: Any) -> bool:
    """Let Lightning begin to read an epoch; whether it has made an iterator for it."""
    epoch = trainer.fit_loop.epoch_loop
    before, fetcher.fetched = fetcher.fetched, -1
    epoch.on_run_start(fetcher)
    read = epoch.batch_progress.current.ready
    # An iterator that is new has begun to count anew.
    if fetcher.fetched != read - 1:
        return True
    fetcher.fetched = before + read
    return False


class _Taker:
    """Stands in for the loop over an epoch for one call, to be handed what that is handed."""

    fetcher: Any = None

    def run(self, data_fetcher: Any) -> None:
        """Take what reads the batches."""
        self.fetcher = data_fetcher
