"""Evaluation over one split, which leaves no trace in training."""

from __future__ import annotations

import contextlib
import math
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import torch

from .. import randomness
from ..batches import sample_count, to_device
from ..errors import LoaderError, StepError
from .setup import Loader
from .steps import Step, checked_loss


class Means(NamedTuple):
    """Means over the samples of one split; None where a mean is not finite."""

    samples: int
    values: Dict[str, Optional[float]]


def evaluate(
    *,
    model: torch.nn.Module,
    loader: Loader,
    loader_name: str,
    step: Step,
    state: Dict[str, Any],
    device: Optional[torch.device],
    prefix: str,
    keep_going: Callable[[], bool],
) -> Optional[Means]:
    """The mean of every metric that `step` returns, each batch weighted by its samples.

    Names get `prefix` (`val_` or `test_`), once. None where `keep_going` said no on the way.
    Generators, train and eval modes and gradients are afterwards what they were before.
    """
    sums = _WeightedSums()
    with randomness.preserved(), _evaluating(model), torch.no_grad():
        for loaded in loader:
            if not keep_going():
                return None
            batch = loaded if device is None else to_device(loaded, device)
            metrics = step(batch, state)
            sums.add(_named(metrics, prefix), sample_count(batch))
    if not sums.samples:
        raise LoaderError(
            f"{loader_name} yielded no batch. Check the length of its dataset, and drop_last=True "
            "with a batch_size greater than that."
        )
    return Means(sums.samples, sums.means())


class _WeightedSums:
    """Sums that stay on the device until they are asked for."""

    def __init__(self) -> None:
        self.samples = 0
        self._sums: Dict[str, Any] = {}
        self._weights: Dict[str, int] = {}

    def add(self, metrics: Mapping[str, Any], weight: int) -> None:
        self.samples += weight
        for name, value in metrics.items():
            number = value.detach() if isinstance(value, torch.Tensor) else float(value)
            self._sums[name] = self._sums.get(name, 0.0) + number * weight
            self._weights[name] = self._weights.get(name, 0) + weight

    def means(self) -> Dict[str, Optional[float]]:
        found = {name: float(total) / self._weights[name] for name, total in self._sums.items()}
        return {name: mean if math.isfinite(mean) else None for name, mean in found.items()}


@contextlib.contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards each module's own mode: some may be frozen in eval mode."""
    before: List[Tuple[torch.nn.Module, bool]] = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def _named(metrics: Any, prefix: str) -> Dict[str, Any]:
    if not isinstance(metrics, Mapping):
        raise StepError(
            f"The validation step returned a {type(metrics).__name__}. It must return a dict with "
            "a 'loss' (or 'val_loss')."
        )
    named = {prefix + _bare(str(name)): value for name, value in metrics.items()}
    if prefix + "loss" not in named:
        raise StepError(
            f"The validation step returned a dict with the keys {sorted(map(str, metrics))} and no "
            "'loss' (or 'val_loss'). Add the loss of the batch."
        )
    checked_loss(named[prefix + "loss"], "validation step")
    return named


def _bare(name: str) -> str:
    for prefix in ("val_", "test_"):
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name
