"""What the trainer costs on an NVIDIA GPU: `python benchmarks/gpu.py`, with otf-hooks installed.

Three parts, each printed as it is done:

1. Waits for the device, counted by torch's profiler: in the bare loop, attached, and attached with
   a sample of norms and activations at every step. A loop that reads its loss at every step shows
   that waits are counted. Those of the threads that train are what matters; the writer's thread
   reads values back on a stream of its own, and may wait.
2. The time per step, attached beside bare, in interleaved pairs, at steps of 1 and 10 ms.
3. What NVML showed in a run, beside `nvidia-smi` at the same time.

Claims: attached adds no wait to the training threads; at most 1.05 times the bare loop's time at 1 ms
steps and 1.01 at 10 ms. It exits with 1 where a wait was added, and where there is no GPU.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple
from unittest import mock

import torch
from otf_hooks import Trainer
from otf_hooks.meters.nvml import NvmlMeter
from otf_hooks.meters.sampling import SampleBudget
from torch import nn

#: Calls that return only when the device has come so far, as CUDA and torch name them. A copy to the
#: host that is not pinned is one too, and is found by its direction.
WAITS = (
    "cudaDeviceSynchronize",
    "cudaStreamSynchronize",
    "cudaEventSynchronize",
    "cudaMemcpy",
    "aten::_local_scalar_dense",
)
PROFILED, WARM_UP, ROUNDS = 50, 20, 11
#: Spans the profiled steps in the trace, on the thread that trains.
MARK = "the profiled steps"
#: Seconds for the checkpoint of the beginning, so that it is not written beside what is measured.
SETTLING = 1.0
WIDTH = 1024

Batch = Tuple[torch.Tensor, torch.Tensor]
#: Makes what the measured steps are run inside.
Around = Callable[[], Any]


class Work:
    """A network and a batch, on the GPU, so large that a step takes about so many milliseconds."""

    def __init__(self, milliseconds: float) -> None:
        self._batch = 256
        while bare(self, WARM_UP) * 1e3 < milliseconds and self._batch < 2**18:
            self._batch = int(self._batch * 1.25)
        print(f"  steps of {milliseconds:.0f} ms were aimed at: {self._batch} samples in a batch")

    def parts(self) -> Tuple[nn.Module, torch.optim.Optimizer, Any, Batch]:
        torch.manual_seed(0)
        hidden = [(nn.Linear(WIDTH, WIDTH), nn.ReLU()) for _ in range(6)]
        layers = itertools.chain.from_iterable(hidden)
        model = nn.Sequential(*layers, nn.Linear(WIDTH, 10)).cuda()
        inputs = torch.randn(self._batch, WIDTH, device="cuda")
        targets = torch.randint(0, 10, (self._batch,), device="cuda")
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        return model, optimizer, nn.CrossEntropyLoss(), (inputs, targets)


class Timed:
    """A loader that takes the time of its steps, to where the device has done them."""

    def __init__(self, batch: Batch, steps: int, around: Around, settling: float = 0.0) -> None:
        self._batch, self._steps, self._around = batch, steps, around
        self._settling = settling
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(WARM_UP):
            yield self._batch
        torch.cuda.synchronize()
        time.sleep(self._settling)
        with self._around():
            began = time.perf_counter()
            for _ in range(self._steps):
                yield self._batch
        torch.cuda.synchronize()
        self.seconds = time.perf_counter() - began


def bare(
    work: Work, steps: int, around: Around = contextlib.nullcontext, *, reads_loss: bool = False
) -> float:
    """Train without the product; seconds per step."""
    model, optimizer, loss_fn, batch = work.parts()
    loader = Timed(batch, steps, around)
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.step()
        if reads_loss:
            loss.item()
    return loader.seconds / steps


def attached(work: Work, steps: int, around: Around = contextlib.nullcontext) -> float:
    """Train with it, recorded and sampled as by default; seconds per step."""
    model, optimizer, loss_fn, batch = work.parts()
    loader = Timed(batch, steps, around, SETTLING)
    trainer = Trainer(project="gpu", run_name="r", max_epochs=1, auto_connect=False)
    with contextlib.redirect_stderr(io.StringIO()):
        trainer.fit(model=model, optimizer=optimizer, loss_fn=loss_fn, train_loader=loader)
    return loader.seconds / steps


def sampled(work: Work, steps: int, around: Around) -> float:
    """As `attached`, with a sample at every step."""
    with mock.patch.object(SampleBudget, "is_due", return_value=True):
        return attached(work, steps, around)


# 1. Waits


class Profiled:
    """Counts waits inside, by whether they hold up the training."""

    def __init__(self) -> None:
        self.waits: Dict[str, Counter[str]] = {}

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        kinds = torch.profiler.ProfilerActivity
        profile = torch.profiler.profile(activities=[kinds.CPU, kinds.CUDA])
        with profile, torch.profiler.record_function(MARK):
            yield
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            profile.export_chrome_trace(str(path))
            self.waits = waits_in(json.loads(path.read_text())["traceEvents"])


def waits_in(events: List[Dict[str, Any]]) -> Dict[str, Counter[str]]:
    """Waits by name, of the threads that train and of others, in the events of a Chrome trace.

    Operators are profiled on the thread that trains and on those of its backward passes, and on no
    other. What comes after the marked steps is the profiler's own.
    """
    training = {event["tid"] for event in events if event.get("cat") == "cpu_op"}
    (mark,) = [
        event
        for event in events
        if event.get("name") == MARK and event.get("cat") == "user_annotation"
    ]
    begin, end = mark["ts"], mark["ts"] + mark["dur"]
    # A copy's direction stands at the device's own record; the call that made it, at the host's.
    to_host = {
        event["args"].get("correlation")
        for event in events
        if event.get("cat") == "gpu_memcpy" and "DtoH" in event["name"]
    }
    found: Dict[str, Counter[str]] = {"training": Counter(), "other": Counter()}
    launches = 0
    for event in events:
        if event.get("ph") != "X" or not begin <= event["ts"] <= end:
            continue
        name = event["name"]
        is_call = event.get("cat") in ("cuda_runtime", "cuda_driver")
        is_training = event["tid"] in training
        launches += is_call and is_training and "Launch" in name
        if is_call and event.get("args", {}).get("correlation") in to_host:
            name = "copy to the host"
        elif name not in WAITS:
            continue
        found["training" if is_training else "other"][name] += 1
    if not launches:
        sys.exit("The trace has no kernel launch of a thread that trains: nothing can be counted.")
    return found


def count_waits() -> bool:
    """Print the waits in some steps; whether being attached adds any."""
    work = Work(1.0)
    variants: Dict[str, Callable[[Work, int, Around], float]] = {
        "bare, reads loss": functools.partial(bare, reads_loss=True),
        "bare": bare,
        "attached": attached,
        "sampled": sampled,
    }
    totals: Dict[str, int] = {}
    for name, train in variants.items():
        profiled = Profiled()
        train(work, PROFILED, profiled)
        totals[name] = sum(profiled.waits["training"].values())
        print(f"  {name}, in {PROFILED} steps:")
        for threads, waits in profiled.waits.items():
            kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(waits.items()))
            print(f"    {threads + ' threads':<18}{kinds or 'none'}")
    if totals["bare, reads loss"] < PROFILED:
        sys.exit("Not even the waits of a loop that reads its loss were counted.")
    adds = max(totals["attached"], totals["sampled"]) > totals["bare"]
    print(f"  being attached adds waits to the training: {'yes' if adds else 'no'} (claim: no)")
    return adds


# 2. Time


def compare_times(milliseconds: float, steps: int, claim: float) -> None:
    work = Work(milliseconds)
    figures: Dict[str, List[float]] = {"bare": [], "attached": []}
    for number in range(ROUNDS):
        order = [("bare", bare), ("attached", attached)]
        for name, train in order if number % 2 == 0 else order[::-1]:
            figures[name].append(train(work, steps) * 1e3)
    for name, found in figures.items():
        middle = statistics.median(found)
        print(f"  {name:<10}{middle:.4g} ms ({min(found):.4g} to {max(found):.4g})")
    pairs = [one / other for one, other in zip(figures["attached"], figures["bare"])]
    print(f"  ratio attached / bare: {statistics.median(pairs):.4f} (claim: {claim})")


# 3. NVML

SMI = {
    "util": "utilization.gpu",
    "memory": "memory.used",
    "temperature": "temperature.gpu",
    "power": "power.draw",
    "clock_sm": "clocks.sm",
    "clock_memory": "clocks.mem",
}
#: From our unit to that of nvidia-smi.
SCALES = {"memory": 1 / 2**20}


def compare_with_nvidia_smi(work: Work) -> None:
    busy = threading.Event()
    worker = threading.Thread(target=keep_busy, args=(work, busy), daemon=True)
    worker.start()
    time.sleep(2.0)
    meter = NvmlMeter(say=lambda line: print(f"  {line}"))
    meter.read()
    # torch says which one it is since 2.5; the first where it does not.
    identifier = str(getattr(torch.cuda.get_device_properties(0), "uuid", "GPU-"))
    command = [
        "nvidia-smi",
        f"--query-gpu=uuid,{','.join(SMI.values())}",
        "--format=csv,noheader,nounits",
    ]
    before = meter.read()
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    after = meter.read()
    busy.set()
    worker.join()
    row = next(line.split(", ") for line in output.splitlines() if identifier in line)
    print(f"  {'':<16}{'NVML before':>14}{'nvidia-smi':>14}{'NVML after':>14}")
    for name, figure in zip(SMI, row[1:]):
        series, scale = f"gpu0/{name}", SCALES.get(name, 1.0)
        ours = [
            f"{found[series] * scale:.1f}" if series in found else "-" for found in (before, after)
        ]
        print(f"  {name:<16}{ours[0]:>14}{figure:>14}{ours[1]:>14}")
    others = sorted(set(after) - {f"gpu0/{name}" for name in SMI})
    print("  beside these: " + ", ".join(f"{name} {after[name]:.4g}" for name in others))


def keep_busy(work: Work, until: threading.Event) -> None:
    model, optimizer, loss_fn, (inputs, targets) = work.parts()
    while not until.is_set():
        optimizer.zero_grad()
        loss_fn(model(inputs), targets).backward()
        optimizer.step()
        torch.cuda.synchronize()


def main() -> int:
    if not torch.cuda.is_available() or torch.version.cuda is None:
        print(
            "There is no NVIDIA GPU that torch can use here, so there is nothing to measure. Run "
            "this on a machine with one, and with a torch that was built for CUDA.",
            file=sys.stderr,
        )
        return 1
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    with tempfile.TemporaryDirectory() as home:
        os.environ["ONTHEFLY_HOME"] = home
        print("waits for the device:")
        adds = count_waits()
        for milliseconds, steps, claim in ((1.0, 1000, 1.05), (10.0, 150, 1.01)):
            print(f"{milliseconds:.0f} ms steps:")
            compare_times(milliseconds, steps, claim)
        print("NVML beside nvidia-smi:")
        compare_with_nvidia_smi(Work(10.0))
    return 1 if adds else 0


if __name__ == "__main__":
    sys.exit(main())
