"""However a script ends, its state is saved where it is whole, and can be resumed from."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import weakref

import pytest
import torch
from otf_hooks import Trainer
from otf_session.commands import CommandRequest, LoadCheckpoint
from otf_session.events import CheckpointFailed, CheckpointSaved, LogLine, Rewound

from .record import of, series, summary
from .scenarios import ROOT, STEPS, bare, make

SCRIPT = """
import os, signal, sys, time
import torch
from tests.otf_hooks.scenarios import Steered

def fault(engine):
    {fault}

class Spoilt(torch.nn.CrossEntropyLoss):
    calls = 0
    def forward(self, output, target):
        if torch.is_grad_enabled():
            Spoilt.calls += 1
            if Spoilt.calls == {call}:
                {in_step}
        return super().forward(output, target)

steered = Steered("dropout")
steered.parts["loss_fn"] = Spoilt()
steered.at({at}, fault)
torch.save(steered.run(), sys.argv[1])
"""


def run(tmp_path, *, fault="pass", in_step="pass", call=0, at=8, resume=None):
    """Train; `fault` happens before step `at` ends, `in_step` in the forward pass `call`."""
    code = SCRIPT.format(fault=fault, in_step=in_step, call=call, at=at)
    command = [sys.executable, "-c", code, str(tmp_path / "out.pt")]
    if resume is not None:
        command = [sys.executable, "-m", "otf_session.resume_cli", resume, "--", *command]
    return subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def interrupted():
    return [event for event in of(CheckpointSaved) if event.label == "interrupted"]


def assert_goes_on_to_the_same_end(tmp_path):
    done = run(tmp_path, at=1000, resume="latest")
    assert done.returncode == 0, done.stderr
    found, wanted = torch.load(tmp_path / "out.pt", weights_only=True), bare(make("dropout"))
    for name in wanted:
        assert torch.equal(found[name], wanted[name]), name
    assert summary().runs[0].step == STEPS


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_training_after_its_step_and_nothing_is_lost(tmp_path, number):
    done = run(tmp_path, fault=f"os.kill(os.getpid(), {int(number)})")
    assert done.returncode == -number, done.stderr
    assert [step for step, _ in series("loss")] == list(range(1, 9))
    assert [event.step for event in interrupted()] == [8]
    assert summary().state.value == "stopped"
    assert_goes_on_to_the_same_end(tmp_path)


def test_out_of_memory_in_a_step_keeps_the_state_before_it(tmp_path):
    # torch has the name at its top level since 2.5; before, it was CUDA's.
    error = "getattr(torch, 'OutOfMemoryError', torch.cuda.OutOfMemoryError)"
    done = run(tmp_path, in_step=f"raise {error}('no memory left')", call=9)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("OutOfMemoryError: no memory left")
    assert [event.step for event in interrupted()] == [8]
    assert summary().state.value == "failed"
    done = run(tmp_path, at=1000, resume="latest")
    assert done.returncode == 0, done.stderr
    # The step that failed had drawn its dropout: that is said, not hidden.
    (back,) = of(Rewound)
    assert not back.exact
    assert "in the midst of a step that failed" in back.findings[0]
    assert "Going on is not exact" in done.stderr


def test_an_exit_between_steps_is_exact(tmp_path):
    done = run(tmp_path, in_step="sys.exit(7)", call=9)
    assert done.returncode == 7
    assert [event.step for event in interrupted()] == [8]
    assert "exited with code 7" in summary().runs[0].reason


def test_a_step_that_failed_in_the_optimizer_saves_no_half_state(tmp_path):
    code = (
        "engine.front.optimizer.register_step_pre_hook("
        "lambda *_: (_ for _ in ()).throw(RuntimeError('half way')))"
    )
    done = run(tmp_path, fault=code, at=8)
    assert done.returncode == 1
    assert "half way" in done.stderr
    assert interrupted() == []


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX's")
def test_a_disk_that_takes_no_more_costs_an_error_event_and_training_goes_on(tmp_path, capfd):
    import resource

    model = torch.nn.Linear(400, 400)  # 640 kB: more than the limit; the record is less
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))
    try:
        result = Trainer(
            project="p", run_name="r", max_steps=5, auto_connect=False, ckpt_every_steps=2
        ).fit(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            loss_fn=torch.nn.MSELoss(),
            train_loader=[(torch.zeros(2, 400), torch.zeros(2, 400))] * 5,
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (result.state, result.step, result.checkpoint) == ("finished", 5, None)
    failed = of(CheckpointFailed)
    assert {"initial", "final"} <= {event.label for event in failed}
    assert all("could not be written" in event.reason for event in failed)
    assert of(CheckpointSaved) == []
    assert list((result.folder / "checkpoints").iterdir()) == []
    assert capfd.readouterr().err.count("could not be written") == 1
    assert any("could not be written" in line.text for line in of(LogLine))


def test_a_damaged_checkpoint_is_refused_and_the_run_goes_on(parts):
    given = parts()
    trainer = Trainer(project="p", run_name="r", max_epochs=1, auto_connect=False)

    @trainer.training_step
    def step(batch, state):
        engine = trainer._engine
        if state["step"] == 3:
            engine.keeper.flush()
            path = engine.keeper.path(engine.keeper.find("initial", "r"))
            path.write_bytes(path.read_bytes()[:-100] + b"\0" * 100)
            command = LoadCheckpoint(checkpoint="initial")
            engine.desk.receive(CommandRequest(id="1", author="test", command=command))
        return {"loss": 1.0}

    result = trainer.fit(**given)
    assert (result.state, result.step) == ("finished", 8)
    assert of(Rewound) == []


def test_fits_one_after_the_other_leave_no_thread_and_no_file_open(parts):
    trainer = Trainer(project="p", run_name="r", max_steps=3, ckpt_every_steps=1)
    trainer.fit(**parts())
    threads, files = threading.active_count(), open_files()
    for _ in range(5):
        trainer.fit(**parts())
    assert (threading.active_count(), open_files()) == (threads, files)
    assert len(summary().runs) == 6


def test_a_fit_that_fails_before_its_first_step_leaves_nothing_open(parts):
    def attempt():
        trainer = Trainer(project="p", run_name="r", max_steps=3)
        with pytest.raises(ZeroDivisionError):
            trainer.fit(**{**parts(), "loss_fn": lambda output, target: 1 / 0})

    attempt()
    threads, files = threading.active_count(), open_files()
    for _ in range(3):
        attempt()
    assert (threading.active_count(), open_files()) == (threads, files)


def test_a_fit_inside_a_function_leaves_nothing_of_it_behind(parts):
    def train():
        given = parts()
        Trainer(project="p", run_name="r", max_steps=3).fit(**given)
        return weakref.ref(given["model"]), weakref.ref(given["train_loader"])

    model, loader = train()
    gc.collect()
    assert model() is None
    assert loader() is None
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def open_files():
    folder = "/proc/self/fd"
    return len(os.listdir(folder)) if os.path.isdir(folder) else 0  # noqa: PTH112
