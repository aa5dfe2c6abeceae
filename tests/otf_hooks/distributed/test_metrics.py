"""What two processes measure: rank 0's figures, or the means over both."""

from __future__ import annotations

import pytest
from otf_hooks.distributed.agreement import Pace
from otf_hooks.distributed.averaging import averages
from otf_hooks.recorder import Measurement
from otf_session.commands import Pause, Resume, Stop
from otf_session.events import EvaluationFinished

from ..record import of, series
from .ranks import Ranks, on_each
from .test_exact import FIRST, SECOND
from .work import STEPS, Steered


def losses(plan, options):
    """The loss of every step on this rank, as the script sees it."""
    training = Steered("ddp", **options)
    for step, what in plan.items():
        training.at(step, *what)
    seen = []
    loss_fn = training.parts["loss_fn"]

    def noted(output, target):
        loss = loss_fn(output, target)
        if loss.requires_grad:
            seen.append(loss.item())
        return loss

    training.parts["loss_fn"] = noted
    training.run()
    return seen


def recorded():
    return [value for _, value in series("loss")]


def test_by_default_the_metrics_are_those_of_rank_0():
    first, second = on_each(losses, {}, {"every_step": False})
    assert recorded() == first != second
    assert len(first) == STEPS


@pytest.mark.parametrize("every_step", [True, False])
def test_they_can_be_means_over_all(every_step):
    plan = {FIRST: [Pause(), Resume()]}
    options = {"every_step": every_step, "reduce_metrics": True}
    first, second = on_each(losses, plan, options)
    assert recorded() == [(one + other) / 2 for one, other in zip(first, second)]
    assert [step for step, _ in series("loss")] == list(range(1, STEPS + 1))
    # Each metric of an evaluation is that of both anyway.
    assert [step for step, _ in series("val_loss")] == [8, 16, 24]


def test_a_stop_loses_none_of_them():
    found = on_each(losses, {SECOND: [Stop()]}, {"reduce_metrics": True})
    assert len(recorded()) == len(found[0]) == SECOND


def fails():
    training = Steered("ddp", every_step=False, reduce_metrics=True)

    def fault(engine):
        raise ZeroDivisionError

    return training.at(SECOND, fault, rank=None).run()


def test_a_failure_loses_none_of_them():
    assert Ranks(fails).join() == [1, 1]
    assert [step for step, _ in series("loss")] == list(range(1, SECOND))


def test_an_evaluation_is_over_the_samples_of_all():
    on_each(losses, {}, {})
    assert {event.samples for event in of(EvaluationFinished)} == {10 + 40}


def measured(loss, **more):
    return Measurement("r", 1, 0.0, {"loss": loss, **more}, 0.5, 8)


def test_means_are_over_the_processes_that_have_a_figure():
    (found,) = averages([[measured(1.0, own=5.0)], [measured(2.0)], [measured(6.0, other=1.0)]])
    assert found.values == {"loss": 3.0, "own": 5.0}
    assert found.samples == 24


def test_the_pace_follows_the_steps_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("otf_hooks.distributed.agreement.time.monotonic", lambda: now[0])
    pace, step = Pace(), 0
    gaps = []
    for _ in range(12):
        pace.agreed(pace.proposed(step), step)
        gaps.append(pace.steps)
        now[0] += pace.steps / 256
        step += pace.steps
    # Of steps of 1/256 s, 25 are within a tenth of a second; carefully at first.
    assert gaps[:6] == [1, 2, 4, 8, 16, 25]
    assert set(gaps[5:]) == {25}
    now[0] += 60.0
    pace.interrupted()
    assert pace.proposed(step) == 25
    pace.agreed(20, step)
    now[0] += 20 * 0.05
    assert pace.proposed(step + 20) == 2
