"""What is measured of each step of the script's own: its time, its samples, and whether it is whole."""

from __future__ import annotations

import time
from typing import Any, Dict

from ...batches import sample_count
from ...engine import Engine
from ...meters.telemetry import AnyTelemetry
from ...recorder import version_of
from .rates import LoopHyperparameters, named_rates
from .setup import Watched, first_parameter


class StepMeter:
    """Records steps; every statement of it is paid for at every step."""

    def __init__(
        self,
        *,
        engine: Engine,
        watched: Watched,
        rates: LoopHyperparameters,
        telemetry: AnyTelemetry,
    ) -> None:
        self._engine = engine
        self._optimizer = watched.optimizer
        self._rates = rates
        self._telemetry = telemetry
        self._first_parameter = first_parameter(watched.model)
        #: How often the optimizer had changed the first parameter when the last step was done.
        self._updates = self._update_count()
        #: Of the step under way: its samples, and the seconds in which it waited for them.
        self._samples, self._waited = 0, 0.0
        self._began = time.perf_counter()

    def begin(self) -> float:
        """A step begins now, with nothing read; when that is."""
        self._samples, self._waited = 0, 0.0
        self._began = time.perf_counter()
        return self._began

    def took(self, batch: Any, asked: float) -> None:
        """A batch that was asked for at `asked` is handed out."""
        self._waited += time.perf_counter() - asked
        if not self._samples:
            self._telemetry.before_step()
        self._samples += sample_count(batch)

    def record(self, metrics: Dict[str, Any]) -> None:
        """Count a step over the batches that were handed out, and record it."""
        engine = self._engine
        engine.step = step = engine.step + 1
        sampled = self._telemetry.after_step()
        values = self._completed(metrics)
        if sampled:
            values = {**sampled, **values}
        now = time.perf_counter()
        engine.recorder.record(
            engine.run, step, values, now - self._began, self._samples, self._waited
        )
        self._began, self._samples, self._waited = now, 0, 0.0
        self._updates = self._update_count()

    def record_lone(self, metrics: Dict[str, Any]) -> None:
        """Count a step whose batches the script read itself, and record it."""
        engine = self._engine
        engine.step += 1
        engine.record(self._completed(metrics), time.perf_counter() - self._began)
        self._updates = self._update_count()

    def mark(self) -> None:
        """The weights are those after a whole step."""
        self._updates = self._update_count()

    @property
    def is_whole(self) -> bool:
        """Whether the optimizer has changed nothing since the last step."""
        return self._updates == self._update_count()

    def _completed(self, metrics: Dict[str, Any]) -> Dict[str, Any]:
        """The metrics, the learning rates, and what guards look at."""
        if self._rates.is_active:
            return {**self._rates.step_values(), **metrics}
        groups = self._optimizer.param_groups
        if len(groups) == 1:
            return {"lr": groups[0]["lr"], **metrics}
        return {**named_rates([group["lr"] for group in groups]), **metrics}

    def _update_count(self) -> int:
        first = self._first_parameter
        return -1 if first is None else version_of(first)
