"""What is measured of each step of a Trainer: rates, loss, time, samples, and what is sampled."""

from __future__ import annotations

import time
from typing import Any, Dict, List, NamedTuple, Optional

import torch

from ...meters.telemetry import AnyTelemetry
from .losses import StepLosses
from .rates import TrainerHyperparameters

#: Of what is sampled, what the Trainer logs itself, before it clips.
_LOGGED_ANYWAY = "grad_norm"


class Measured(NamedTuple):
    """One step: its metrics, its seconds, its samples, and the seconds it waited for its batches."""

    values: Dict[str, Any]
    seconds: float
    samples: int
    waited: Optional[float]


class Measuring:
    """Measures the steps of one call of `trainer.train`, from its hooks.

    The Trainer reads a step's batches between the last hook of a step and the first of the next.
    That is what it waited for; with an older version and accumulated gradients, for the first only.
    """

    def __init__(
        self, model: torch.nn.Module, rates: TrainerHyperparameters, telemetry: AnyTelemetry
    ) -> None:
        self._losses = StepLosses(model)
        self._rates = rates
        self._telemetry = telemetry
        self._used: List[float] = []
        self._asked: Optional[float] = None
        self._waited: Optional[float] = None
        self._began = 0.0
        #: Whether a step is under way.
        self.in_step = False

    def close(self) -> None:
        """The call is over."""
        self._losses.close()
        self._telemetry.close()

    def step_is_asked_for(self) -> None:
        """The Trainer goes on to read, as far as it can be told."""
        self._asked = time.perf_counter()

    def step_is_read(self) -> None:
        """The batches of a step are there."""
        asked, self._asked = self._asked, None
        self._waited = None if asked is None else time.perf_counter() - asked

    def step_begins(self) -> None:
        """It is trained from here on."""
        self._losses.clear()
        self._used = self._rates.rates
        self.in_step = True
        self._telemetry.before_step()
        self._began = time.perf_counter()

    def step_ends(self) -> Measured:
        """The optimizer has stepped."""
        self.in_step = False
        seconds = time.perf_counter() - self._began + (self._waited or 0.0)
        values = {
            name: value
            for name, value in self._telemetry.after_step().items()
            if name != _LOGGED_ANYWAY
        }
        if len(set(self._used)) == 1:
            values["lr"] = self._used[0]
        else:
            values.update({f"lr/{number}": rate for number, rate in enumerate(self._used)})
        loss = self._losses.value()
        if loss is not None:
            values["step_loss"] = loss
        measured = Measured(values, seconds, self._losses.samples, self._waited)
        self._losses.clear()
        return measured
