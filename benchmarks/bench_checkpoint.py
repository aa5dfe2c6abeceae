"""How long a checkpoint holds up training, beside a plain copy of the same state in memory.

In a real training, at a safe point, in turn: `engine.save`, a clone of every tensor of model and
optimizer, and a blocking `torch.save` of it that is flushed to the disk. Then how long training steps
take while a checkpoint is being written in the background, beside steps without.

Claim: the stall of `engine.save` is at most 1.3 times the plain copy.
"""

import argparse
import contextlib
import io
import os
import statistics
import time
from pathlib import Path
from typing import Any, Dict, List

import torch
from common import own_home, ratio, spread
from otf_hooks import Trainer
from otf_hooks.desk import Errand
from torch import nn

CLAIM = 1.3
#: Parameters, and AdamW's two moments of each.
COPIES = 3
#: Steps in a row without a checkpoint being written, between two that are.
CALM_STEPS = 10


def plain_copy(value: Any) -> Any:
    """The same nested state, with a clone of each tensor."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: plain_copy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain_copy(item) for item in value)
    return value


def tensors_of(value: Any) -> List[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, (list, tuple, type({}.values()))):
        return [tensor for item in value for tensor in tensors_of(item)]
    return []


class Stalls:
    """What each way to save costs the training thread, measured at a safe point."""

    def __init__(self, engine, rounds: int) -> None:
        self._engine = engine
        self._rounds = rounds
        self.found: Dict[str, List[float]] = {}
        self.mebibytes = 0.0
        self.tensors = 0

    def measure(self) -> None:
        found = [t for t in tensors_of(self._engine.front.capture()) if t.numel()]
        self.tensors = len(found)
        self.mebibytes = sum(t.numel() * t.element_size() for t in found) / 2**20
        ways = {
            "engine.save": lambda: self._engine.save("bench"),
            "plain copy": self._plain,
            "plain copy again": self._plain,
            "torch.save, fsync": self._blocking,
        }
        self.found = {name: [] for name in ways}
        for number in range(self._rounds + 1):
            for name in list(ways)[:: 1 if number % 2 else -1]:
                seconds = self._timed(ways[name])
                # The first round fetches memory from the system, and files from the disk.
                if number > 0:
                    self.found[name].append(seconds * 1e3)

    def _timed(self, way) -> float:
        # Whatever was written before is on the disk, and its copy is let go of.
        self._engine.keeper.flush()
        began = time.perf_counter()
        kept = way()
        seconds = time.perf_counter() - began
        del kept
        return seconds

    def _plain(self) -> Any:
        """What a script would copy: everything large that `engine.save` copies, and no more."""
        front = self._engine.front
        return plain_copy([front.model.state_dict(), front.optimizer.state_dict()])

    def _blocking(self) -> None:
        path = Path(os.environ["ONTHEFLY_HOME"]) / "blocking.pt"
        with path.open("wb") as file:
            torch.save(self._engine.front.capture(), file)
            file.flush()
            os.fsync(file.fileno())


class Paces:
    """The length of training steps while a checkpoint is being written, and while none is."""

    def __init__(self, engine, writes: int) -> None:
        self._engine = engine
        self._count = writes
        self._calm_left = CALM_STEPS
        self._began = 0.0
        self._was_busy = False
        self.writing: List[float] = []
        self.calm: List[float] = []
        self._write_began = 0.0
        self.writes: List[float] = []

    def step_begins(self) -> None:
        """Called at the beginning of each forward pass."""
        now, busy = time.perf_counter(), self._engine.keeper.is_busy
        if busy and self._was_busy:
            self.writing.append((now - self._began) * 1e3)
        elif self._was_busy and self._write_began:
            self.writes.append(now - self._write_began)
        elif self._began and not busy:
            self.calm.append((now - self._began) * 1e3)
            self._calm_left -= 1
            if self._calm_left == 0:
                self._engine.desk.post(Errand(self._save_or_end))
        self._began, self._was_busy = now, busy

    def _save_or_end(self) -> None:
        self._calm_left = CALM_STEPS
        if len(self.writes) == self._count:
            self._engine.stop()
            return
        self._write_began = time.perf_counter()
        self._engine.save("bench")


def train(mebibytes: int, layers: int, batch: int, rounds: int, writes: int):
    torch.manual_seed(0)
    width = int((mebibytes * 2**20 / 4 / COPIES / layers) ** 0.5)
    model = nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    trainer = Trainer(
        project="bench",
        run_name="r",
        max_epochs=1_000_000,
        auto_connect=False,
        ckpt_keep=1,
        ckpt_every_minutes=None,
    )
    calls = []
    made: Dict[str, Any] = {}

    def before_forward(module, args) -> None:
        calls.append(None)
        engine = trainer._engine
        if len(calls) == 3:  # AdamW has its state, and so do the gradients.
            made["stalls"] = Stalls(engine, rounds)
            engine.desk.post(Errand(made["stalls"].measure))
        elif len(calls) == 4:
            made["paces"] = Paces(engine, writes)
        elif len(calls) > 4:
            made["paces"].step_begins()

    model.register_forward_pre_hook(before_forward)
    batches = [(torch.randn(batch, width), torch.randn(batch, width))] * 1000
    with contextlib.redirect_stderr(io.StringIO()):
        trainer.fit(model=model, optimizer=optimizer, loss_fn=nn.MSELoss(), train_loader=batches)
    return made["stalls"], made["paces"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mib", type=int, default=200, help="the state's size")
    parser.add_argument("--layers", type=int, default=16, help="among so many linear layers")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--writes", type=int, default=10)
    options = parser.parse_args()
    # One core for the training, one for what is written in the background.
    torch.set_num_threads(1)
    with own_home():
        stalls, paces = train(
            options.mib, options.layers, options.batch, options.rounds, options.writes
        )
    found = stalls.found
    print(f"{stalls.mebibytes:.0f} MiB in {stalls.tensors} tensors, ms on the training thread:")
    for name, figures in found.items():
        print(f"  {name:<20}{spread(figures)}")
    against = found["plain copy"]
    print(
        f"ratio engine.save / plain copy: {ratio(found['engine.save'], against):.3f} (claim: {CLAIM})"
    )
    print(f"ratio plain copy again / plain copy: {ratio(found['plain copy again'], against):.3f}")
    print(f"ratio torch.save / plain copy: {ratio(found['torch.save, fsync'], against):.1f}")
    print(
        f"ratio torch.save / engine.save: {ratio(found['torch.save, fsync'], found['engine.save']):.1f}"
    )
    writing, calm = statistics.median(paces.writing), statistics.median(paces.calm)
    print(f"steps while a checkpoint is written, {spread(paces.writes)} s each, ms:")
    print(f"  writing   {spread(paces.writing)}, {len(paces.writing)} steps")
    print(f"  not       {spread(paces.calm)}, {len(paces.calm)} steps")
    print(f"ratio writing / not, of the medians: {writing / calm:.3f}")


if __name__ == "__main__":
    main()
