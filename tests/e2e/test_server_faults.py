"""What may happen to the server and to dashboards while a run goes on; the run does not notice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from otf_session.events import Metrics
from otf_session.home import Home
from otf_session.queries import events_after, session_summary
from otf_session.store import SessionReader
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from .conftest import PATIENCE, wait_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")

SCRIPT = """
import sys, time
import torch
from onthefly import Trainer

trainer = Trainer(project="p", run_name="r", max_steps=10_000_000, dashboard_port=int(sys.argv[1]))
slowest = 0.0

@trainer.training_step
def step(batch, state):
    global slowest, began
    now = time.perf_counter()
    if state["step"] > 200:
        slowest = max(slowest, now - began)
    began = now
    time.sleep(0.002)
    trainer.print("step", state["step"] + 1, "slowest", f"{slowest:.3f}") if (
        state["step"] % 500 == 499) else None
    return {"loss": float(state["step"] + 1)}

model = torch.nn.Linear(2, 2)
trainer.fit(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            train_loader=[torch.zeros(2, 2)] * 1000)
"""


@pytest.fixture
def script(port):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True)
    reader.start()
    process.lines = lines
    yield process
    process.kill()
    process.wait()
    reader.join(10)
    process.stdout.close()


class Viewer(threading.Thread):
    """A dashboard that keeps every event it was sent, over any number of servers."""

    def __init__(self, port, session):
        super().__init__(daemon=True)
        self.steps, self.seqs, self.done = [], [], threading.Event()
        self._address = f"ws://127.0.0.1:{port}/ws/dashboard"
        self._session = session
        self._headers = {"Authorization": f"Bearer {Home.find().token_file.read_text().strip()}"}

    def run(self):
        while not self.done.is_set():
            with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                self._watch()
            time.sleep(0.05)

    def _watch(self):
        with connect(self._address, additional_headers=self._headers, max_size=None) as socket:
            after = self.seqs[-1] if self.seqs else 0
            frame = {"frame": "subscribe", "session": self._session, "after": after}
            socket.send(json.dumps(frame))
            while not self.done.is_set():
                self._take(json.loads(socket.recv(timeout=5)))

    def _take(self, frame):
        if frame["frame"] != "batch":
            return
        for number, event in enumerate(frame["events"], frame["first"]):
            self.seqs.append(number)
            if event["kind"] == "metrics" and "loss" in event["values"]:
                self.steps += event["steps"]


def session():
    return wait_until(lambda: Home.find().session_folders(), "a session")[-1]


def step_of(folder):
    with SessionReader(folder) as reader:
        runs = session_summary(reader).runs
    return runs[-1].step if runs else 0


def stored_steps(folder):
    with SessionReader(folder) as reader:
        events = events_after(reader.database, 0, 10_000_000)
    return [s for e in events if isinstance(e, Metrics) and "loss" in e.values for s in e.steps]


def memory(pid):
    """Resident memory in MiB."""
    with open(f"/proc/{pid}/status") as file:  # noqa: PTH123
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))


def slowest_step(script):
    """The longest time between two steps, as the script saw it, in seconds."""
    lines = [line for line in script.lines if "slowest" in line]
    return float(lines[-1].split()[-1])


def test_a_server_that_is_killed_twenty_times_costs_no_point(processes, port, script, home):
    server = processes.serve(port)
    folder = session()
    viewer = Viewer(port, folder.name)
    viewer.start()
    for _ in range(20):
        before = step_of(folder)
        server.kill()
        server.wait()
        wait_until(lambda before=before: step_of(folder) > before + 20, "training goes on")
        server = processes.serve(port)
    newest = step_of(folder)
    wait_until(lambda: viewer.steps and viewer.steps[-1] >= newest, "the dashboard catches up")
    viewer.done.set()
    viewer.join(PATIENCE)
    # Every event once and in order, at the dashboard and in the store.
    assert viewer.seqs == list(range(1, len(viewer.seqs) + 1))
    assert viewer.steps == list(range(1, len(viewer.steps) + 1))
    steps = stored_steps(folder)
    assert steps == list(range(1, len(steps) + 1))
    assert script.poll() is None


def test_a_dashboard_that_never_reads_and_a_link_that_stalls_hold_nobody_up(
    processes, port, script, home
):
    server = processes.serve(port)
    folder = session()
    address = f"ws://127.0.0.1:{port}/ws/dashboard"
    headers = {"Authorization": f"Bearer {home.token_file.read_text().strip()}"}
    viewer = Viewer(port, folder.name)
    with connect(address, additional_headers=headers, max_queue=1) as deaf:
        frame = {"frame": "subscribe", "session": folder.name, "after": 0}
        deaf.send(json.dumps(frame))
        viewer.start()
        wait_until(lambda: step_of(folder) > 600, "training under way")
        before, at = memory(script.pid), step_of(folder)
        # The link is there and nothing comes through it, for longer than any time-out of the web.
        server.send_signal(signal.SIGSTOP)
        time.sleep(30)
        during = step_of(folder)
        grown = memory(script.pid) - before
        server.send_signal(signal.SIGCONT)
        newest = step_of(folder)
        wait_until(lambda: viewer.steps and viewer.steps[-1] >= newest, "the one that reads")
    viewer.done.set()
    viewer.join(PATIENCE)
    assert during > at + 2000
    assert viewer.seqs == list(range(1, len(viewer.seqs) + 1))
    # Not a timed assertion but a bound: no step waited for the server's thirty seconds.
    assert slowest_step(script) < 10
    assert grown < 30
