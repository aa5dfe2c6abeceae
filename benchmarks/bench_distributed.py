"""Two processes (DistributedDataParallel, gloo): attached and recorded, beside the bare loop.

Both loops train in turn in the same two processes, one thread each. "averaged" records the means over
both processes. "a round" is one agreement by itself: it is due once in 0.1 s of steps.

Claim for "attached": at most 1.01 times the bare loop's time at 5 ms steps.
"""

import contextlib
import io
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing
from common import interleaved, own_home, ratio, spread
from otf_hooks import Trainer
from otf_hooks.distributed.group import Group
from torch import nn
from torch.nn.parallel import DistributedDataParallel

ROUNDS, STEPS, CLAIM = 15, 250, 1.01
WIDTH, BATCH = 512, 320


class Timed:
    """A loader that takes the time of the steps, and the processor's, after a few that warm up."""

    def __init__(self, batch):
        self._batch = batch
        self.figures = (0.0, 0.0)

    def __iter__(self):
        for _ in range(20):
            yield self._batch
        began, worked = time.perf_counter(), time.process_time()
        for _ in range(STEPS):
            yield self._batch
        # Reached when the loop, after the last step that counts, asks for one more.
        seconds, work = time.perf_counter() - began, time.process_time() - worked
        self.figures = seconds / STEPS * 1e3, work / STEPS * 1e3
        yield self._batch


def build():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
    net.append(nn.Linear(WIDTH, 10))
    model = DistributedDataParallel(net)
    batch = (torch.randn(BATCH, 64), torch.randint(0, 10, (BATCH,)))
    return model, torch.optim.SGD(model.parameters(), lr=0.01), nn.CrossEntropyLoss(), Timed(batch)


def bare():
    model, optimizer, loss_fn, loader = build()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss_fn(model(inputs), targets).backward()
        optimizer.step()
    return loader.figures


def attached(**options):
    model, optimizer, loss_fn, loader = build()
    trainer = Trainer(project="bench", run_name="r", max_epochs=1, auto_connect=False, **options)
    with contextlib.redirect_stderr(io.StringIO()):
        trainer.fit(model, optimizer, loss_fn, loader)
    return loader.figures


def agreement():
    """Milliseconds of one round, without what the loop does around it."""
    group = Group.of_world()
    began = time.perf_counter()
    for _ in range(200):
        group.highest([0, 20, 1, 1, -1, 7, -7])
    return (time.perf_counter() - began) / 200 * 1e3, 0.0


def measure(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    found = interleaved(
        int(os.environ.get("ROUNDS", ROUNDS)),
        {
            "bare": bare,
            "attached": attached,
            "averaged": lambda: attached(reduce_metrics=True),
            "a round": agreement,
        },
    )
    if rank == 0:
        Path(folder, "found").write_text(json.dumps(found))
    dist.destroy_process_group()


def main() -> None:
    with own_home(), tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(measure, (folder,), nprocs=2)
        found = json.loads(Path(folder, "found").read_text())
    seconds = {name: [each[0] for each in figures] for name, figures in found.items()}
    work = {name: [each[1] for each in figures] for name, figures in found.items()}
    print("ms per step, of two processes, and those of rank 0's processor, all threads together:")
    for name, figures in seconds.items():
        print(f"  {name:<10}{spread(figures)}; {spread(work[name])}")
    for name in ("attached", "averaged"):
        of_time, of_work = (ratio(each[name], each["bare"]) for each in (seconds, work))
        print(f"ratio {name} / bare: {of_time:.4f} (claim: {CLAIM}); of the work {of_work:.4f}")
    share = statistics.median(seconds["a round"]) / 100
    print(f"a round in each 0.1 s: {share:.2%} of the time")


if __name__ == "__main__":
    main()
