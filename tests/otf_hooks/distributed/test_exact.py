"""Two processes, bit for bit: attached, paused, rewound, killed and resumed, and all ranks alike."""

from __future__ import annotations

import signal

import pytest
import torch
from otf_session.commands import (
    LoadCheckpoint,
    Pause,
    Prove,
    Reset,
    Resume,
    SaveCheckpoint,
    SetHyperparameters,
    Test,
    Validate,
)
from otf_session.events import CommandChanged, Rewound, RunState
from otf_session.home import Home
from otf_session.resume import How, find_order, parse_target

from ..record import of, states, summary
from .ranks import Ranks, on_each
from .work import SCENARIOS, STEPS_PER_EPOCH, Steered, bare, kill, steered

#: In the midst of the first, the second and the third epoch.
FIRST, SECOND, THIRD = 3, STEPS_PER_EPOCH + 4, 2 * STEPS_PER_EPOCH + 2

_bare = {}


def expected(name):
    """What the bare loop comes to, on each rank."""
    if name not in _bare:
        _bare[name] = on_each(bare, name)
    return _bare[name]


def assert_same(found, wanted):
    for rank, (one, other) in enumerate(zip(found, wanted)):
        assert one.keys() == other.keys()
        for key in other:
            assert torch.equal(one[key], other[key]), f"{key} of rank {rank}"


def outcomes():
    return {
        type(event.command).__name__: event.outcome
        for event in of(CommandChanged)
        if event.outcome is not None
    }


@pytest.mark.parametrize("name", SCENARIOS)
def test_attached_is_the_bare_loop(name):
    found = on_each(steered, name, {}, {"every_step": False})
    assert_same(found, expected(name))
    for key, tensor in found[0].items():
        if "running" not in key:
            assert torch.equal(tensor, found[1][key]), "the ranks differ"
    assert states() == ["running", "finished"]


def test_paused_tested_saved_and_proved_in_mid_epoch_changes_nothing():
    pause = [Pause(), Test(), SaveCheckpoint(), Validate(), Resume()]
    plan = {FIRST: pause, SECOND: [*pause, Prove(steps=2)]}
    assert_same(on_each(steered, "ddp", plan), expected("ddp"))
    found = outcomes()
    assert {type(outcome).__name__ for outcome in found.values()} == {"Applied"}
    assert found["Prove"].result.exact
    # The samples of both ranks.
    assert found["Test"].result.samples == 10 + 40


@pytest.mark.parametrize("name", ["ddp", "accumulation"])
def test_rewound_and_trained_again(name):
    plan = {
        FIRST: [SaveCheckpoint(name="one")],
        SECOND: [SaveCheckpoint(name="two"), LoadCheckpoint(checkpoint="one")],
        THIRD: [LoadCheckpoint(checkpoint="two")],
    }
    assert_same(on_each(steered, name, plan), expected(name))
    assert [event.exact for event in of(Rewound)] == [True, True]


def test_reset_is_a_new_run_that_comes_to_the_same():
    assert_same(on_each(steered, "ddp", {SECOND: [Reset()]}), expected("ddp"))
    assert [run.state for run in summary().runs] == [RunState.STOPPED, RunState.FINISHED]


def killed(name, step, rank):
    training = Steered(name)
    training.at(step, SaveCheckpoint())
    training.at(step + 2, kill, rank=rank)
    return training.run()


def resumed(name):
    training = Steered(name)
    return training.run(), training.result.run, training.trainer._options.project


@pytest.mark.parametrize("name", ["ddp", "accumulation", "own-buffers"])
def test_killed_and_resumed(name, monkeypatch):
    assert Ranks(killed, name, SECOND, None).join() == [-signal.SIGKILL] * 2
    order = find_order(Home.find(), parse_target("latest"))
    assert order.step == SECOND
    assert order.how is How.SAME_RUN
    monkeypatch.setenv(*next(iter(order.environment().items())))
    found = on_each(resumed, name)
    assert_same([weights for weights, *_ in found], expected(name))
    assert {run for _, run, _ in found} == {"baseline"}


def tuned(name):
    training = Steered(name)
    training.at(FIRST, SetHyperparameters(values={"lr": 0.05}))
    found = training.run()
    return found, training.parts["optimizer"].param_groups[0]["lr"]


def test_a_hyperparameter_is_changed_on_every_rank():
    one, other = on_each(tuned, "ddp")
    assert one[1] == other[1] == 0.05
    assert torch.equal(one[0]["module.0.weight"], other[0]["module.0.weight"])
    assert not torch.equal(one[0]["module.0.weight"], expected("ddp")[0]["module.0.weight"])
