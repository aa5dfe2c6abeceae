"""What a person sets is in force in each step, and the script's schedulers go on as if it were not."""

from __future__ import annotations

import pytest
import torch
from otf_hooks import watch
from otf_session.commands import LoadCheckpoint, SaveCheckpoint, SetHyperparameters
from otf_session.events import CommandChanged, HyperparametersDeclared
from torch import nn

from .. import scenarios as native
from ..record import of, series
from .conftest import Loop, ask
from .scenarios import Steered

FACTOR = SetHyperparameters(values={"lr": 0.002})
HELD = SetHyperparameters(values={"lr": 0.004}, hold=True)
RELEASED = SetHyperparameters(values={}, hold=False)
CLIPPED = SetHyperparameters(values={"grad_clip_norm": 0.05})


@pytest.mark.parametrize("name", ["scheduler-epoch", "scheduler-step"])
@pytest.mark.parametrize(
    "plan", [{5: [FACTOR]}, {5: [HELD], 20: [RELEASED]}, {5: [FACTOR, CLIPPED], 16: [HELD]}]
)
def test_as_in_the_native_front_which_steps_the_scheduler_itself(name, plan):
    found = []
    for kind in (native.Steered, Steered):
        steered = kind(name)
        for step, commands in plan.items():
            steered.at(step, *commands)
        found.append(steered.run())
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_the_rate_in_force_is_what_is_recorded_declared_and_rewound():
    loop = Loop()
    scheduler = torch.optim.lr_scheduler.StepLR(loop.optimizer, step_size=1, gamma=0.5)
    given = {"project": "p", "run_name": "r", "auto_connect": False}
    loop.watching = watch(loop.model, loop.optimizer, scheduler=scheduler, **given)
    loop.plan = {
        2: SetHyperparameters(values={"lr": 0.2}),
        4: SaveCheckpoint(name="a"),
        12: [LoadCheckpoint(checkpoint="a")],
    }
    loop.run(2, lambda run: scheduler.step())
    rates = [value for _, value in series("lr")]
    # Ten steps up to the rewind from 12 to 4, and on from there to the end.
    wanted = [0.1] * 2 + [0.2] * 6 + [0.1] * 4 + [0.2] * 4 + [0.1] * 8
    assert rates == pytest.approx(wanted)
    declared = of(HyperparametersDeclared)[-1]
    assert declared.lr_owner == "scaled"
    assert declared.lr_factors == [2.0]
    # In the end the optimizer holds what was in force.
    assert loop.optimizer.param_groups[0]["lr"] == pytest.approx(0.2 * 0.25)


def test_a_script_that_reads_a_tunable_sees_what_was_set():
    loop, seen = Loop(), []
    with loop.watching as run:
        for batch in run.batches(loop.loader):
            seen.append(run.tunable("smoothing", 0.1, 0.0, 1.0))
            loop.one(run, batch)
            if run.steps == 3:
                ask(run, SetHyperparameters(values={"smoothing": 0.4}))
    assert seen == [0.1] * 3 + [0.4] * 5


def test_groups_of_several_optimizers_are_counted_through():
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    optimizers = [torch.optim.SGD(one.parameters(), 0.1), torch.optim.Adam(other.parameters(), 0.2)]
    with watch([one, other], optimizers, project="p", auto_connect=False) as run:
        run.step()
        ask(run, SetHyperparameters(values={"lr": 0.3}, group=1))
        run.step()
    assert series("lr/0") == [(1, 0.1), (2, 0.1)]
    assert optimizers[1].param_groups[0]["lr"] == 0.3
    assert optimizers[0].param_groups[0]["lr"] == 0.1


def test_without_an_optimizer_there_is_nothing_to_clip():
    with watch(project="p", auto_connect=False) as run:
        ask(run, CLIPPED)
        run.step()
    (outcome,) = [event.outcome for event in of(CommandChanged) if event.outcome is not None]
    assert "no optimizer" in outcome.reason
