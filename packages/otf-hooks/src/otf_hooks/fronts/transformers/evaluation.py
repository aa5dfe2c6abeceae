"""Evaluation by the Trainer's own loop, which leaves no trace in training or in its history."""

from __future__ import annotations

import math
from typing import Any, Dict, Iterator, List, Mapping, Optional

from transformers import ProgressCallback

from ... import randomness
from ...errors import LoaderError
from ...front import Evaluated, KeepGoing
from ...position import steps_per_epoch

#: What the Trainer adds to the metrics of an evaluation that is no metric of the model.
_OF_THE_CLOCK = (
    "_runtime",
    "_samples_per_second",
    "_steps_per_second",
    "_model_preparation_time",
    "_jit_compilation_time",
)


def evaluate(
    trainer: Any, split: str, datasets: Mapping[str, Any], keep_going: KeepGoing
) -> Optional[Evaluated]:
    """What the Trainer measures on each dataset, its name before each metric's.

    Neither logged nor told to other callbacks, so that early stopping and the best model know
    nothing of it. None where `keep_going` said no on the way.
    """
    model = trainer.model
    modes = [(module, module.training) for module in model.modules()]
    values: Dict[str, Optional[float]] = {}
    samples = 0
    with randomness.preserved():
        try:
            for prefix, dataset in datasets.items():
                if split == "test":
                    loader = trainer.get_test_dataloader(dataset)
                else:
                    loader = trainer.get_eval_dataloader(dataset)
                watched = WatchedLoader(loader, keep_going)
                output = trainer.evaluation_loop(
                    watched,
                    description="Evaluation",
                    prediction_loss_only=True if trainer.compute_metrics is None else None,
                    metric_key_prefix=prefix,
                )
                if watched.is_broken_off:
                    return None
                samples += int(output.num_samples or 0)
                values.update(of_the_model(output.metrics))
        finally:
            for module, training in modes:
                module.training = training
            _close_progress(trainer)
    if not samples:
        raise LoaderError(f"The {split} data has no samples.")
    return Evaluated(split, samples, values)


def of_the_model(metrics: Mapping[str, Any]) -> Dict[str, Optional[float]]:
    """The metrics of an evaluation, without how long it took; None where one is not finite."""
    found: Dict[str, Optional[float]] = {}
    for name, value in metrics.items():
        if name == "epoch" or name.endswith(_OF_THE_CLOCK) or isinstance(value, bool):
            continue
        if isinstance(value, (int, float)):
            found[name] = float(value) if math.isfinite(value) else None
    return found


class WatchedLoader:
    """A loader that asks between two batches whether to go on, and ends early where not."""

    def __init__(self, loader: Any, keep_going: KeepGoing) -> None:
        self._loader = loader
        self._keep_going = keep_going
        self.is_broken_off = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        total = steps_per_epoch(self._loader) or 0
        for number, batch in enumerate(self._loader):
            if not self._keep_going(number, total):
                self.is_broken_off = True
                break
            yield batch
        if self.is_broken_off and hasattr(self._loader, "end"):
            # Accelerate takes a loader for the one in use until it is at its end.
            self._loader.end()


def _close_progress(trainer: Any) -> None:
    """Have the bar of this evaluation closed, as it is after one that is told to all."""
    bars: List[Any] = [
        callback
        for callback in trainer.callback_handler.callbacks
        if type(callback) is ProgressCallback
    ]
    for bar in bars:
        bar.on_predict(trainer.args, trainer.state, trainer.control, metrics={})
