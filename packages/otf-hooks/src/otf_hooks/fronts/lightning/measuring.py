"""What a step is recorded with: rates, the loss, the gradients' norm, all that the module logged."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Dict, Iterator, Mapping, Optional

import torch

from ...batches import sample_count
from ...meters.telemetry import AnyTelemetry, NoTelemetry
from ..training import gradient_norm
from .logged import Logged
from .rates import Optimizers


class Measuring:
    """Gathers in a step's hooks what is recorded behind it; nothing here waits for a device."""

    def __init__(
        self,
        trainer: Any,
        optimizers: Optimizers,
        *,
        watch_gradients: bool,
        telemetry: Optional[AnyTelemetry] = None,
    ) -> None:
        self._trainer = trainer
        self._optimizers = optimizers
        self._watch_gradients = watch_gradients
        self._logged = Logged()
        self._outputs: Any = None
        self._gradient_norm: Optional[torch.Tensor] = None
        self._telemetry: AnyTelemetry = NoTelemetry() if telemetry is None else telemetry
        self._is_recorded = True
        self._sampled: Mapping[str, Any] = {}
        #: The samples of the batch that was trained on last.
        self.samples = 0
        #: When the batch was asked for, and the seconds until it was there, on its device.
        self.asked_at = self.waited = 0.0

    def close(self) -> None:
        """Training is over."""
        self._telemetry.close()

    @contextlib.contextmanager
    def unrecorded(self) -> Iterator[None]:
        """Inside, steps are trained that are not the run's."""
        self._is_recorded = False
        try:
            yield
        finally:
            self._is_recorded = True

    def batch_started(self) -> None:
        """A batch is there, and about to be trained on."""
        if self._is_recorded:
            self.waited = time.perf_counter() - self.asked_at
            self._telemetry.before_step()

    def batch_ended(self, outputs: Any, batch: Any) -> None:
        """A batch was trained on."""
        self._outputs, self.samples = outputs, sample_count(batch)
        if self._is_recorded:
            self._sampled = self._telemetry.after_step()

    def optimizer_steps(self) -> None:
        """An optimizer is about to step; its gradients are whole, and not clipped."""
        if self._watch_gradients and self._is_recorded:
            self._gradient_norm = gradient_norm(self._trainer.lightning_module)

    def of_step(self) -> Dict[str, Any]:
        """What was measured in the step that is done."""
        groups = self._optimizers.param_groups
        if len(groups) == 1:
            values = {"lr": groups[0]["lr"]}
        else:
            values = {f"lr/{number}": group["lr"] for number, group in enumerate(groups)}
        values.update(self._sampled)
        self._sampled = {}
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
