"""Wrapped, compiled and sharded models: their checkpoints are those of the model without that."""

from __future__ import annotations

import copy
import signal

import pytest
import torch
from otf_hooks import Trainer
from otf_hooks.wrappers import Names, unwrapped
from otf_session.commands import (
    LoadCheckpoint,
    Pause,
    Prove,
    Resume,
    SaveCheckpoint,
    Test,
    Validate,
)
from otf_session.events import CheckpointFailed, CheckpointSaved, CommandChanged, Rewound
from otf_session.home import Home
from otf_session.resume import How, find_order, parse_target
from torch import nn
from torch.distributed import fsdp

from ..record import latest_folder, of, states
from .ranks import Ranks, on_each
from .test_exact import FIRST, SECOND, assert_same
from .work import SCENARIOS, Steered, kill, model, steered

PLAIN = set(model().state_dict())


def newest(label):
    saved = [event for event in of(CheckpointSaved) if event.label == label][-1]
    return torch.load(latest_folder() / saved.path, weights_only=True)


def start_with(order, monkeypatch):
    monkeypatch.setenv(*next(iter(order.environment().items())))


@pytest.mark.parametrize("name", ["ddp", "compiled"])
def test_a_checkpoint_has_the_models_own_names(name):
    on_each(steered, name, {})
    assert set(newest("final")["model"]) == PLAIN


def fit_alone(wrap=lambda net: net):
    net = wrap(model())
    trainer = Trainer(project="p", run_name="alone", max_steps=1, auto_connect=False)
    data = [(torch.randn(4, 6), torch.zeros(4, dtype=torch.long))]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    trainer.fit(net, optimizer, nn.CrossEntropyLoss(), data)
    return net


def test_its_weights_are_gone_on_with_by_one_process(monkeypatch):
    found = on_each(steered, "ddp", {})
    start_with(find_order(Home.find(), parse_target("latest"), How.WEIGHTS_ONLY), monkeypatch)
    net = fit_alone()
    assert torch.equal(net[0].weight, found[0]["module.0.weight"])


def test_another_number_of_processes_is_refused_before_anything_is_recorded(monkeypatch):
    on_each(steered, "ddp", {})
    before = len(of(CheckpointSaved))
    order = find_order(Home.find(), parse_target("latest"), How.NEW_RUN)
    start_with(order, monkeypatch)
    with pytest.raises(Exception, match="training with 2 processes, and this one has 1 process"):
        fit_alone()
    start_with(order, monkeypatch)
    ranks = Ranks(steered, "ddp", {}, size=3)
    assert ranks.join() == [1, 1, 1]
    assert all("nproc-per-node 2" in error for error in ranks.errors())
    assert len(of(CheckpointSaved)) == before


def compiled_alone(backend):
    """The same loop with a compiled model, attached and bare."""
    found = []
    for is_attached in (True, False):
        torch.manual_seed(5)
        inner = model()
        net = torch.compile(inner, backend=backend)
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
        loss_fn = nn.CrossEntropyLoss()
        data = [(torch.randn(4, 6), torch.randint(0, 2, (4,))) for _ in range(6)]
        torch.manual_seed(6)
        if is_attached:
            trainer = Trainer(project="p", run_name="c", max_steps=6, auto_connect=False)
            trainer.fit(net, optimizer, loss_fn, data, val_loader=data)
        else:
            for inputs, target in data:
                optimizer.zero_grad()
                loss_fn(net(inputs), target).backward()
                optimizer.step()
        found.append(copy.deepcopy(inner.state_dict()))
    return found


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_comes_to_the_bare_compiled_loop(backend):
    one, other = compiled_alone(backend)
    assert_same([one], [other])
    state = newest("final")
    assert set(state["model"]) == PLAIN
    assert state["eval_modules"] == []


def test_a_compiled_run_is_rewound_exactly():
    plan = {FIRST: [SaveCheckpoint(name="one")], SECOND: [LoadCheckpoint(checkpoint="one")]}
    assert_same(on_each(steered, "compiled", plan), on_each(steered, "compiled", {}))


def test_names_inside_a_model_lose_the_prefix_too():
    net = nn.ModuleDict({"one": torch.compile(nn.Linear(2, 2), backend="eager"), "two": nn.ReLU()})
    names = Names(net)
    assert set(names.state_of(net)) == {"one.weight", "one.bias"}
    names.load_into(net, {"one.weight": torch.ones(2, 2), "one.bias": torch.ones(2)})
    assert net["one"]._orig_mod.weight.sum() == 4
    net["one"].eval()
    assert names.in_eval_mode(net) == ["one"]
    assert unwrapped(net) is net


# Sharded

#: Younger than the oldest torch that is supported.
needs_fully_shard = pytest.mark.skipif(
    not hasattr(fsdp, "fully_shard"), reason="this torch has no fully_shard"
)


def shard(net):
    for part in net:
        if isinstance(part, nn.Linear):
            fsdp.fully_shard(part)
    fsdp.fully_shard(net)
    return net


def sharded(name, plan, options=None):
    # One batch normalisation per process would have statistics of its own.
    torch.manual_seed(3)
    net = shard(nn.Sequential(nn.Linear(6, 15), nn.ReLU(), nn.Dropout(0.3), nn.Linear(15, 2)))
    SCENARIOS["sharded"] = lambda: {
        **SCENARIOS["ddp"](),
        "model": net,
        "optimizer": torch.optim.AdamW(net.parameters(), lr=0.01),
    }
    training = Steered("sharded", **(options or {}))
    for step, what in plan.items():
        training.at(step, *what, rank=None if kill in what else 0)
    return {key: tensor.full_tensor() for key, tensor in training.run().items()}


_sharded = []


def sharded_unsteered():
    if not _sharded:
        _sharded.extend(on_each(sharded, "sharded", {}))
    return _sharded


@needs_fully_shard
def test_a_sharded_model_is_saved_whole_and_rewound():
    plan = {
        FIRST: [SaveCheckpoint(name="one"), Pause(), Test(), Validate(), Resume()],
        SECOND: [LoadCheckpoint(checkpoint="one")],
    }
    wanted = sharded_unsteered()
    found = on_each(sharded, "sharded", plan)
    assert_same(found, wanted)
    assert [event.exact for event in of(Rewound)] == [True]
    state = newest("final")
    assert_same([state["model"]], [found[0]])
    # As an optimizer of one process has it: by numbers, whole.
    assert state["optimizer"]["state"][0]["exp_avg"].shape == (15, 6)


@needs_fully_shard
def test_a_sharded_model_is_killed_and_resumed(monkeypatch):
    ranks = Ranks(sharded, "sharded", {SECOND: [SaveCheckpoint()], SECOND + 2: [kill]})
    assert ranks.join() == [-signal.SIGKILL] * 2
    start_with(find_order(Home.find(), parse_target("latest")), monkeypatch)
    assert_same(on_each(sharded, "sharded", {}), sharded_unsteered())


@needs_fully_shard
def test_what_a_sharded_model_cannot_do_says_so():
    plan = {FIRST: [Prove(steps=1), Pause(release=True)]}
    wanted = sharded_unsteered()
    assert_same(on_each(sharded, "sharded", plan), wanted)
    refused = {
        type(event.command).__name__: event.outcome.reason
        for event in of(CommandChanged)
        if event.outcome is not None
    }
    assert all("sharded over the processes" in refused[name] for name in ("Prove", "Pause"))


class FullyShardedDataParallel(nn.Module):
    """What torch's is told by; that one needs a GPU."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, inputs):
        return self.inner(inputs)


def test_a_flattened_model_trains_and_says_why_it_is_not_saved():
    fit_alone(wrap=FullyShardedDataParallel)
    assert states() == ["running", "finished"]
    reasons = {event.reason for event in of(CheckpointFailed)}
    assert len(reasons) == 1
    assert "fully_shard" in reasons.pop()


def with_sharded_optimizer(plan):
    SCENARIOS["zero"] = lambda: _zero(SCENARIOS["ddp"]())
    training = Steered("zero")
    for step, what in plan.items():
        training.at(step, *what)
    return training.run()


def _zero(parts):
    # Importing it warns, of what it does itself.
    from torch.distributed.optim import ZeroRedundancyOptimizer

    kind = torch.optim.AdamW
    parameters = parts["model"].parameters()
    return {**parts, "optimizer": ZeroRedundancyOptimizer(parameters, kind, lr=0.01)}


def test_a_sharded_optimizer_is_saved_whole_and_rewound():
    plan = {FIRST: [SaveCheckpoint(name="one")], SECOND: [LoadCheckpoint(checkpoint="one")]}
    wanted = on_each(with_sharded_optimizer, {})
    assert_same(on_each(with_sharded_optimizer, plan), wanted)
    assert len(newest("final")["optimizer"]["state"]) == 6
