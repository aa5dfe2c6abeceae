"""Bit for bit, in loops of the script's own: attached, paused, rewound, reset, killed and resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any, Dict

import pytest
import torch
from otf_session.commands import (
    LoadCheckpoint,
    Pause,
    Reset,
    Resume,
    SaveCheckpoint,
    SetHyperparameters,
    Test,
    Validate,
)
from otf_session.events import CheckpointSaved, CommandChanged, Rewound
from otf_session.resume import How, find_order, parse_target

from ..forked import Forked
from ..record import of, series, summary
from ..scenarios import ROOT
from .scenarios import SCENARIOS, Steered, bare, make

_NEEDS = {"stateful-loader": "torchdata", "accelerated": "accelerate"}
#: What differs in what a process must find again; the others are told apart within one.
_KILLED = [
    "workers",
    "scheduler-epoch",
    "accumulating",
    "two-passes",
    "adversaries",
    "own-epochs",
    "accelerated",
]

_bare: Dict[str, Any] = {}


def needed(name):
    if name in _NEEDS:
        pytest.importorskip(_NEEDS[name])
    return name


@pytest.fixture(params=SCENARIOS)
def name(request):
    return needed(request.param)


def expected(name):
    """What the bare loop comes to; to be asked before another is made, because it seeds."""
    if name not in _bare:
        _bare[name] = bare(name)
    return _bare[name]


def moments(name):
    """A step in the midst of each of the three epochs, and the number of all steps."""
    each = make(name).steps_per_epoch
    return each // 2 - 1, each + each // 2, 2 * each + 1, 3 * each


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for key in wanted:
        assert torch.equal(found[key], wanted[key]), key


def outcomes():
    changed = [event for event in of(CommandChanged) if event.outcome is not None]
    return [(type(event.command).__name__, type(event.outcome).__name__) for event in changed]


def test_attached_and_unsteered_is_the_bare_loop(name):
    wanted = expected(name)
    assert_same(Steered(name).run(), wanted)
    *_, steps = moments(name)
    assert [step for step, _ in series("loss")] == list(range(1, steps + 1))


def test_paused_evaluated_and_saved_in_mid_epoch_changes_nothing(name):
    first, second, _, _ = moments(name)
    wanted = expected(name)
    pause = [Pause(), Test(), SaveCheckpoint(), Validate(), Resume()]
    steered = Steered(name).at(first, *pause).at(second, *pause)
    assert_same(steered.run(), wanted)
    assert {outcome for _, outcome in outcomes()} == {"Applied"}


def test_rewound_within_an_epoch_and_across_one(name):
    first, second, third, steps = moments(name)
    if make(name).counts_itself:
        pytest.skip("A script that counts its epochs itself cannot be taken to another.")
    wanted = expected(name)
    steered = Steered(name)
    steered.at(first, SaveCheckpoint(name="one"))
    steered.at(second, SaveCheckpoint(name="two"), LoadCheckpoint(checkpoint="one"))
    # Once across an epoch's end, once within an epoch, and that from a checkpoint made after the
    # first rewind.
    steered.at(third, SaveCheckpoint(name="three"))
    steered.at(third + 2, LoadCheckpoint(checkpoint="three"))
    assert_same(steered.run(), wanted)
    assert [event.step for event in of(Rewound)] == [first, third]
    assert all(event.exact for event in of(Rewound)), of(Rewound)
    recorded = [step for step, _ in series("loss")]
    assert recorded[-1] == steps
    # What the script did on its way to the other epoch is not in the record.
    assert len(recorded) == steps + (second - first) + 2


def test_a_reset_begins_again_as_a_new_run(name):
    _, second, _, steps = moments(name)
    if make(name).counts_itself:
        pytest.skip("A script that counts its epochs itself cannot be taken to another.")
    wanted = expected(name)
    steered = Steered(name).at(second, Reset())
    assert_same(steered.run(), wanted)
    first, again = summary().runs
    assert (first.name, first.state.value, first.step) == ("baseline", "stopped", second)
    assert (again.name, again.parents, again.step) == ("baseline-2", ["baseline"], steps)


def train(*words, resume=None):
    command = [sys.executable, "-m", "tests.otf_hooks.loop.scenarios", *map(str, words)]
    if resume is not None:
        command = [sys.executable, "-m", "otf_session.resume_cli", *resume, "--", *command]
    return subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def script():
    """The scenarios in processes of their own, which need not import torch each time."""
    forked = Forked("tests.otf_hooks.loop.scenarios")
    yield forked
    forked.close()


def resumed(home, target):
    return find_order(home, parse_target(target), How.SAME_RUN).environment()


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize("name", _KILLED)
def test_killed_and_resumed_twice(name, script, home, tmp_path):
    needed(name)
    first, second, _, steps = moments(name)
    wanted = expected(name)
    out = tmp_path / "weights.pt"
    done = script.run(name, out, f"{first}=save", f"{first + 1}=kill")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert summary().state.value == "lost"
    kill_again = (f"{second}=save", f"{second + 1}=kill")
    done = script.run(name, out, *kill_again, **resumed(home, "latest"))
    assert done.returncode == -signal.SIGKILL, done.stderr
    saved = [event.step for event in of(CheckpointSaved) if event.label == "saved"]
    assert saved == [first, second]
    done = script.run(name, out, **resumed(home, f"latest:baseline@{second}"))
    assert done.returncode == 0, done.stderr
    assert "not exact" not in done.stderr
    assert_same(torch.load(out, weights_only=True), wanted)
    assert [event.step for event in of(Rewound)] == [first, second]
    assert summary().state.value == "finished"
    assert summary().runs[0].step == steps


def test_set_hyperparameters_and_replayed(tmp_path):
    first, second, _, _ = moments("scheduler-epoch")
    steered = Steered("scheduler-epoch")
    steered.at(first, SetHyperparameters(values={"lr": 0.002}))
    steered.at(second, SetHyperparameters(values={"weight_decay": 0.3, "grad_clip_norm": 0.4}))
    wanted = steered.run()
    assert not torch.equal(wanted["0.weight"], expected("scheduler-epoch")["0.weight"])
    out = tmp_path / "weights.pt"
    done = train("scheduler-epoch", out, resume=["--replay", "latest"])
    assert done.returncode == 0, done.stderr
    assert "bit for bit" in done.stderr
    assert_same(torch.load(out, weights_only=True), wanted)
