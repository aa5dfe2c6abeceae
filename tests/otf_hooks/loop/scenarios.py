"""Loops of a script's own that must be exact, bit for bit, however they are interrupted.

Each is one function of a `loop`: `Bare`, which a person would write without the product, or a watched
run. As a script, `python -m tests.otf_hooks.loop.scenarios NAME OUT [AT=ACTION ...]` trains one of them
watched and writes its weights to OUT; each `AT=ACTION` says what happens after step AT.
"""

from __future__ import annotations

import copy
import sys
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

import torch
from otf_hooks import watch
from otf_session.commands import Command, CommandRequest, SaveCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from .. import scenarios as native
from ..scenarios import BATCH, EPOCHS, SAMPLES, Augmented, data, kill, model, shuffled

BATCHES = SAMPLES // BATCH


class Bare:
    """A loop without the product."""

    def __init__(self) -> None:
        self.state: Dict[str, Any] = {}
        self.batch = 0

    def epochs(self, count: int) -> Iterator[int]:
        yield from range(count)

    def batches(self, loader: Any) -> Iterator[Any]:
        for self.batch, batch in enumerate(loader):
            yield batch

    def step(self, **metrics: Any) -> None:
        pass


class Script(NamedTuple):
    """What a script has made, what it gives to `watch` of it, and the loop that it runs."""

    weights: nn.Module
    given: Dict[str, Any]
    train: Callable[[Any], None]
    steps_per_epoch: int = BATCHES
    #: Whether it counts its epochs itself, so that it cannot be taken to another.
    counts_itself: bool = False


def ordinary(name: str) -> Script:
    """A scenario of the native front, in the usual loop."""
    parts = native.SCENARIOS[name]()
    net, optimizer = parts["model"], parts["optimizer"]
    scheduler, interval = parts.get("scheduler"), parts.get("scheduler_interval")

    def train(loop: Any) -> None:
        for _ in loop.epochs(EPOCHS):
            net.train()
            for inputs, target in loop.batches(parts["train_loader"]):
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.bfloat16, enabled="amp" in parts):
                    loss = parts["loss_fn"](net(inputs), target)
                loss.backward()
                optimizer.step()
                loop.step(loss=loss)
                # Behind the call, and part of the step all the same.
                if interval == "step":
                    scheduler.step()
            if interval == "epoch":
                scheduler.step()

    return Script(net, {"model": net, "optimizer": optimizer, "scheduler": scheduler}, train)


def accumulating() -> Script:
    """Gradients of three batches, and a step that is counted at each of them."""
    net = model(0.3)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    loader = DataLoader(Augmented(), batch_size=BATCH, shuffle=True)

    def train(loop: Any) -> None:
        for _ in loop.epochs(EPOCHS):
            for inputs, target in loop.batches(loader):
                loss = nn.functional.cross_entropy(net(inputs), target)
                mean = 0.9 * loop.state.get("mean", torch.zeros(())) + 0.1 * loss.detach()
                loop.state["mean"] = mean
                (loss / 3 + 0.01 * mean * loss).backward()
                if (loop.batch + 1) % 3 == 0:
                    optimizer.step()
                    optimizer.zero_grad()
                loop.step(loss=loss)

    return Script(net, {"model": net, "optimizer": optimizer}, train)


def accumulating_in_steps() -> Script:
    """Gradients of three batches, which are one step."""
    net = model(0.3)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    loader = shuffled()

    def train(loop: Any) -> None:
        for _ in loop.epochs(EPOCHS):
            for inputs, target in loop.batches(loader):
                loss = nn.functional.cross_entropy(net(inputs), target)
                (loss / 3).backward()
                if (loop.batch + 1) % 3 == 0:
                    optimizer.step()
                    optimizer.zero_grad()
                    loop.step(loss=loss)

    return Script(net, {"model": net, "optimizer": optimizer}, train, BATCHES // 3)


def two_passes() -> Script:
    """Each epoch goes over one loader and then over another, with draws of its own between."""
    net = model(0.3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    first = shuffled(generator=torch.Generator().manual_seed(9))
    second = DataLoader(Augmented(), batch_size=2 * BATCH, shuffle=True)

    def one(loop: Any, batch: Any, shift: Any) -> None:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(batch[0] + shift), batch[1])
        loss.backward()
        optimizer.step()
        loop.step(loss=loss)

    def train(loop: Any) -> None:
        for _ in loop.epochs(EPOCHS):
            # Drawn where the epoch begins, and used in all of its steps.
            shift = 0.1 * torch.randn(6)
            for batch in loop.batches(first):
                one(loop, batch, shift)
            torch.rand(3)
            for batch in loop.batches(second):
                one(loop, batch, shift)

    return Script(net, {"model": net, "optimizer": optimizer}, train, BATCHES + BATCHES // 2)


def adversaries() -> Script:
    """Two models with an optimizer and a scheduler each."""
    generator, critic = nn.Linear(3, 6), model(0.2)
    of_generator = torch.optim.Adam(generator.parameters(), lr=0.01)
    of_critic = torch.optim.Adam(critic.parameters(), lr=0.02)
    schedulers = {
        "generator": torch.optim.lr_scheduler.ExponentialLR(of_generator, 0.97),
        "critic": torch.optim.lr_scheduler.ExponentialLR(of_critic, 0.95),
    }
    models = {"generator": generator, "critic": critic}
    loader = shuffled()

    def train(loop: Any) -> None:
        for _ in loop.epochs(EPOCHS):
            for inputs, target in loop.batches(loader):
                made = generator(torch.randn(len(inputs), 3))
                of_critic.zero_grad()
                loss = nn.functional.cross_entropy(critic(inputs + made.detach()), target)
                loss.backward()
                of_critic.step()
                of_generator.zero_grad()
                (-nn.functional.cross_entropy(critic(inputs + made), target)).backward()
                of_generator.step()
                loop.step(loss=loss)
            for scheduler in schedulers.values():
                scheduler.step()

    given = {
        "model": models,
        "optimizer": {"generator": of_generator, "critic": of_critic},
        "scheduler": schedulers,
    }
    return Script(nn.ModuleDict(models), given, train)


def own_epochs() -> Script:
    """A script that keeps its `range`."""
    net = model(0.3)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    loader = shuffled()

    def train(loop: Any) -> None:
        for _ in range(EPOCHS):
            for inputs, target in loop.batches(loader):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(net(inputs), target)
                loss.backward()
                optimizer.step()
                loop.step(loss=loss)
            scheduler.step()

    given = {"model": net, "optimizer": optimizer, "scheduler": scheduler}
    return Script(net, given, train, counts_itself=True)


def accelerated() -> Script:
    """A loop with Accelerate, which accumulates gradients of two batches."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    net = model(0.3)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.7)
    loader = DataLoader(data(), batch_size=BATCH, shuffle=True)
    prepared, optimizer, scheduler, loader = accelerator.prepare(net, optimizer, scheduler, loader)

    def train(loop: Any) -> None:
        for _ in loop.epochs(EPOCHS):
            for inputs, target in loop.batches(loader):
                with accelerator.accumulate(prepared):
                    loss = nn.functional.cross_entropy(prepared(inputs), target)
                    accelerator.backward(loss)
                    optimizer.step()
                    scheduler.step()
                    optimizer.zero_grad()
                if accelerator.sync_gradients:
                    loop.step(loss=loss)

    given = {"model": prepared, "optimizer": optimizer, "scheduler": scheduler}
    return Script(net, given, train, BATCHES // 2)


_NATIVE = [name for name in native.SCENARIOS if name not in ("accumulation", "clipped")]

SCENARIOS: Dict[str, Callable[[], Script]] = {
    **{name: lambda name=name: ordinary(name) for name in _NATIVE},  # type: ignore[misc]
    "accumulating": accumulating,
    "accumulating-in-steps": accumulating_in_steps,
    "two-passes": two_passes,
    "adversaries": adversaries,
    "own-epochs": own_epochs,
    "accelerated": accelerated,
}


def make(name: str) -> Script:
    """A scenario from the beginning, the same each time."""
    import random

    import numpy as np

    if name == "stateful-loader":
        # Before the seeds: importing it draws at random.
        import torchdata.stateful_dataloader  # noqa: F401
    if name == "accelerated":
        import accelerate  # noqa: F401
    # Sums come out differently when they are shared among another number of threads.
    torch.set_num_threads(1)
    for seed in (torch.manual_seed, random.seed, np.random.seed):
        seed(1)
    return SCENARIOS[name]()


def weights_of(script: Script) -> Dict[str, torch.Tensor]:
    return copy.deepcopy(script.weights.state_dict())


def bare(name: str) -> Dict[str, torch.Tensor]:
    """What the loop comes to without the product."""
    script = make(name)
    script.train(Bare())
    return weights_of(script)


class Steered:
    """A watched scenario, with commands that are given right after certain steps.

    They come at the safe point after the step, in this order; each step's commands come once.
    """

    def __init__(self, name: str, **options: Any) -> None:
        self.script = make(name)
        self._options = {"project": "exact", "run_name": "baseline", "auto_connect": False}
        self._options.update(options)
        self.plan: Dict[int, List[Any]] = {}
        self.run_watched: Any = None

    def at(self, step: int, *what: Any) -> Steered:
        self.plan.setdefault(step, []).extend(what)
        return self

    def run(self) -> Dict[str, torch.Tensor]:
        with watch(**self.script.given, **self._options) as run:
            self.run_watched = run
            # For the evaluations in between; they draw at random too.
            for split in ("validation", "test"):
                self._evaluator(run, split)
            step = run.step

            def stepping(**metrics: Any) -> None:
                step(**metrics)
                self._after(run)

            run.step = stepping
            self.script.train(run)
        return weights_of(self.script)

    def _evaluator(self, run: Any, split: str) -> None:
        @run.evaluator(split, DataLoader(data(), batch_size=16, shuffle=True))
        def evaluate(batch: Any) -> Dict[str, Any]:
            parts = list(self.script.weights.values()) if _is_several(self.script) else None
            net = self.script.weights if parts is None else parts[-1]
            return {"loss": nn.functional.cross_entropy(net(batch[0]), batch[1])}

    def _after(self, run: Any) -> None:
        engine = run._training.engine
        for what in self.plan.pop(engine.step, []):
            if isinstance(what, Command.__args__):
                request = CommandRequest(id=f"{id(what)}", author="test", command=what)
                engine.desk.receive(request)
            else:
                what(engine)


def _is_several(script: Script) -> bool:
    return isinstance(script.weights, nn.ModuleDict)


def main(arguments: Optional[List[str]] = None) -> None:
    name, out, *plan = arguments or sys.argv[1:]
    steered = Steered(name)
    for item in plan:
        step, _, action = item.partition("=")
        steered.at(int(step), {"save": SaveCheckpoint(), "kill": kill}[action])
    torch.save(steered.run(), out)


if __name__ == "__main__":
    main()
