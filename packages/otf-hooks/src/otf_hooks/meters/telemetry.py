"""Sampled telemetry: figures that cost too much for every step, at a stated share of step time.

A front calls two functions around each training step, whatever is in it:

    telemetry.before_step()
    ...                                       forward, backward, the optimizer's step
    values.update(telemetry.after_step())     nothing, but for a sampled step
    ...
    telemetry.close()                         in the end, and after an exception
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Union

import torch

from .sample import Sample
from .sampling import SampleBudget
from .section import Section

#: Steps in which a sample waits for the optimizer, where gradients add up over several.
_LONGEST = 100
_NOTHING: Dict[str, torch.Tensor] = {}


class Telemetry:
    """Samples `grad_norm`, `weight_norm`, `update_ratio` and `activation_zeros`.

    What is measured stays on the device, as scalars to be recorded. The weights are afterwards bit
    for bit what they would have been. Where parameters are sharded over processes there are no
    norms, and in a compiled model no activations. In torch 2.2 there are no norms either once
    anything was compiled, because it calls no optimizer's hooks from then on. Where sampling fails
    it is over, which is said, and training goes on.

    Args:
        model: What is trained.
        optimizers: What trains it.
        budget: How much of the sampled steps' and all other steps' time it may take: 0.01 is one
            percent. See `SampleBudget`.
        warn: Told where it is over.
        clock: Seconds.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        *,
        budget: SampleBudget,
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.budget = budget
        self._model = model
        self._optimizers = optimizers
        self._warn = warn
        self._clock = clock
        self._began = 0.0
        self._sample: Optional[Sample] = None
        #: The last sample, whose cost on the device is not known yet.
        self._unpaid: Optional[Section] = None
        self._steps = 0
        self._is_over = False

    def before_step(self) -> None:
        """A training step begins: watch it, where that is due."""
        # All but the last line is paid for at every step.
        self._began = now = self._clock()
        if self._unpaid is not None:
            self._pay(self._unpaid, now)
        elif self._sample is None and self.budget.is_due(now) and not self._is_over:
            self._open()

    def after_step(self) -> Mapping[str, Any]:
        """It is over: what was measured, as scalars that may still be computed on their device."""
        self.budget.stepped(self._clock() - self._began)
        return _NOTHING if self._sample is None else self._take(self._sample)

    def close(self) -> None:
        """Take all hooks away."""
        if self._sample is not None:
            self._sample.close()
            self._sample = None

    def _open(self) -> None:
        device = next((p.device for p in self._model.parameters()), None)
        self._steps = 0
        self._sample = Sample(self._model, self._optimizers, Section(device))

    def _take(self, sample: Sample) -> Mapping[str, Any]:
        found = sample.take()
        self._steps += 1
        error = sample.section.error
        if sample.has_stepped or self._steps >= _LONGEST or error is not None:
            self.close()
            self._pay(sample.section, self._clock())
        if error is not None:
            self._is_over = True
            self._warn(
                f"The norms and activations could not be measured, and are not from here on: "
                f"{type(error).__name__}: {error}. Training is as it was."
            )
        return found

    def _pay(self, section: Section, now: float) -> None:
        cost = section.cost()
        self._unpaid = section if cost is None else None
        if cost is not None:
            self.budget.sampled(cost, now)


class NoTelemetry:
    """Samples nothing."""

    def before_step(self) -> None:
        """A training step begins."""

    def after_step(self) -> Mapping[str, Any]:
        """It is over."""
        return _NOTHING

    def close(self) -> None:
        """There is nothing to take away."""


AnyTelemetry = Union[Telemetry, NoTelemetry]


def telemetry_for(
    model: torch.nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    share: float,
    warn: Callable[[str], None],
) -> AnyTelemetry:
    """`Telemetry` with this share of step time (0 to 1), or `NoTelemetry` where it is 0."""
    if not share:
        return NoTelemetry()
    return Telemetry(model, optimizers, budget=SampleBudget(share), warn=warn)
