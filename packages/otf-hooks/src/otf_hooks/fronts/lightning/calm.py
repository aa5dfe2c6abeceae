"""Evaluation in the midst of training: what it was before, and is again afterwards."""

from __future__ import annotations

import contextlib
import logging
from typing import Any, ContextManager, Dict, List, Tuple

import torch

from ... import randomness
from ...peers import Peers
from .place import LightningPlace
from .state import cloned, eval_modules, metric_states, put_metric_states, put_modes

_logger = logging.getLogger("onthefly")


class Calm:
    """How training was before an evaluation; as a context, all of it is put back afterwards.

    Generators, the loaders' own included, each part's mode, gradients, and what metrics had
    gathered, are what they were. Without the context it only remembers. With several processes all
    of them evaluate with rank 0's buffers, and have their own again afterwards.
    """

    def __init__(self, module: torch.nn.Module, place: LightningPlace, peers: Peers) -> None:
        self._module = module
        self._place = place
        self._peers = peers
        self._own_buffers: List[Tuple[torch.Tensor, torch.Tensor]] = []
        #: Whether training was put somewhere else meanwhile.
        self.is_moved = False
        self._stack = contextlib.ExitStack()
        #: What a checkpoint that is made meanwhile holds.
        self.random = randomness.capture()
        self.eval_modules: List[str] = eval_modules(module)
        self.metrics: Dict[str, Any] = cloned(metric_states(module))
        self.gradients: Dict[str, torch.Tensor] = {
            name: parameter.grad
            for name, parameter in module.named_parameters()
            if parameter.grad is not None
        }

    def moved(self) -> None:
        """Training was put somewhere else meanwhile: what it is there stays so."""
        self.is_moved = True

    def undisturbed(self) -> ContextManager[None]:
        """Draw what you like inside: all generators are afterwards as they were."""
        return self._place.undisturbed()

    def __enter__(self) -> None:
        self._modes = [(part, part.training) for part in self._module.modules()]
        self._stack.enter_context(self._place.undisturbed())
        self._take_buffers()

    def __exit__(self, *_: object) -> None:
        if self.is_moved:
            with self._place.undisturbed():
                self._stack.close()
            return
        for part, training in self._modes:
            part.training = training
        for buffer, before in self._own_buffers:
            buffer.data.copy_(before)
        for name, parameter in self._module.named_parameters():
            parameter.grad = self.gradients.get(name)
        put_metric_states(self._module, self.metrics)
        self._stack.close()

    def _take_buffers(self) -> None:
        buffers = list(self._module.buffers())
        if self._peers.size == 1 or not buffers:
            return
        self._own_buffers = [(buffer, buffer.clone()) for buffer in buffers]
        for buffer, first in zip(buffers, self._peers.shared(lambda: [b.cpu() for b in buffers])):
            buffer.data.copy_(first)


def end_quietly(trainer: Any, calm: Calm) -> None:
    """End a validation of Lightning's that was left, so that the next begins without its sums."""
    module, loop = trainer.lightning_module, trainer.fit_loop.epoch_loop.val_loop
    callbacks, loggers = trainer.callbacks, trainer.loggers
    # Where training was put elsewhere meanwhile, what it is there stays so.
    in_eval = eval_modules(module) if calm.is_moved else calm.eval_modules
    metrics = cloned(metric_states(module)) if calm.is_moved else calm.metrics
    monitored = dict(trainer.callback_metrics)
    trainer.callbacks, trainer.loggers = [], []
    try:
        with calm.undisturbed(), torch.no_grad():
            loop.on_run_end()
    # The module's own hooks may not expect to be called here. The run has their error, and goes on.
    except Exception:
        _logger.warning("A hook failed as a validation was left.", exc_info=True)
    finally:
        trainer.callbacks, trainer.loggers = callbacks, loggers
        trainer.training = True
    put_modes(module, in_eval)
    put_metric_states(module, metrics)
    trainer.callback_metrics.clear()
    trainer.callback_metrics.update(monitored)
