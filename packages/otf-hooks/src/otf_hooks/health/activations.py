"""The check of activations: dead and saturated units, and what becomes of the signal with depth."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, List

from ..batches import sample_count
from . import attention, depth, norms, units
from .examination import Examination
from .modules import Whereabouts, eager
from .operators import Operators

#: Steps that are watched at most, and samples after which it is enough.
_STEPS, _ENOUGH = 8, 256


def check(exam: Examination) -> None:
    """Train some batches on trial, and look at every activation, layer and normalisation."""
    model = exam.probe.model
    watched = Watched(model)
    samples = 0
    with exam.rehearse() as rehearsal, eager(model):
        for number in range(_STEPS):
            exam.step(number, _STEPS)
            loaded = rehearsal.read()
            if loaded is None:
                break
            batch = rehearsal.move(loaded)
            with watched.step():
                rehearsal.train(batch)
            samples += sample_count(batch)
            if samples >= _ENOUGH:
                break
        notes = exam.notes
        notes.measure("samples", samples)
        watched.settle(exam)


class Watched:
    """Everything that is watched in a model's steps."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._units = units.Units()
        self._attention = attention.Attention()
        self._signal = depth.Signal(model)
        self._norms = norms.Norms(model)

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Watch what happens inside."""
        watchers: List[Any] = [self._units, self._attention]
        with contextlib.ExitStack() as stack:
            whereabouts = stack.enter_context(Whereabouts(self._model))
            stack.enter_context(self._signal)
            stack.enter_context(self._norms)
            stack.enter_context(self._units.leaving_out_the_result_of(self._model))
            stack.enter_context(Operators(whereabouts, watchers))
            yield

    def settle(self, exam: Examination) -> None:
        """Say what was found."""
        self._units.settle(exam.notes)
        self._signal.settle(exam.notes)
        self._norms.settle(exam.notes)
        self._attention.settle(exam.notes)
