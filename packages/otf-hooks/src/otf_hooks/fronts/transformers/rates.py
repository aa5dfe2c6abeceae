"""Hyperparameters under transformers.Trainer, which clips and steps the scheduler itself."""

from __future__ import annotations

from typing import Any, List, Optional

import torch

from ...hyperparameters import Hyperparameters, Tunables


class TrainerHyperparameters(Hyperparameters):
    """Scaled and held rates under a scheduler that the Trainer steps.

    A scheduler finds its own rates when it is stepped: they are put back behind the optimizer's
    step, and before an evaluation, whose result may be what it is stepped with. `rates_in_force`
    takes what it has come to and puts back what is in force.
    """

    def __init__(
        self,
        *,
        optimizer: Any,
        scheduler: Any,
        grad_clip_norm: Optional[float],
        tunables: Tunables,
    ) -> None:
        super().__init__(
            optimizer=optimizer,
            scheduler=scheduler,
            grad_clip_norm=grad_clip_norm,
            tunables=tunables,
        )
        self._own_in_place = False
        #: Whether the optimizer has stepped since this was last set to False.
        self.stepped = False
        # Accelerate's wrapper has no hooks of its own.
        inner = getattr(optimizer, "optimizer", optimizer)
        assert isinstance(inner, torch.optim.Optimizer)
        self._hook = inner.register_step_post_hook(self._after_step)

    def close(self) -> None:
        """This optimizer is not stepped any more, or not for this run."""
        self._hook.remove()

    @property
    def rates(self) -> List[float]:
        """The learning rates of the groups, as the next step uses them."""
        return [float(group["lr"]) for group in self._optimizer.param_groups]

    def own_rates(self) -> None:
        """Let the scheduler find its own rates, where others are in force."""
        if self._scheduled is not None and not self._own_in_place:
            self._own_in_place = True
            self._put_all(self._scheduled)

    def rates_in_force(self) -> None:
        """The scheduler may have been stepped: its rates are kept, and those in force put back."""
        if self._own_in_place:
            self._own_in_place = False
            self._scheduled = self.rates
            self._put_rates()

    def _after_step(self, *_: Any) -> None:
        self.stepped = True
        self.own_rates()

    def _put_all(self, rates: List[float]) -> None:
        for group, rate in zip(self._optimizer.param_groups, rates):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
