"""Test and validate: evaluate the live weights now, without disturbing training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otf_session.commands import Applied, Outcome, Refused, Test, Validate
from otf_session.results import Evaluation

if TYPE_CHECKING:
    from ..engine import Engine


def test(engine: Engine, command: Test) -> Outcome:
    """Evaluate on the test data."""
    return _evaluate(engine, "test")


def validate(engine: Engine, command: Validate) -> Outcome:
    """Evaluate on the validation data."""
    return _evaluate(engine, "validation")


def _evaluate(engine: Engine, split: str) -> Outcome:
    if not engine.parking.is_empty:
        return Refused(
            reason="The model is in host memory. Resume first, or pause without release."
        )
    engine.desk.begin_long()
    try:
        found = engine.front.evaluate(split, engine.keep_going)
    finally:
        engine.desk.end_long()
    if found is None:
        return Refused(reason=f"The evaluation on the {split} data was broken off.")
    engine.evaluated(found)
    means = ", ".join(
        f"{name} {'not finite' if value is None else f'{value:.5g}'}"
        for name, value in found.values.items()
    )
    return Applied(
        step=engine.step,
        message=f"{means} over {found.samples} samples at step {engine.step}.",
        result=Evaluation(split=found.split, samples=found.samples, values=found.values),
    )
