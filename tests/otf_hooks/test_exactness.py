"""Bit for bit: attached, paused, killed and resumed, rewound and replayed; each twice in a row."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

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
from otf_session.events import CheckpointSaved, CommandChanged, Rewound
from otf_session.home import Home
from otf_session.resume import find_order, parse_target

from .forked import Forked
from .record import of, series, summary
from .scenarios import ROOT, SCENARIOS, STEPS, STEPS_PER_EPOCH, Steered, bare, make

#: In the midst of the first, the second and the third epoch.
FIRST, SECOND, THIRD = 5, STEPS_PER_EPOCH + 5, 2 * STEPS_PER_EPOCH + 3

_bare = {}


@pytest.fixture(params=SCENARIOS)
def name(request):
    if request.param == "stateful-loader":
        pytest.importorskip("torchdata")
    return request.param


def expected(name):
    """What the bare loop comes to."""
    if name not in _bare:
        _bare[name] = bare(make(name))
    return _bare[name]


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for key in wanted:
        assert torch.equal(found[key], wanted[key]), key


def outcomes():
    return {
        type(event.command).__name__: event.outcome
        for event in of(CommandChanged)
        if event.outcome is not None
    }


def test_attached_and_unsteered_is_the_bare_loop(name):
    assert_same(Steered(name).run(), expected(name))


def test_paused_tested_and_saved_in_mid_epoch_changes_nothing(name):
    pause = [Pause(), Test(), SaveCheckpoint(), Validate(), Resume()]
    steered = Steered(name).at(FIRST, *pause).at(SECOND, *pause)
    assert_same(steered.run(), expected(name))
    assert {type(outcome).__name__ for outcome in outcomes().values()} == {"Applied"}


def test_rewound_twice_and_trained_again(name):
    steered = Steered(name)
    steered.at(FIRST, SaveCheckpoint(name="one"))
    steered.at(SECOND, SaveCheckpoint(name="two"), LoadCheckpoint(checkpoint="one"))
    # Once across an epoch's end, once within an epoch, and that from a checkpoint made after the
    # first rewind.
    steered.at(THIRD, SaveCheckpoint(name="three"))
    steered.at(THIRD + 4, LoadCheckpoint(checkpoint="three"))
    assert_same(steered.run(), expected(name))
    assert [event.step for event in of(Rewound)] == [FIRST, THIRD]
    assert all(event.exact for event in of(Rewound))
    steps = [step for step, _ in series("loss")]
    assert steps[-1] == STEPS
    assert len(steps) == STEPS + (SECOND - FIRST) + 4


def test_a_reset_begins_again_as_a_new_run(name):
    steered = Steered(name).at(SECOND, Reset())
    assert_same(steered.run(), expected(name))
    first, second = summary().runs
    assert (first.name, first.state.value, first.step) == ("baseline", "stopped", SECOND)
    assert (second.name, second.parents, second.step) == ("baseline-2", ["baseline"], STEPS)


def test_a_proof_finds_nothing_and_leaves_the_run_as_it_was(name):
    steered = Steered(name).at(FIRST, Prove(steps=4)).at(SECOND, Prove(steps=50))
    assert_same(steered.run(), expected(name))
    proofs = [event.outcome for event in of(CommandChanged) if event.outcome is not None]
    assert [proof.result.exact for proof in proofs] == [True, True]
    # The second asked for more than was left of the epoch.
    assert [proof.result.steps for proof in proofs] == [4, STEPS_PER_EPOCH - 5]
    assert [step for step, _ in series("loss")] == list(range(1, STEPS + 1))


@pytest.fixture(scope="module")
def script():
    """The scenarios in processes of their own, which need not import torch each time."""
    forked = Forked("tests.otf_hooks.scenarios")
    yield forked
    forked.close()


def resumed(target):
    return find_order(Home.find(), parse_target(target)).environment()


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_killed_and_resumed_twice(name, script, tmp_path):
    out = tmp_path / "weights.pt"
    done = script.run(name, out, f"{FIRST}=save", f"{FIRST + 3}=kill")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert summary().state.value == "lost"
    done = script.run(name, out, f"{SECOND}=save", f"{SECOND + 2}=kill", **resumed("latest"))
    assert done.returncode == -signal.SIGKILL, done.stderr
    saved = [event.step for event in of(CheckpointSaved) if event.label == "saved"]
    assert saved == [FIRST, SECOND]
    done = script.run(name, out, **resumed(f"latest:baseline@{SECOND}"))
    assert done.returncode == 0, done.stderr
    assert_same(torch.load(out, weights_only=True), expected(name))
    assert [event.step for event in of(Rewound)] == [FIRST, SECOND]
    assert summary().state.value == "finished"
    assert summary().runs[0].step == STEPS


def test_set_hyperparameters_and_replayed(tmp_path):
    steered = Steered("scheduler-epoch")
    steered.at(FIRST, SetHyperparameters(values={"lr": 0.002}))
    steered.at(SECOND, SetHyperparameters(values={"weight_decay": 0.3, "betas.0": 0.8}))
    wanted = steered.run()
    assert not torch.equal(wanted["0.weight"], expected("scheduler-epoch")["0.weight"])
    target = steered.result.session
    out = tmp_path / "weights.pt"
    command = [sys.executable, "-m", "otf_session.resume_cli", "--replay", target, "--"]
    command += [sys.executable, "-m", "tests.otf_hooks.scenarios", "scheduler-epoch", str(out)]
    done = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "bit for bit" in done.stderr
    assert_same(torch.load(out, weights_only=True), wanted)
