"""The examples, started as users start them."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

from otf_session.home import Home
from otf_session.resume import find_order, parse_target, recorded_command

from ..helpers.waiting import wait_for
from ..otf_hooks.record import latest_folder, series, states

ROOT = Path(__file__).parents[2]
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def test_a_loop_of_ones_own():
    script = ROOT / "examples" / "ddp_own_loop.py"
    done = subprocess.run(
        [*LAUNCH, str(script), "--epochs", "1"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("val_accuracy") == 1
    # Half of the training samples each, in batches of 32.
    assert len(series("loss")) == 23


@contextlib.contextmanager
def started(*words):
    """torchrun, which is ended with its ranks whatever happens."""
    process = subprocess.Popen(
        [*LAUNCH, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def steps():
    return [step for step, _ in series("loss")] if Home.find().session_folders() else []


def test_ended_by_a_signal_and_resumed(monkeypatch):
    script = str(ROOT / "examples" / "ddp_native.py")
    with started(script, "--epochs", "100000"):
        wait_for(steps, "the first steps", 120)
    assert states() == ["running", "stopped"]
    ended_at = steps()[-1]
    assert recorded_command(latest_folder())[:5] == LAUNCH[1:]
    order = find_order(Home.find(), parse_target("latest"))
    assert order.step == ended_at
    monkeypatch.setenv(*next(iter(order.environment().items())))
    with started(script, "--epochs", "100000"):
        wait_for(lambda: steps()[-1] > ended_at, "further steps", 120)
    assert states() == ["running", "stopped", "running", "stopped"]
    # Gone on from where it was ended, and not from the beginning.
    assert steps() == list(range(1, len(steps()) + 1))
