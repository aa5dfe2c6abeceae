"""Whatever ends the script, what was recorded is there, and the script's own end stays its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from otf_session.errors import SessionNotFound

from .record import events, latest_folder, series, states, summary

SCRIPT = """
import os, signal, sys, threading, time
import torch
from otf_hooks import Trainer
from otf_session.commands import CommandRequest, Stop

def stop():
    trainer._engine.desk.receive(CommandRequest(id="1", author="test", command=Stop()))

model = torch.nn.Linear(4, 2)
trainer = Trainer(project="p", run_name="r", max_epochs=100_000, auto_connect=False)

@trainer.training_step
def step(batch, state):
    number = state["step"] + 1
    if number == 200:
        print("now", flush=True)
        {at_200}
    time.sleep(0.001)
    return {{"loss": float(number)}}

trainer.fit(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            train_loader=[torch.zeros(2, 4)] * 50)
print("after fit", flush=True)
"""


def run(at_200):
    """Start the script, and wait until it has come to step 200."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(at_200=at_200)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    running.append(process)
    assert process.stdout.readline() == "now\n"
    return process


running = []


@pytest.fixture(autouse=True)
def _end_what_was_started():
    yield
    while running:
        process = running.pop()
        process.kill()
        process.communicate()


def recorded():
    return [step for step, _ in series("loss")]


def test_an_exception_keeps_its_traceback_and_exit_code():
    process = run("raise ZeroDivisionError('mine')")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err.rstrip().endswith("ZeroDivisionError: mine")
    assert recorded() == list(range(1, 200))
    assert summary().state.value == "failed"
    assert summary().runs[0].reason == "ZeroDivisionError: mine"


def test_sys_exit_keeps_its_code():
    process = run("sys.exit(7)")
    process.communicate(timeout=30)
    assert process.returncode == 7
    assert recorded() == list(range(1, 200))
    assert "exited with code 7" in summary().runs[0].reason


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_ctrl_c_is_the_scripts_own():
    process = run("time.sleep(0.5)")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")
    # The step that was under way is ended first.
    assert recorded() == list(range(1, 201))
    assert summary().state.value == "stopped"
    assert "Ctrl-C" in summary().runs[0].reason


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_sigterm_ends_the_process_as_ever_and_loses_nothing():
    process = run("time.sleep(30)")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGTERM
    assert recorded() == list(range(1, 200))
    assert states() == ["running", "stopped"]


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_a_terminal_that_closes_ends_the_process_as_ever_and_loses_nothing():
    process = run("time.sleep(0.5)")
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGHUP
    assert recorded() == list(range(1, 201))
    assert states() == ["running", "stopped"]


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_a_script_that_ignores_the_closing_terminal_goes_on():
    # As `nohup` starts it; the handlers are there already, and this one is not among them.
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = run("time.sleep(0.5); stop()")
    finally:
        signal.signal(signal.SIGHUP, before)
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "after fit\n")


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_a_handler_of_the_script_stays_in_force():
    process = run("signal.signal(signal.SIGTERM, lambda *_: sys.exit(3)); time.sleep(30)")
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 3
    assert recorded() == list(range(1, 200))


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_kill_9_costs_at_most_the_last_interval_and_reads_as_lost():
    process = run("time.sleep(30)")
    time.sleep(0.5)
    assert summary().state.value == "running"
    process.kill()
    process.communicate(timeout=10)
    assert recorded() == list(range(1, 200))
    assert summary().state.value == "lost"
    assert [type(event).__name__ for event in events()][:2] == ["ProcessStarted", "RunStarted"]


def test_after_an_ordinary_end_the_script_goes_on():
    process = run("stop()")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out == "after fit\n"
    assert "Traceback" not in err
    assert summary().state.value == "stopped"


def test_a_trainer_that_is_never_fitted_leaves_nothing():
    code = "from otf_hooks import Trainer; Trainer(project='p', run_name='r', max_epochs=1)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with pytest.raises(SessionNotFound):
        latest_folder()
