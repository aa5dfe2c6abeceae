"""Evaluation over one split, which leaves no trace in training."""

from __future__ import annotations

import contextlib
import math
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

import torch

from .. import randomness
from ..batches import sample_count, to_device
from ..errors import LoaderError, StepError
from ..front import Evaluated, KeepGoing
from ..inbox import Inbox
from ..loaders import Loader
from ..peers import Alone, Peers, Rounds
from ..position import DataPosition, steps_per_epoch
from ..recorder import described
from ..wrappers import Names, parallel_parts
from .steps import Step, checked_loss


class Undisturbed:
    """While entered, the model is in eval mode without gradients; afterwards nothing has changed.

    Generators, the training loader's own included, are what they were, and each module is in its
    own mode again: some may be frozen in eval mode. With several processes, all evaluate with the
    buffers of rank 0, as the next training step will see them.
    """

    def __init__(
        self, model: torch.nn.Module, position: DataPosition, peers: Optional[Peers] = None
    ) -> None:
        self._model = model
        self._peers: Peers = Alone() if peers is None else peers
        self._own_buffers: List[Tuple[torch.Tensor, torch.Tensor]] = []
        self._stack = contextlib.ExitStack()
        self._position = position
        self._modes: List[Tuple[torch.nn.Module, bool]] = [(m, m.training) for m in model.modules()]
        self._moved = False
        #: What a checkpoint that is made meanwhile holds.
        self.random = randomness.capture()
        self.eval_modules = Names(model).in_eval_mode(model)

    def __enter__(self) -> None:
        self._stack.enter_context(self._position.undisturbed())
        self._stack.enter_context(torch.no_grad())
        self._model.eval()
        self._take_buffers()

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
        for buffer, before in self._own_buffers:
            buffer.data.copy_(before)
        self._stack.close()

    def _take_buffers(self) -> None:
        parts = [part for part in parallel_parts(self._model) if part.broadcast_buffers]
        buffers = [buffer for part in parts for buffer in part.module.buffers()]
        if not buffers:
            return
        self._own_buffers = [(buffer, buffer.clone()) for buffer in buffers]
        for buffer, first in zip(buffers, self._peers.shared(lambda: [b.cpu() for b in buffers])):
            buffer.data.copy_(first)


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
    rounds: Optional[Rounds] = None,
    keeps_step: bool = False,
) -> Optional[Evaluated]:
    """The mean of every metric that `step` returns, each batch weighted by its samples.

    Names get `prefix` (`val_` or `test_`), once. None where `keep_going` said no on the way.
    To be called inside `Undisturbed`. With several processes each evaluates its own batches, in
    `rounds`, and the means are over those of all; `keeps_step` where a step needs all of them.
    """
    sums = _WeightedSums(loader_name)
    total = steps_per_epoch(loader) or 0
    with rounds or Inbox().rounds() as together:
        for number, loaded, counts in together.over(loader, keeps_step=keeps_step):
            if not keep_going(number, total):
                return None
            if loaded is None:
                continue
            batch = loaded if device is None else to_device(loaded, device)
            metrics = step(batch, state)
            if counts:
                sums.add(_named(metrics, prefix), sample_count(batch))
        found = _Sums.of(together.gathered(sums.taken()))
    if not found.samples:
        raise LoaderError(
            f"{loader_name} yielded no batch. Check the length of its dataset, and drop_last=True "
            "with a batch_size greater than that."
        )
    return Evaluated(split, found.samples, found.means())


class _Sums(NamedTuple):
    """The samples, and of each metric its weighted sum and the weight."""

    samples: int
    metrics: Dict[str, Tuple[float, int]]

    @classmethod
    def of(cls, parts: List[_Sums]) -> _Sums:
        """The sums of all parts."""
        metrics: Dict[str, Tuple[float, int]] = {}
        for part in parts:
            for name, (value, weight) in part.metrics.items():
                before = metrics.get(name, (0.0, 0))
                metrics[name] = (before[0] + value, before[1] + weight)
        return cls(sum(part.samples for part in parts), metrics)

    def means(self) -> Dict[str, Optional[float]]:
        """Of each metric the mean, None where it is not finite."""
        found = {name: value / weight for name, (value, weight) in self.metrics.items()}
        return {name: mean if math.isfinite(mean) else None for name, mean in found.items()}


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

    def taken(self) -> _Sums:
        """The sums, read from the device."""
        sums = {name: (float(total), self._weights[name]) for name, total in self._sums.items()}
        return _Sums(self.samples, sums)


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
