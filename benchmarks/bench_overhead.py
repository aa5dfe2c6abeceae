"""Training attached to a live server and one dashboard, beside the bare loop.

"attached" is the trainer's own training step; "own step" is the bare loop's body, word for word, as
`@trainer.training_step`; "watched loop" is the bare loop itself inside of `watch`.

Claim for "attached": at most 1.01 times the bare loop's time at 5 ms steps, at most 1.05 times at 0.3 ms steps.
"""

import contextlib
import io
import time

import torch
from common import dashboard, interleaved, own_home, ratio, server, spread
from otf_hooks import Trainer, watch
from torch import nn

ROUNDS = 15


def build(width: int, batch: int):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    model.append(nn.Linear(width, 10))
    inputs, targets = torch.randn(batch, 64), torch.randint(0, 10, (batch,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return model, optimizer, nn.CrossEntropyLoss(), [(inputs, targets)] * 100_000


def bare(width: int, batch: int, steps: int) -> float:
    model, optimizer, loss_fn, loader = build(width, batch)
    began = time.perf_counter()
    for step, (inputs, targets) in enumerate(loader, 1):
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.step()
        if step == steps:
            break
    return (time.perf_counter() - began) / steps


def attached(width: int, batch: int, steps: int, port: int, *, own_step: bool) -> float:
    """Seconds per step from the first step's start to the last one's end, as in the bare loop."""
    model, optimizer, loss_fn, loader = build(width, batch)
    trainer = Trainer(project="bench", run_name="r", max_steps=steps + 1, dashboard_port=port)
    if own_step:

        @trainer.training_step
        def step(batch, state):
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
            return {"loss": loss}

    timed = Timed(loader, steps)
    with contextlib.redirect_stderr(io.StringIO()):
        trainer.fit(model=model, optimizer=optimizer, loss_fn=loss_fn, train_loader=timed)
    return timed.seconds / steps


def watched(width: int, batch: int, steps: int, port: int) -> float:
    """Seconds per step of the bare loop, watched."""
    model, optimizer, loss_fn, loader = build(width, batch)
    timed = Timed(loader, steps)
    with (
        contextlib.redirect_stderr(io.StringIO()),
        watch(model, optimizer, project="bench", run_name="r", dashboard_port=port) as run,
    ):
        for inputs, targets in run.batches(timed):
            optimizer.zero_grad()
            loss = loss_fn(model(inputs), targets)
            loss.backward()
            optimizer.step()
            run.step(loss=loss)
    return timed.seconds / steps


class Timed:
    """A loader that waits until the trainer is linked, then takes the time of the steps."""

    def __init__(self, batches, steps):
        self._batches = batches
        self._steps = steps
        self.seconds = 0.0

    def __iter__(self):
        time.sleep(0.3)
        batches = self._batches[: self._steps]
        began = time.perf_counter()
        yield from batches
        # Reached when the trainer, after the last step that counts, asks for one more.
        self.seconds = time.perf_counter() - began
        yield self._batches[0]


def measure(label: str, width: int, batch: int, steps: int, port: int, claim: float) -> None:
    found = interleaved(
        ROUNDS,
        {
            "bare": lambda: bare(width, batch, steps) * 1e3,
            "attached": lambda: attached(width, batch, steps, port, own_step=False) * 1e3,
            "own step": lambda: attached(width, batch, steps, port, own_step=True) * 1e3,
            "watched loop": lambda: watched(width, batch, steps, port) * 1e3,
        },
    )
    print(f"{label}, ms per step:")
    for name, figures in found.items():
        print(f"  {name:<13}{spread(figures)}")
    print(f"ratio attached / bare: {ratio(found['attached'], found['bare']):.4f} (claim: {claim})")
    print(f"ratio own step / bare: {ratio(found['own step'], found['bare']):.4f}")
    print(f"ratio watched loop / bare: {ratio(found['watched loop'], found['bare']):.4f}")


def main() -> None:
    # One core for the training, one for the server and the dashboard, as on a machine where the
    # training does not take all.
    torch.set_num_threads(1)
    with own_home(), server() as serving, dashboard(serving):
        measure("0.3 ms steps", 128, 56, 4000, serving.port, 1.05)
        measure("5 ms steps", 512, 320, 250, serving.port, 1.01)


if __name__ == "__main__":
    main()
