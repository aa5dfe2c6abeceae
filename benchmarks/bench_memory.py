"""Whether the memory of trainer and server stays flat over 200,000 steps.

A tiny model is trained in epochs of 1,000 steps, attached to a live server and one dashboard, with
a checkpoint every 10,000 steps. What both processes hold (their resident set) is read every 5,000
steps; the first quarter counts as warm-up.

Claim: flat after warm-up, that is less than 1 MiB more per 100,000 steps.
"""

import argparse
import contextlib
import io
import json
import os
import time
import urllib.request
from pathlib import Path
from typing import List, NamedTuple

import torch
from common import Serving, dashboard, own_home, server
from otf_hooks import Trainer
from torch import nn

CLAIM_MIB = 1.0
EPOCH = 1000
SAVE_EVERY = 10_000


class Reading(NamedTuple):
    """What both processes hold after so many steps, in MiB."""

    step: int
    seconds: float
    trainer: float
    server: float


def resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("a process holds memory")


def pid_of(serving: Serving) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{serving.port}/healthz",
        headers={"Authorization": f"Bearer {serving.token}"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["pid"]


class Batches:
    """An epoch of the same batch; reads both processes' memory between two steps."""

    def __init__(self, batch, server: int, every: int, until: float) -> None:
        self._batch = batch
        self._server = server
        self._every = every
        self._until = until
        self._began = time.monotonic()
        self._step = 0
        self.readings: List[Reading] = []

    def __len__(self) -> int:
        return EPOCH

    def __iter__(self):
        for _ in range(EPOCH):
            if self._step % self._every == 0:
                self.read()
            self._step += 1
            yield self._batch

    def read(self) -> None:
        seconds = time.monotonic() - self._began
        if seconds > self._until:
            raise TimeoutError
        self.readings.append(
            Reading(self._step, seconds, resident(os.getpid()), resident(self._server))
        )


def train(batches: Batches, steps: int, port: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    trainer = Trainer(
        project="bench",
        run_name="r",
        # One more, whose batch is asked for when the last reading is due.
        max_steps=steps + 1,
        dashboard_port=port,
        ckpt_every_steps=SAVE_EVERY,
        linger=False,
    )
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(TimeoutError):
        trainer.fit(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
            loss_fn=nn.CrossEntropyLoss(),
            train_loader=batches,
        )


def slope(steps: List[int], figures: List[float]) -> float:
    """The least-squares growth per 100,000 steps."""
    x = sum(steps) / len(steps)
    y = sum(figures) / len(figures)
    spread = sum((step - x) ** 2 for step in steps)
    return 1e5 * sum((s - x) * (f - y) for s, f in zip(steps, figures)) / spread


def verdict(name: str, warm: List[Reading]) -> str:
    figures = [getattr(reading, name) for reading in warm]
    per = slope([reading.step for reading in warm], figures)
    flat = "flat" if per < CLAIM_MIB else "NOT flat"
    return (
        f"{name:<8} grew by {figures[-1] - figures[0]:+.1f} MiB from step {warm[0].step:,} to "
        f"{warm[-1].step:,}, {per:+.2f} MiB per 100,000 steps: {flat} (claim: under {CLAIM_MIB:.0f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--every", type=int, default=5000, help="steps between two readings")
    parser.add_argument("--minutes", type=float, default=10.0, help="end early after so long")
    options = parser.parse_args()
    torch.set_num_threads(1)
    batch = (torch.randn(4, 8), torch.randint(0, 2, (4,)))
    with own_home(), server() as serving, dashboard(serving):
        batches = Batches(batch, pid_of(serving), options.every, 60.0 * options.minutes)
        train(batches, options.steps, serving.port)
    readings = batches.readings
    print(f"{'step':>9}{'s':>8}{'trainer':>10}{'server':>10}   MiB")
    for reading in readings:
        step, seconds, trainer, serving_mib = reading
        print(f"{step:>9,}{seconds:>8.1f}{trainer:>10.1f}{serving_mib:>10.1f}")
    if readings[-1].step + options.every <= options.steps:
        print(f"ended early, after {options.minutes:g} minutes")
    warm = [reading for reading in readings if reading.step >= readings[-1].step / 4]
    for name in ("trainer", "server"):
        print(verdict(name, warm))


if __name__ == "__main__":
    main()
