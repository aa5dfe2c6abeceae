"""Commands to a Lightning training, and its ends, beside those that the other files here have."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest
import torch

pytest.importorskip("lightning")

from otf_session.commands import (
    Cancel,
    LoadCheckpoint,
    Pause,
    Resume,
    SaveCheckpoint,
    SetHyperparameters,
    Test,
)
from otf_session.events import CheckpointSaved, CommandChanged, LogLine, RunStarted
from otf_session.resume import How

from ..going_on import go_on
from ..record import of, series, states, summary
from .scenarios import LIGHTNING_WARNS, ROOT, STEPS, STEPS_PER_EPOCH, L, Steered, bare
from .test_exactness import assert_same

pytestmark = pytest.mark.filterwarnings(*LIGHTNING_WARNS)


def outcomes():
    return [event.outcome for event in of(CommandChanged) if event.outcome is not None]


def test_loaded_as_a_new_run_the_old_one_stays_as_it_is():
    steered = Steered("plain").at(5, SaveCheckpoint(name="one"))
    load = LoadCheckpoint(checkpoint="one", as_new_run=True, run="other")
    assert_same(steered.at(STEPS_PER_EPOCH + 5, load).run(), bare("plain"))
    assert [(run.name, run.parents, run.step) for run in summary().runs] == [
        ("baseline", [], STEPS_PER_EPOCH + 5),
        ("other", ["baseline"], STEPS),
    ]


def test_a_pause_that_releases_changes_nothing():
    steered = Steered("plain").at(5, Pause(release=True), Resume())
    assert_same(steered.run(), bare("plain"))
    paused, _ = outcomes()
    assert "in host memory already" in paused.message


def test_a_test_is_broken_off():
    steered, batches = Steered("plain").at(5, Test()), []

    def cancel(*_):
        if "ONTHEFLY_TEST_LABEL" in os.environ:
            batches.append(1)
            steered.give(Cancel())

    steered.module.net.register_forward_pre_hook(cancel)
    assert_same(steered.run(), bare("plain"))
    assert len(batches) == 1
    assert [type(outcome).__name__ for outcome in outcomes()] == ["Applied", "Refused"]
    assert series("test_loss") == []


def test_a_module_that_reads_a_tunable_sees_what_was_set():
    steered, seen = Steered("plain", max_epochs=1), []

    class Reads(L.Callback):
        def on_train_batch_start(self, *_):
            seen.append(steered.handle.callback.tunable("smoothing", 0.1, 0.0, 1.0))

    steered.trainer.callbacks.append(Reads())
    steered.at(3, SetHyperparameters(values={"smoothing": 0.4})).run()
    assert seen == [0.1] * 3 + [0.4] * (STEPS_PER_EPOCH - 3)


def test_lines_that_the_script_logs_are_recorded():
    log = logging.getLogger("script")
    Steered("plain", max_epochs=1).at(3, lambda _: log.warning("it is %s", "warm")).run()
    (line,) = [line for line in of(LogLine) if line.logger == "script"]
    assert line.text == "it is warm"


def test_a_replay_comes_to_the_same_weights(monkeypatch):
    steered = Steered("plain").at(5, SetHyperparameters(values={"lr": 0.002}))
    wanted = steered.at(17, SetHyperparameters(values={"weight_decay": 0.3})).run()
    assert not torch.equal(wanted["net.0.weight"], bare("plain")["net.0.weight"])
    go_on(monkeypatch, "latest:baseline@final", How.REPLAY)
    assert_same(Steered("plain").run(), wanted)
    assert [line for line in of(LogLine) if "bit for bit" in line.text]


def test_weights_alone_begin_a_new_run(monkeypatch):
    wanted = Steered("plain").run()
    go_on(monkeypatch, how=How.WEIGHTS_ONLY)
    began = []
    steered = Steered("plain", max_epochs=1)
    weight = steered.module.net[0].weight

    def note(module, _):
        # Lightning looks whether a validation works before it trains.
        if module.training:
            began.append(weight.detach().clone())

    steered.module.net.register_forward_pre_hook(note)
    steered.run()
    assert torch.equal(began[0], wanted["net.0.weight"])
    assert [(event.run, event.step) for event in of(RunStarted)] == [
        ("baseline", 0),
        ("baseline-2", 0),
    ]


_SIGNALLED = """
import os, signal
from tests.otf_hooks.lightning.scenarios import Steered
steered = Steered("plain")
steered.at(17, lambda _: os.kill(os.getpid(), signal.{name}))
steered.run()
print("trained to the end")
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_training_after_its_step_and_nothing_is_lost(name, monkeypatch):
    code = _SIGNALLED.format(name=name)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    # The exit code is Lightning's, which has a handler of its own for SIGTERM.
    assert "trained to the end" not in done.stdout
    assert states()[-1] == "stopped"
    assert [s.step for s in of(CheckpointSaved) if s.label == "interrupted"] == [17]
    go_on(monkeypatch)
    assert_same(Steered("plain").run(), bare("plain"))
