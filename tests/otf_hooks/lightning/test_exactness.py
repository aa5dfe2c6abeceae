"""Bit for bit with Lightning: attached, paused, tested, rewound, proved, killed and resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import torch

pytest.importorskip("lightning")

from otf_session.commands import (
    LoadCheckpoint,
    Pause,
    Prove,
    Reset,
    Resume,
    SaveCheckpoint,
    Test,
    Validate,
)
from otf_session.events import CommandChanged, DeterminismAssessed, Rewound

from ..record import of, series, summary
from .scenarios import LIGHTNING_WARNS, MAKERS, ROOT, Steered, bare

pytestmark = pytest.mark.filterwarnings(*LIGHTNING_WARNS)

#: Batches per epoch, where they are other than usual.
_EPOCH = {"limits": 10}
#: Where a batch is read before training begins, and the number of batches is not known.
_READ_AHEAD = ("stream",)

_bare = {}


@pytest.fixture(params=MAKERS)
def name(request):
    return request.param


def expected(name):
    """What Lightning alone comes to."""
    if name not in _bare:
        _bare[name] = bare(name)
    return _bare[name]


def places(name):
    """In the midst of the first and the second epoch, and a little further."""
    epoch = _EPOCH.get(name, 12)
    return 5, epoch + 5, epoch + 8


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for key in wanted:
        assert torch.equal(found[key], wanted[key]), key


def outcomes():
    found = [event.outcome for event in of(CommandChanged) if event.outcome is not None]
    return [type(outcome).__name__ for outcome in found]


def test_attached_is_the_bare_training(name):
    steered = Steered(name)
    assert_same(steered.run(), expected(name))
    (assessed,) = of(DeterminismAssessed)
    assert assessed.exact is (name not in _READ_AHEAD), assessed.findings
    steps = [step for step, _ in series("loss")]
    assert steps == list(range(1, len(steps) + 1))
    assert summary().runs[0].state.value == "finished"


def test_paused_tested_and_saved_in_mid_epoch_changes_nothing(name):
    first, second, _ = places(name)
    what = [Pause(), Test(), SaveCheckpoint(), Validate(), Resume()]
    steered = Steered(name).at(first, *what).at(second, *what)
    assert_same(steered.run(), expected(name))
    assert outcomes() == ["Applied"] * 10


def test_rewound_twice_and_trained_again(name):
    first, second, third = places(name)
    steered = Steered(name)
    steered.at(first, SaveCheckpoint(name="one"))
    steered.at(second, SaveCheckpoint(name="two"), LoadCheckpoint(checkpoint="one"))
    # Once across an epoch's end and into the first epoch, once within the second.
    steered.at(third, LoadCheckpoint(checkpoint="two"))
    assert_same(steered.run(), expected(name))
    in_first, in_second = of(Rewound)
    assert (in_first.step, in_second.step) == (first, second)
    assert in_first.exact is (name not in _READ_AHEAD), in_first.findings
    assert in_second.exact, in_second.findings


@pytest.mark.parametrize("name", ["plain", "workers", "manual"])
def test_a_reset_begins_again_as_a_new_run(name):
    _, second, _ = places(name)
    assert_same(Steered(name).at(second, Reset()).run(), expected(name))
    assert [(run.name, run.parents) for run in summary().runs] == [
        ("baseline", []),
        ("baseline-2", ["baseline"]),
    ]


def test_a_proof_finds_nothing_and_leaves_the_run_as_it_was(name):
    first, second, _ = places(name)
    if name == "limits":
        # Behind the fifth batch Lightning validates: a proof ends there.
        first, second = 1, 16
    steered = Steered(name).at(first, Prove(steps=4)).at(second, Prove(steps=50))
    assert_same(steered.run(), expected(name))
    if name in _READ_AHEAD:
        assert outcomes() == ["Refused"] * 2
        return
    proofs = [event.outcome for event in of(CommandChanged) if event.outcome is not None]
    assert [proof.result.exact for proof in proofs] == [True, True]
    assert [proof.result.steps for proof in proofs] == [4, 2 * _EPOCH.get(name, 12) - second]


def train(*words, resume=None):
    command = [sys.executable, "-m", "tests.otf_hooks.lightning.scenarios", *map(str, words)]
    if resume is not None:
        command = [sys.executable, "-m", "otf_session.resume_cli", resume, "--", *command]
    return subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=120
    )


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize(("name", "step"), [("workers", 5), ("accumulated", 17), ("plateau", 17)])
def test_killed_and_resumed(name, step, tmp_path):
    out = tmp_path / "weights.pt"
    done = train(name, out, f"{step}=save", f"{step + 3}=kill")
    assert done.returncode == -signal.SIGKILL, done.stderr
    done = train(name, out, resume="latest")
    assert done.returncode == 0, done.stderr
    assert [event.step for event in of(Rewound)] == [step]
    assert_same(torch.load(out, weights_only=True), expected(name))
