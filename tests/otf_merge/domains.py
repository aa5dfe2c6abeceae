"""Digits in four domains, a base that has seen all a little, and an expert for each."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Callable, NamedTuple

import torch
from otf_merge.task import Task
from sklearn.datasets import load_digits
from torch import Tensor, nn

CHANGES: list[Callable[[Tensor], Tensor]] = [
    lambda x: x,
    lambda x: 1 - x,
    lambda x: x.rot90(1, (1, 2)),
    lambda x: x.flip(2),
]


class Digits(NamedTuple):
    """A task over all domains, the experts' checkpoints with Adam's state, and the base."""

    task: Task
    files: list[Path]
    base: Path


def network() -> nn.Module:
    layers = [nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(48, 10))


def trained(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> torch.optim.Optimizer:
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(steps):
        places = torch.randint(len(x), (64,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[places]), y[places]).backward()
        optimizer.step()
    return optimizer


def digit_domains(folder: Path, count: int = 3) -> Digits:
    """Train it all, which takes a second."""
    # Small matrices gain nothing from more threads, and lose much on a busy machine.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _digit_domains(folder, count)
    finally:
        torch.set_num_threads(before)


def _digit_domains(folder: Path, count: int) -> Digits:
    data = load_digits()
    x = torch.tensor(data.images, dtype=torch.float32) / 16
    y = torch.tensor(data.target)
    changes = CHANGES[:count]
    torch.manual_seed(0)
    base = network()
    trained(base, torch.cat([it(x[:60]) for it in changes]), y[:60].repeat(count), 150)
    torch.save({"model": base.state_dict()}, folder / "base.pt")
    files, domains = [], []
    for place, change in enumerate(changes):
        expert = copy.deepcopy(base)
        inputs = change(x[:900])
        optimizer = trained(expert, inputs, y[:900], 250)
        files.append(folder / f"expert{place}.pt")
        torch.save({"model": expert.state_dict(), "optimizer": optimizer.state_dict()}, files[-1])
        domains.append(list(zip(inputs.split(64), y[:900].split(64))))
    validation = [(change(x[900:1300]), y[900:1300]) for change in changes]
    return Digits(Task(network, validation, domains=domains), files, folder / "base.pt")
