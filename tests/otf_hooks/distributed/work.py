"""What the ranks of the tests train; here, so that each of them can import it."""

from __future__ import annotations

import contextlib
import copy
import os
import random
import signal
import time
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import torch
import torch.distributed as dist
from otf_hooks import Trainer
from otf_hooks.distributed import agreement
from otf_session.commands import Command, CommandRequest
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler, TensorDataset

SAMPLES, BATCH, EPOCHS = 64, 4, 3
STEPS_PER_EPOCH = SAMPLES // BATCH // 2
STEPS = EPOCHS * STEPS_PER_EPOCH


def data(samples: int = SAMPLES) -> TensorDataset:
    generator = torch.Generator().manual_seed(7)
    inputs = torch.randn(samples, 6, generator=generator)
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


def model() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2)
    )


def sharded_loader(dataset: Any, **options: Any) -> DataLoader[Any]:
    sampler = DistributedSampler(dataset, seed=3)
    return DataLoader(dataset, batch_size=BATCH, sampler=sampler, **options)


def base(*, wrap: Callable[..., nn.Module] = DistributedDataParallel) -> Dict[str, Any]:
    net = wrap(model())
    return {
        "model": net,
        "optimizer": torch.optim.AdamW(net.parameters(), lr=0.01),
        "loss_fn": nn.CrossEntropyLoss(),
        "train_loader": sharded_loader(Augmented()),
    }


def accumulated_step(batch: Any, state: Dict[str, Any]) -> Dict[str, Any]:
    """Gradients of three batches, which differ from rank to rank until the third."""
    is_third = (state["step"] + 1) % 3 == 0
    net = state["model"]
    with contextlib.nullcontext() if is_third else net.no_sync():
        loss = state["loss_fn"](net(batch[0]), batch[1])
        (loss / 3).backward()
    if is_third:
        state["optimizer"].step()
        state["optimizer"].zero_grad()
    mean = state.get("mean", torch.zeros(()))
    # Each rank has its own.
    state["mean"] = 0.9 * mean + 0.1 * loss.detach()
    return {"loss": loss, "mean": state["mean"].clone()}


SCENARIOS: Dict[str, Callable[[], Dict[str, Any]]] = {
    "ddp": base,
    "workers": lambda: {
        **base(),
        "train_loader": sharded_loader(Augmented(), num_workers=1),
    },
    "accumulation": lambda: {**base(), "step": accumulated_step},
    "own-buffers": lambda: base(
        wrap=lambda net: DistributedDataParallel(net, broadcast_buffers=False)
    ),
    "compiled": lambda: base(
        wrap=lambda net: torch.compile(DistributedDataParallel(net), backend="eager")
    ),
}


def make(name: str) -> Dict[str, Any]:
    """A scenario from the beginning; each rank draws differently."""
    for seed in (torch.manual_seed, random.seed, np.random.seed):
        seed(1 + dist.get_rank())
    return SCENARIOS[name]()


def weights(net: nn.Module) -> Dict[str, torch.Tensor]:
    return copy.deepcopy(net.state_dict())


def bare(name: str) -> Dict[str, torch.Tensor]:
    """The loop that a person would write without the product."""
    parts = make(name)
    net, optimizer, loss_fn = parts["model"], parts["optimizer"], parts["loss_fn"]
    own = parts.get("step")
    state = {"model": net, "optimizer": optimizer, "loss_fn": loss_fn, "step": 0}
    for epoch in range(EPOCHS):
        parts["train_loader"].sampler.set_epoch(epoch)
        for batch in parts["train_loader"]:
            if own is not None:
                own(batch, state)
            else:
                optimizer.zero_grad()
                loss_fn(net(batch[0]), batch[1]).backward()
                optimizer.step()
            state["step"] += 1
    return weights(net)


class Steered:
    """A scenario trained by the Trainer; rank 0 is asked for things, right after certain steps."""

    def __init__(self, name: str, *, every_step: bool = True, **options: Any) -> None:
        if every_step:
            # Agreed on after every step, so that a test can say when.
            agreement.SECONDS = 0.0
        self.rank = dist.get_rank()
        self.parts = make(name)
        given = {"project": "exact", "run_name": "baseline", "max_epochs": EPOCHS, **options}
        self.trainer = Trainer(auto_connect=False, **given)
        step = self.parts.pop("step", None)
        if step is not None:
            self.trainer.training_step(step)
        self.plan: Dict[int, List[Any]] = {}
        self.parts["model"].register_forward_pre_hook(self._before_forward)

    def at(self, step: int, *what: Any, rank: Optional[int] = 0) -> Steered:
        """Have commands given to a rank, or functions called there; on each with None."""
        if rank is None or rank == self.rank:
            self.plan.setdefault(step, []).extend(what)
        return self

    def run(self, **options: Any) -> Dict[str, torch.Tensor]:
        # The ranks have unequal numbers of batches to evaluate.
        mine = TensorDataset(*(part[: 10 + 30 * self.rank] for part in data().tensors))
        loader = DataLoader(mine, batch_size=8, shuffle=True)
        loaders = {"val_loader": loader, "test_loader": loader, **options}
        self.result = self.trainer.fit(**self.parts, **loaders)
        return weights(self.parts["model"])

    @property
    def engine(self) -> Any:
        return self.trainer._engine

    def _before_forward(self, module: nn.Module, args: Any) -> None:
        if not module.training or self.engine is None:
            return
        for what in self.plan.pop(self.engine.step + 1, []):
            if isinstance(what, Command.__args__):
                request = CommandRequest(id=f"{id(what)}", author="test", command=what)
                self.engine.desk.receive(request)
            else:
                what(self.engine)


def kill(engine: Any) -> None:
    if engine.peers.rank == 0:
        engine.keeper.flush()
        # Longer than the writer's interval, so that the record has what was saved.
        time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)


class Asked:
    """What a loop of one's own is asked for on rank 0, after certain steps."""

    def __init__(self, plan: Dict[int, List[Any]], killed_at: Optional[int]) -> None:
        self.rank = dist.get_rank()
        self.plan = dict(plan) if self.rank == 0 else {}
        self.killed_at = killed_at

    def look(self, engine: Any) -> None:
        if engine.step == self.killed_at:
            kill(engine)
        for what in self.plan.pop(engine.step, []):
            engine.desk.receive(CommandRequest(id=f"{id(what)}", author="test", command=what))


def steered(name: str, plan: Dict[int, List[Any]], options: Optional[Dict[str, Any]] = None) -> Any:
    """Both what a scenario comes to with commands at steps, and without the product."""
    training = Steered(name, **(options or {}))
    for step, what in plan.items():
        training.at(step, *what)
    return training.run()
