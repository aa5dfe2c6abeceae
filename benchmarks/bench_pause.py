"""How soon a running training answers a pause, at steps of about 5 and 50 ms.

A process of its own pauses and resumes it over the server's HTTP API; the training process takes the
time of the command's arrival at its desk, of the end of the step that was under way then, and of the
answer. Beside it, in the same run: the whole way as the one who asks sees it, and a bare request.

Claim: from arrival to answer at most the rest of the step plus 20 ms.
"""

import argparse
import contextlib
import http.client
import io
import json
import multiprocessing
import random
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Dict, List, NamedTuple
from unittest import mock

import torch
from common import dashboard, own_home, server
from otf_hooks import Trainer
from otf_hooks.desk import CommandDesk
from torch import nn

CLAIM_MS = 20.0
#: Seconds after which the driving process gives up waiting for a training to begin.
PATIENCE = 60.0


class Asked(NamedTuple):
    """A command as the one who asked saw it."""

    id: str
    kind: str
    ms: float


class Client:
    """Speaks to the server as any script would, over one connection."""

    def __init__(self, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._headers = {"Authorization": f"Bearer {token}"}

    def request(self, method: str, path: str, body: str = ""):
        self._connection.request(method, path, body or None, self._headers)
        answer = self._connection.getresponse()
        text = answer.read()
        assert answer.status == http.client.OK, (path, answer.status, text)
        return json.loads(text)

    def ask(self, session: str, kind: str) -> Asked:
        began = time.perf_counter()
        path = f"/api/sessions/{session}/commands?author=bench"
        answer = self.request("POST", path, json.dumps({"kind": kind}))
        ms = (time.perf_counter() - began) * 1e3
        assert answer["outcome"]["kind"] == "applied", answer
        return Asked(answer["id"], kind, ms)


def drive(port: int, token: str, pauses: int, step_ms: float):
    """Pause and resume the one training that is connected, at any point of a step; then stop it."""
    client = Client(port, token)
    session = wait_for_training(client)
    asked: List[Asked] = []
    bare: List[float] = []
    for _ in range(pauses):
        time.sleep(random.uniform(0.02, 0.02 + 2e-3 * step_ms))
        asked.append(client.ask(session, "pause"))
        time.sleep(0.01)
        asked.append(client.ask(session, "resume"))
        began = time.perf_counter()
        client.request("GET", "/healthz")
        bare.append((time.perf_counter() - began) * 1e3)
    client.ask(session, "stop")
    return asked, bare


def wait_for_training(client: Client) -> str:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for session in client.request("GET", "/api/trainers"):
            runs = client.request("GET", f"/api/sessions/{session}")["runs"]
            if any(run["step"] > 0 and run["state"] == "running" for run in runs):
                return session
        time.sleep(0.05)
    raise AssertionError("no training began")


class Watch:
    """Takes the times in the training process: of steps, of arrivals and of answers."""

    def __init__(self) -> None:
        self.begun = 0
        #: The end of each step, the first one's first.
        self.ends: List[float] = []
        #: When a command arrived, and which step was under way then: 0 where none was.
        self.arrived: Dict[str, tuple] = {}
        self.answered: Dict[str, float] = {}

    @contextlib.contextmanager
    def at_the_desk(self):
        receive, answer = CommandDesk.receive, CommandDesk.answer

        def timed_receive(desk, request):
            now = time.perf_counter()
            self.arrived[request.id] = (now, self.begun if self.begun > len(self.ends) else 0)
            receive(desk, request)

        def timed_answer(desk, request, outcome):
            answer(desk, request, outcome)
            self.answered[request.id] = time.perf_counter()

        with mock.patch.multiple(CommandDesk, receive=timed_receive, answer=timed_answer):
            yield

    def rest_and_excess(self, command: str) -> tuple:
        """Milliseconds from arrival to the end of the step under way, and from there to the answer.

        A step that begins after the arrival is no excuse: it counts as excess.
        """
        arrived, step = self.arrived[command]
        due = self.ends[step - 1] if step else arrived
        return (due - arrived) * 1e3, (self.answered[command] - due) * 1e3


class Batches:
    """One batch, again and again; a step begins when its batch is asked for."""

    def __init__(self, watch: Watch, batch) -> None:
        self._watch = watch
        self._batch = batch

    def __iter__(self):
        while True:
            self._watch.begun += 1
            yield self._batch


def train(watch: Watch, width: int, batch: int, port: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    model.append(nn.Linear(width, 10))
    inputs, targets = torch.randn(batch, 64), torch.randint(0, 10, (batch,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss_fn = nn.CrossEntropyLoss()
    trainer = Trainer(project="bench", run_name="r", max_epochs=1, dashboard_port=port)

    @trainer.training_step
    def step(batch, state):
        optimizer.zero_grad()
        loss = loss_fn(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        watch.ends.append(time.perf_counter())
        return {"loss": loss}

    with contextlib.redirect_stderr(io.StringIO()), watch.at_the_desk():
        trainer.fit(
            model=model,
            optimizer=optimizer,
            loss_fn=loss_fn,
            train_loader=Batches(watch, (inputs, targets)),
        )


def line(label: str, figures: List[float]) -> str:
    figures = sorted(figures)
    middle, high = statistics.median(figures), figures[int(0.95 * len(figures))]
    return f"  {label:<40}{middle:9.2f}{high:9.2f}{figures[-1]:9.2f}"


def measure(serving, driver, pauses: int, step_ms: float, width: int, batch: int) -> None:
    watch = Watch()
    driving = driver.submit(drive, serving.port, serving.token, pauses, step_ms)
    train(watch, width, batch, serving.port)
    asked, bare = driving.result()

    paused = [one for one in asked if one.kind == "pause"]
    rests, excesses = zip(*(watch.rest_and_excess(one.id) for one in paused))
    outside = [one.ms - rest - excess for one, rest, excess in zip(paused, rests, excesses)]
    gaps = [later - earlier for earlier, later in zip(watch.ends, watch.ends[1:])]
    print(
        f"steps of {statistics.median(gaps) * 1e3:.1f} ms, {pauses} pauses"
        f"{'ms: median, 95 %, most':>44}"
    )
    print(line("rest of the step at arrival", rests))
    print(line("excess: answer minus end of that step", excesses))
    print(line("the whole way of a pause, over HTTP", [one.ms for one in paused]))
    print(line("of that outside the training process", outside))
    print(line("a bare GET /healthz", bare))
    print(line("the whole way of a resume", [one.ms for one in asked if one.kind == "resume"]))
    over = sum(excess > CLAIM_MS for excess in excesses)
    whole = sum(one.ms for one in paused) / sum(rests)
    print(f"excess over {CLAIM_MS:.0f} ms: {over} of {pauses} (claim: none)")
    print(f"ratio whole way / rest of the step, of their sums: {whole:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pauses", type=int, default=200)
    pauses = parser.parse_args().pauses
    random.seed(0)
    # One core for the training, one for the server, the dashboard and the one who pauses.
    torch.set_num_threads(1)
    spawn = multiprocessing.get_context("spawn")
    driving = ProcessPoolExecutor(1, mp_context=spawn)
    with own_home(), server() as serving, dashboard(serving), driving as driver:
        measure(serving, driver, pauses, 5.0, 512, 320)
        measure(serving, driver, pauses, 50.0, 1024, 800)


if __name__ == "__main__":
    main()
