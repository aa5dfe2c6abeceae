"""Trainings that must be exact, bit for bit, however they are interrupted.

As a script, `python -m tests.otf_hooks.scenarios NAME OUT [AT=ACTION ...]` trains one of them and
writes its weights to OUT. Each `AT=ACTION` says what happens after step AT: `save`, `kill`.
"""

from __future__ import annotations

import copy
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import numpy as np
import torch
from otf_hooks import Trainer
from otf_session.commands import Command, CommandRequest, SaveCheckpoint
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    TensorDataset,
    WeightedRandomSampler,
    get_worker_info,
)

#: Where the tests are started from.
ROOT = Path(__file__).parents[2]

SAMPLES, BATCH, EPOCHS = 48, 4, 3
STEPS_PER_EPOCH = SAMPLES // BATCH
STEPS = EPOCHS * STEPS_PER_EPOCH


def data() -> TensorDataset:
    generator = torch.Generator().manual_seed(7)
    inputs = torch.randn(SAMPLES, 6, generator=generator)
    return TensorDataset(inputs, (inputs.sum(dim=1) > 0).long())


class Augmented(Dataset[Any]):
    """A dataset whose samples come out differently each time, from all three global generators."""

    def __init__(self) -> None:
        self.inner = data()

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        inputs, target = self.inner[index]
        noise = random.random() + float(np.random.rand())
        return inputs + 0.1 * torch.randn(6) + noise, target


class OwnGenerator(Dataset[Any]):
    """A dataset that draws from generators of its own."""

    def __init__(self) -> None:
        self.inner = data()
        self.numpy = np.random.default_rng(3)
        self.python = random.Random(4)
        self.torch = torch.Generator().manual_seed(5)

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        inputs, target = self.inner[index]
        noise = float(self.numpy.random()) + self.python.random()
        return inputs + noise + torch.rand(6, generator=self.torch), target


class Stream(IterableDataset[Any]):
    """Samples without indices, in an order that depends on the epoch it counts itself."""

    def __init__(self) -> None:
        self.inner = data()
        self.epoch = 0

    def __iter__(self) -> Iterator[Any]:
        self.epoch += 1
        order = list(range(len(self.inner)))
        random.Random(self.epoch).shuffle(order)
        worker = get_worker_info()
        share = order if worker is None else order[worker.id :: worker.num_workers]
        for index in share:
            inputs, target = self.inner[index]
            yield inputs + 0.1 * torch.randn(6), target


class ShufflesInPlace(Sampler[int]):
    """A sampler that remembers: each order is a shuffle of the one before."""

    def __init__(self) -> None:
        self.order = list(range(SAMPLES))

    def __len__(self) -> int:
        return SAMPLES

    def __iter__(self) -> Iterator[int]:
        random.shuffle(self.order)
        return iter(list(self.order))


def model(dropout: float = 0.0) -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 2)
    )


def base(loader: Any, *, dropout: float = 0.0) -> Dict[str, Any]:
    net = model(dropout)
    return {
        "model": net,
        "optimizer": torch.optim.AdamW(net.parameters(), lr=0.01),
        "loss_fn": nn.CrossEntropyLoss(),
        "train_loader": loader,
    }


def shuffled(**options: Any) -> DataLoader[Any]:
    return DataLoader(data(), batch_size=BATCH, shuffle=True, **options)


def with_scheduler(interval: str) -> Dict[str, Any]:
    parts = base(shuffled())
    if interval == "step":
        scheduler: Any = torch.optim.lr_scheduler.OneCycleLR(
            parts["optimizer"], max_lr=0.05, total_steps=STEPS
        )
    else:
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(parts["optimizer"], T_max=EPOCHS)
    return {**parts, "scheduler": scheduler, "scheduler_interval": interval}


def accumulated_step(batch: Any, state: Dict[str, Any]) -> Dict[str, Any]:
    inputs, target = batch
    loss = state["loss_fn"](state["model"](inputs), target)
    (loss / 3).backward()
    if (state["step"] + 1) % 3 == 0:
        state["optimizer"].step()
        state["optimizer"].zero_grad()
    # What a script keeps between its steps belongs to the state too.
    mean = state.get("mean", torch.zeros(()))
    state["mean"] = 0.9 * mean + 0.1 * loss.detach()
    return {"loss": loss, "mean": state["mean"].clone()}


def stateful_loader() -> Any:
    from torchdata.stateful_dataloader import StatefulDataLoader

    return StatefulDataLoader(Augmented(), batch_size=BATCH, shuffle=True)


#: What `fit` is called with; `step`, where there is one, is the script's own.
SCENARIOS: Dict[str, Callable[[], Dict[str, Any]]] = {
    "shuffled": lambda: base(shuffled()),
    "dropout": lambda: base(shuffled(), dropout=0.3),
    "workers": lambda: base(
        DataLoader(Augmented(), batch_size=BATCH, shuffle=True, num_workers=2), dropout=0.3
    ),
    "augmented": lambda: base(DataLoader(Augmented(), batch_size=BATCH, shuffle=True), dropout=0.3),
    "own-generator": lambda: base(
        DataLoader(
            OwnGenerator(),
            batch_size=BATCH,
            shuffle=True,
            generator=torch.Generator().manual_seed(9),
        )
    ),
    "iterable": lambda: base(DataLoader(Stream(), batch_size=BATCH), dropout=0.3),
    "iterable-workers": lambda: base(DataLoader(Stream(), batch_size=BATCH, num_workers=2)),
    "scheduler-step": lambda: with_scheduler("step"),
    "scheduler-epoch": lambda: with_scheduler("epoch"),
    "bf16": lambda: {**base(shuffled(), dropout=0.3), "amp": "bf16"},
    "accumulation": lambda: {**base(shuffled(), dropout=0.3), "step": accumulated_step},
    "weighted-sampler": lambda: base(
        DataLoader(
            data(),
            batch_size=BATCH,
            sampler=WeightedRandomSampler(torch.arange(1.0, SAMPLES + 1).tolist(), SAMPLES),
        )
    ),
    "batch-sampler": lambda: base(
        DataLoader(data(), batch_sampler=BatchSampler(RandomSampler(data()), BATCH, False))
    ),
    "own-sampler": lambda: base(DataLoader(data(), batch_size=BATCH, sampler=ShufflesInPlace())),
    "clipped": lambda: {**base(shuffled()), "grad_clip_norm": 0.5},
    "stateful-loader": lambda: base(stateful_loader(), dropout=0.3),
    "plain-list": lambda: base([tuple(t[:4] for t in data().tensors)] * STEPS_PER_EPOCH),
}


def make(name: str) -> Dict[str, Any]:
    """A scenario from the beginning, the same each time."""
    if name == "stateful-loader":
        # Before the seeds: importing it draws at random.
        import torchdata.stateful_dataloader  # noqa: F401
    # Sums come out differently when they are shared among another number of threads.
    torch.set_num_threads(1)
    for seed in (torch.manual_seed, random.seed, np.random.seed):
        seed(1)
    return SCENARIOS[name]()


def bare(parts: Dict[str, Any]) -> Dict[str, torch.Tensor]:
    """The loop that a person would write without the product."""
    net, optimizer, loss_fn = parts["model"], parts["optimizer"], parts["loss_fn"]
    scheduler, own = parts.get("scheduler"), parts.get("step")
    state = {"model": net, "optimizer": optimizer, "loss_fn": loss_fn, "step": 0}
    for _ in range(EPOCHS):
        for batch in parts["train_loader"]:
            if own is not None:
                own(batch, state)
            else:
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.bfloat16, enabled="amp" in parts):
                    loss = loss_fn(net(batch[0]), batch[1])
                loss.backward()
                if "grad_clip_norm" in parts:
                    nn.utils.clip_grad_norm_(net.parameters(), parts["grad_clip_norm"])
                optimizer.step()
            state["step"] += 1
            if parts.get("scheduler_interval") == "step":
                scheduler.step()
        if parts.get("scheduler_interval") == "epoch":
            scheduler.step()
    return copy.deepcopy(net.state_dict())


class Steered:
    """A scenario trained by the Trainer, with commands that are given right after certain steps.

    They come at the safe point after the step, in this order; each step's commands come once.
    """

    def __init__(self, name: str, **options: Any) -> None:
        self.parts = make(name)
        self.trainer = Trainer(
            project="exact", run_name="baseline", max_epochs=EPOCHS, auto_connect=False, **options
        )
        step = self.parts.pop("step", None)
        if step is not None:
            self.trainer.training_step(step)
        self.plan: Dict[int, List[Any]] = {}
        self.parts["model"].register_forward_pre_hook(self._before_forward)

    def at(self, step: int, *what: Any) -> Steered:
        self.plan.setdefault(step, []).extend(what)
        return self

    def run(self, **options: Any) -> Dict[str, torch.Tensor]:
        # For the evaluations in between; they draw at random too.
        loader = DataLoader(data(), batch_size=16, shuffle=True)
        self.result = self.trainer.fit(
            **self.parts, val_loader=loader, test_loader=loader, **options
        )
        return copy.deepcopy(self.parts["model"].state_dict())

    @property
    def engine(self) -> Any:
        return self.trainer._engine

    def _before_forward(self, module: nn.Module, args: Any) -> None:
        # Called within step n + 1's predecessor: what is asked for now comes after this step.
        if not module.training or self.engine is None:
            return
        for what in self.plan.pop(self.engine.step + 1, []):
            if isinstance(what, Command.__args__):
                request = CommandRequest(id=f"{id(what)}", author="test", command=what)
                self.engine.desk.receive(request)
            else:
                what(self.engine)


def kill(engine: Any) -> None:
    engine.keeper.flush()
    # Longer than the writer's interval, so that the record has what was saved.
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    name, out, *plan = sys.argv[1:]
    steered = Steered(name)
    for item in plan:
        step, _, action = item.partition("=")
        steered.at(int(step), {"save": SaveCheckpoint(), "kill": kill}[action])
    torch.save(steered.run(), out)


if __name__ == "__main__":
    main()
