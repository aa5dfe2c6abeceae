"""What a step is recorded with: rates, the loss, the gradients' norm, all that the module logged."""

from __future__ import annotations

from typing import Any, Dict, Optional

import torch

from ...batches import sample_count
from ..training import gradient_norm
from .logged import Logged
from .rates import Optimizers


class Measuring:
    """Gathers in a step's hooks what is recorded behind it; nothing here waits for a device."""

    def __init__(self, trainer: Any, optimizers: Optimizers, *, watch_gradients: bool) -> None:
        self._trainer = trainer
        self._optimizers = optimizers
        self._watch_gradients = watch_gradients
        self._logged = Logged()
        self._outputs: Any = None
        self._gradient_norm: Optional[torch.Tensor] = None
        #: The samples of the batch that was trained on last.
        self.samples = 0

    def batch_ended(self, outputs: Any, batch: Any) -> None:
        """A batch was trained on."""
        self._outputs, self.samples = outputs, sample_count(batch)

    def optimizer_steps(self) -> None:
        """An optimizer is about to step; its gradients are whole, and not clipped."""
        if self._watch_gradients:
            self._gradient_norm = gradient_norm(self._trainer.lightning_module)

    def of_step(self) -> Dict[str, Any]:
        """What was measured in the step that is done."""
        groups = self._optimizers.param_groups
        if len(groups) == 1:
            values = {"lr": groups[0]["lr"]}
        else:
            values = {f"lr/{number}": group["lr"] for number, group in enumerate(groups)}
        if self._gradient_norm is not None:
            values["grad_norm"], self._gradient_norm = self._gradient_norm, None
        loss = self.loss()
        if loss is not None:
            values["loss"] = loss
        # Let go now: what lives through the next step keeps its memory.
        self._outputs = None
        values.update(self.logged())
        return values

    def logged(self) -> Dict[str, Any]:
        """What the module has logged since this was last asked."""
        return self._logged.fresh(self._trainer.callback_metrics)

    def loss(self) -> Any:
        """The loss that `training_step` returned; None where it returned none."""
        outputs, trainer = self._outputs, self._trainer
        loss = outputs.get("loss") if isinstance(outputs, dict) else None
        accumulated = trainer.accumulate_grad_batches
        if loss is None or accumulated == 1 or not trainer.lightning_module.automatic_optimization:
            return loss
        # Lightning divides it where gradients are accumulated.
        return loss * accumulated
