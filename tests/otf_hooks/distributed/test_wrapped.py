"""Compiled and sharded models, bit for bit, under what a person may ask for."""

from __future__ import annotations

import signal

import torch
from otf_hooks.wrappers import unwrapped
from otf_session.commands import (
    CheckHealth,
    Pause,
    Prove,
    Resume,
    Test,
    Validate,
)
from otf_session.events import CommandChanged
from otf_session.resume import How
from torch import nn

from ..going_on import go_on
from ..record import of
from . import work
from .ranks import Ranks, on_each
from .test_exact import FIRST, SECOND, assert_same, expected, killed, resumed
from .test_models import fit_alone, needs_fully_shard, shard, sharded_unsteered
from .work import EPOCHS, steered


def refusals():
    return [
        event.outcome
        for event in of(CommandChanged)
        if event.outcome is not None and type(event.outcome).__name__ == "Refused"
    ]


def test_whatever_a_compiled_run_is_asked_for_it_comes_to_the_same():
    asked = [Pause(release=True), Test(), Validate(), Resume(), Prove(steps=2)]
    checks = [CheckHealth(check="numerics"), CheckHealth(check="determinism")]
    plan = {FIRST: [*asked, *checks]}
    assert_same(on_each(steered, "compiled", plan), expected("compiled"))
    assert refusals() == []


def test_a_compiled_run_is_killed_and_resumed(monkeypatch):
    assert Ranks(killed, "compiled", SECOND, None).join() == [-signal.SIGKILL] * 2
    go_on(monkeypatch)
    found = [weights for weights, *_ in on_each(resumed, "compiled")]
    assert_same(found, expected("compiled"))


def test_weights_alone_are_taken_into_a_compiled_model(monkeypatch):
    found = on_each(steered, "ddp", {})
    go_on(monkeypatch, how=How.WEIGHTS_ONLY)
    net = fit_alone(wrap=lambda net: torch.compile(net, backend="eager"))
    assert torch.equal(unwrapped(net)[0].weight, found[0]["module.0.weight"])


def bare_sharded():
    torch.manual_seed(3)
    net = shard(nn.Sequential(nn.Linear(6, 15), nn.ReLU(), nn.Dropout(0.3), nn.Linear(15, 2)))
    parts = work.make("ddp")
    loader, optimizer = parts["train_loader"], torch.optim.AdamW(net.parameters(), lr=0.01)
    for epoch in range(EPOCHS):
        loader.sampler.set_epoch(epoch)
        for inputs, target in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs), target).backward()
            optimizer.step()
    return {key: tensor.full_tensor() for key, tensor in net.state_dict().items()}


@needs_fully_shard
def test_attached_to_a_sharded_model_is_the_bare_loop():
    assert_same(sharded_unsteered(), on_each(bare_sharded))
