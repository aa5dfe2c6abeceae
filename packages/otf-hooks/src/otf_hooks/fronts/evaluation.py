"""Evaluation over one split, which leaves no trace in training."""

from __future__ import annotations

import contextlib
import math
from typing import Any, Dict, List, Mapping, Optional, Tuple

import torch

from .. import randomness
from ..batches import sample_count, to_device
from ..errors import LoaderError, StepError
from ..front import Evaluated, KeepGoing
from ..loaders import Loader
from ..position import DataPosition, steps_per_epoch
from ..recorder import described
from .steps import Step, checked_loss


class Undisturbed:
    """While entered, the model is in eval mode without gradients; afterwards nothing has changed.

    Generators, the training loader's own included, are what they were, and each module is in its
    own mode again: some may be frozen in eval mode.
    """

    def __init__(self, model: torch.nn.Module, position: DataPosition) -> None:
        self._model = model
        self._stack = contextlib.ExitStack()
        self._position = position
        self._modes: List[Tuple[torch.nn.Module, bool]] = [(m, m.training) for m in model.modules()]
        self._moved = False
        #: What a checkpoint that is made meanwhile holds.
        self.random = randomness.capture()
        self.eval_modules = [name for name, part in model.named_modules() if not part.training]

    def __enter__(self) -> None:
        self._stack.enter_context(self._position.undisturbed())
        self._stack.enter_context(torch.no_grad())
        self._model.eval()

    def moved(self) -> None:
        """Training was put somewhere else meanwhile: what it is there stays so."""
        self._moved = True

    def __exit__(self, *_: object) -> None:
        if self._moved:
            with self._position.undisturbed():
                self._stack.close()
            return
        for module, training in self._modes:
            module.training = training
        self._stack.close()


def evaluate(
    *,
    split: str,
    loader: Loader,
    loader_name: str,
    step: Step,
    state: Dict[str, Any],
    device: Optional[torch.device],
    prefix: str,
    keep_going: KeepGoing,
) -> Optional[Evaluated]:
    """The mean of every metric that `step` returns, each batch weighted by its samples.

    Names get `prefix` (`val_` or `test_`), once. None where `keep_going` said no on the way.
    To be called inside `Undisturbed`.
    """
    sums = _WeightedSums(loader_name)
    total = steps_per_epoch(loader) or 0
    for number, loaded in enumerate(loader):
        if not keep_going(number, total):
            return None
        batch = loaded if device is None else to_device(loaded, device)
        metrics = step(batch, state)
        sums.add(_named(metrics, prefix), sample_count(batch))
    if not sums.samples:
        raise LoaderError(
            f"{loader_name} yielded no batch. Check the length of its dataset, and drop_last=True "
            "with a batch_size greater than that."
        )
    return Evaluated(split, sums.samples, sums.means())


class _WeightedSums:
    """Sums that stay on the device until they are asked for."""

    def __init__(self, loader_name: str) -> None:
        self.samples = 0
        self._loader_name = loader_name
        self._sums: Dict[str, Any] = {}
        self._weights: Dict[str, int] = {}

    def add(self, metrics: Mapping[str, Any], weight: int) -> None:
        self.samples += weight
        for name, value in metrics.items():
            number = self._number(name, value)
            self._sums[name] = self._sums.get(name, 0.0) + number * weight
            self._weights[name] = self._weights.get(name, 0) + weight

    def _number(self, name: str, value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            return value.detach().reshape(())
        try:
            if not isinstance(value, torch.Tensor):
                return float(value)
        except (TypeError, ValueError):
            pass
        raise StepError(
            f"The validation step returned '{name}' as {described(value)} for a batch of "
            f"{self._loader_name}; a metric is one number or a tensor with one element."
        )

    def means(self) -> Dict[str, Optional[float]]:
        found = {name: float(total) / self._weights[name] for name, total in self._sums.items()}
        return {name: mean if math.isfinite(mean) else None for name, mean in found.items()}


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
