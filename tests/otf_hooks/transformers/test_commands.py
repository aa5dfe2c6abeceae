"""Commands to a Trainer, and its ends, beside those that the other files here have."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest
import torch

pytest.importorskip("transformers")

from otf_hooks.errors import ArgumentError
from otf_session.commands import (
    LoadCheckpoint,
    Pause,
    Resume,
    SaveCheckpoint,
    SetHyperparameters,
)
from otf_session.events import CheckpointSaved, CommandChanged, LogLine
from transformers import TrainerCallback

from ..going_on import go_on
from ..record import of, states, summary
from ..scenarios import ROOT
from .trainers import SCENARIOS, STEPS, STEPS_PER_EPOCH, Steered, bare


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in other)


def test_loaded_as_a_new_run_the_old_one_stays_as_it_is():
    wanted = bare("dropout")
    steered = Steered(SCENARIOS["dropout"]).at(5, SaveCheckpoint(name="one"))
    load = LoadCheckpoint(checkpoint="one", as_new_run=True, run="other")
    assert same(steered.at(STEPS_PER_EPOCH + 5, load).run(), wanted)
    assert [(run.name, run.parents, run.step) for run in summary().runs] == [
        ("baseline", [], STEPS_PER_EPOCH + 5),
        ("other", ["baseline"], STEPS),
    ]


def test_a_pause_that_releases_changes_nothing():
    wanted = bare("dropout")
    steered = Steered(SCENARIOS["dropout"]).at(5, Pause(release=True), Resume())
    assert same(steered.run(), wanted)
    paused, _ = [event.outcome for event in of(CommandChanged) if event.outcome is not None]
    assert "in host memory already" in paused.message


def test_a_callback_that_reads_a_tunable_sees_what_was_set():
    steered, seen = Steered(SCENARIOS["dropout"]), []

    class Reads(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            seen.append(steered.callback.tunable("smoothing", 0.1, 0.0, 1.0))

    steered.trainer.add_callback(Reads())
    steered.callback.attach(steered.trainer)
    steered.at(3, SetHyperparameters(values={"smoothing": 0.4})).run()
    assert seen == [0.1] * 3 + [0.4] * (STEPS - 3)


def test_lines_that_the_script_logs_are_recorded():
    log = logging.getLogger("script")
    steered = Steered(SCENARIOS["dropout"])
    steered.at(3, lambda _: log.warning("it is %s", "warm")).run()
    (line,) = [line for line in of(LogLine) if line.logger == "script"]
    assert line.text == "it is warm"


_SIGNALLED = """
import os, signal
from tests.otf_hooks.transformers.trainers import SCENARIOS, Steered
steered = Steered(SCENARIOS["dropout"])
steered.at(13, lambda _: os.kill(os.getpid(), signal.{name}))
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
    assert done.returncode != 0, done.stderr
    assert "trained to the end" not in done.stdout
    assert states()[-1] == "stopped"
    assert [s.step for s in of(CheckpointSaved) if s.label == "interrupted"] == [13]
    go_on(monkeypatch)
    assert same(Steered(SCENARIOS["dropout"]).run(), bare("dropout"))


def test_several_processes_are_refused_before_anything_is_recorded(home, monkeypatch):
    steered = Steered(SCENARIOS["dropout"])
    monkeypatch.setattr(type(steered.trainer.args), "world_size", property(lambda args: 2))
    with pytest.raises(ArgumentError, match="trains in one process, and there are 2"):
        steered.run()
    assert not home.session_folders()
