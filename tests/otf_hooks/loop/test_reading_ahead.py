"""A loader that reads a batch ahead, as Accelerate's does, and a dataset that draws at random."""

from __future__ import annotations

from typing import Any, Dict

import pytest
import torch
from otf_hooks import watch
from otf_session.commands import LoadCheckpoint, SaveCheckpoint
from otf_session.events import CommandChanged, DeterminismAssessed
from torch import nn
from torch.utils.data import DataLoader

from ..record import of
from ..scenarios import BATCH, Augmented, data, model
from .conftest import ask

accelerate = pytest.importorskip("accelerate")


def train(dataset: Any, plan: Dict[int, Any]) -> Dict[str, torch.Tensor]:
    torch.manual_seed(1)
    net = model(0.3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True)
    prepared = accelerate.Accelerator(cpu=True).prepare(loader)
    with watch(net, optimizer, project="p", run_name="r", auto_connect=False) as run:
        for _ in run.epochs(1):
            for inputs, target in run.batches(prepared):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(net(inputs), target)
                loss.backward()
                optimizer.step()
                run.step(loss=loss)
                for command in plan.pop(run.steps, []):
                    ask(run, command)
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def gone_back() -> Dict[int, Any]:
    return {3: [SaveCheckpoint(name="here")], 6: [LoadCheckpoint(checkpoint="here")]}


def result() -> Any:
    (found,) = [
        event.outcome.result
        for event in of(CommandChanged)
        if event.outcome is not None and isinstance(event.command, LoadCheckpoint)
    ]
    return found


def test_that_going_back_is_not_exact_is_said_before_and_when_it_is_done():
    wanted = train(Augmented(), {})
    first, later = of(DeterminismAssessed)[-2:]
    assert first.exact
    assert not later.exact
    assert "reads a batch ahead" in later.findings[0]
    found = train(Augmented(), gone_back())
    assert not result().exact
    assert "reads a batch ahead" in result().findings[0]
    # And so it is.
    assert not all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_what_draws_nothing_is_exact():
    wanted = train(data(), {})
    assert all(assessed.exact for assessed in of(DeterminismAssessed))
    found = train(data(), gone_back())
    assert result().exact
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
