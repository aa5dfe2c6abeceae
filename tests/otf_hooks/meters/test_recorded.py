"""The meters at work in a training."""

from __future__ import annotations

import re
import time

import otf_hooks.meters
import pytest
import torch
from otf_hooks import Trainer
from otf_hooks.errors import ArgumentError
from otf_hooks.meters.sampling import SampleBudget
from otf_hooks.recorder import Recorder
from otf_hooks.writer import Writer
from otf_session.events import LogLine, Metrics, RunStarted
from otf_session.store import SessionStore
from torch import nn

from ..record import of, series, summary
from ..scenarios import SCENARIOS, STEPS, Steered, bare, make

SAMPLED = {"grad_norm", "weight_norm", "update_ratio", "activation_zeros"}


@pytest.fixture
def _quick(monkeypatch):
    """Read ten times a second, so that a training need not last long."""
    monkeypatch.setattr("otf_hooks.meters.board.INTERVAL", 0.1)


@pytest.fixture
def _every_step(monkeypatch):
    monkeypatch.setattr(SampleBudget, "is_due", lambda self, now: True)


def slow(data, seconds):
    class Slow(list):
        def __iter__(self):
            for item in list.__iter__(self):
                time.sleep(seconds)
                yield item

    return Slow(data)


def fit(loader, *, steps=30, lr=0.1, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    trainer = Trainer(project="p", run_name="r", max_steps=steps, auto_connect=False, **options)
    return trainer.fit(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=lr),
        loss_fn=nn.CrossEntropyLoss(),
        train_loader=loader,
    )


def batches(count):
    return [(torch.randn(4, 6), torch.randint(0, 2, (4,))) for _ in range(count)]


@pytest.mark.usefixtures("_quick", "_every_step")
def test_everything_is_recorded_and_documented():
    result = fit(slow(batches(60), 0.02), steps=50)
    names = result.metrics.keys()
    assert names >= SAMPLED | {
        *("sys/cpu", "sys/ram", "proc/cpu", "proc/ram", "data_wait", "data_wait/share"),
        *("step_time/p50", "step_time/p95", "step_time/p99", "time_remaining"),
    }
    documented = otf_hooks.meters.__doc__
    for name in names - {"loss", "lr", "step_time", "throughput"}:
        assert re.sub(r"gpu\d+", "gpuN", name) in documented, name


@pytest.mark.usefixtures("_quick")
def test_waiting_for_data_is_told_apart_from_computing():
    fit(slow(batches(60), 0.02), steps=50)
    waits, times = dict(series("data_wait")), dict(series("step_time"))
    assert waits.keys() == times.keys() == set(range(1, 51))
    assert all(0.02 <= waits[step] <= times[step] for step in times)
    ratios = [waits[step] / times[step] for step in times]
    shares = [share for _, share in series("data_wait/share")]
    assert shares
    assert all(min(ratios) <= share <= max(ratios) for share in shares)
    assert all(seconds >= 0 for _, seconds in series("time_remaining"))


@pytest.mark.usefixtures("_quick")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_there_is_no_such_series_and_no_word_of_it(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", _no_library)
    result = fit(slow(batches(60), 0.02), steps=50)
    assert series("sys/cpu")
    assert not [name for name in result.metrics if name.startswith(("gpu", "mps"))]
    assert [line.text for line in of(LogLine)] == []


def _no_library(name):
    raise OSError(name)


def test_guards_and_the_store_have_what_is_derived(home):
    derived = Metrics(run="r", steps=[1], times=[1.0], values={"gpu0/temperature": [95.0]})
    seen = []
    store = SessionStore.create(home, "p")
    recorder = Recorder(warn=pytest.fail)
    recorder.add(RunStarted(time=1.0, run="r"))
    writer = Writer(
        store=store,
        recorder=recorder,
        publish=lambda batch: None,
        look=seen.extend,
        warn=pytest.fail,
        derive=lambda events: [derived] if events else [],
    )
    writer.start()
    writer.close()
    assert [type(event) for event in seen] == [RunStarted, Metrics]
    assert series("gpu0/temperature") == [(1, 95.0)]


@pytest.mark.usefixtures("_every_step")
def test_a_norm_that_the_script_records_itself_is_kept():
    model = nn.Linear(6, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(project="p", run_name="r", max_steps=3, auto_connect=False)

    @trainer.training_step
    def step(batch, state):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return {"loss": loss, "grad_norm": 42.0}

    trainer.fit(model=model, optimizer=optimizer, train_loader=batches(3))
    assert [value for _, value in series("grad_norm")] == [42.0] * 3
    assert len(series("weight_norm")) == 3


@pytest.mark.usefixtures("_every_step")
def test_after_a_step_that_fails_no_hook_is_left():
    model = nn.Sequential(nn.Linear(6, 2), nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    bad = [*batches(2), (torch.randn(4, 5), torch.zeros(4).long())]
    with pytest.raises(RuntimeError, match="shapes"):
        Trainer(project="p", run_name="r", max_steps=9, auto_connect=False).fit(
            model=model, optimizer=optimizer, loss_fn=nn.CrossEntropyLoss(), train_loader=bad
        )
    assert not model[1]._forward_hooks
    assert not optimizer._optimizer_step_pre_hooks
    assert summary().runs[0].step == 2


def test_a_budget_of_0_samples_nothing():
    assert not SAMPLED & fit(batches(60), steps=50, telemetry_budget=0).metrics.keys()
    assert fit(batches(60), steps=50).metrics.keys() >= SAMPLED


@pytest.mark.parametrize("budget", [-0.1, 1.5, "1%", None, True, float("nan")])
def test_a_budget_is_a_share(budget):
    with pytest.raises(ArgumentError, match="telemetry_budget"):
        Trainer(project="p", run_name="r", telemetry_budget=budget)


@pytest.mark.usefixtures("_every_step")
@pytest.mark.parametrize("name", SCENARIOS)
def test_sampling_every_step_changes_nothing(name):
    if name == "stateful-loader":
        pytest.importorskip("torchdata")
    wanted = bare(make(name))
    found = Steered(name).run()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    # What the optimizer did not do in a step has no norm there.
    steps = {step for step, _ in series("weight_norm")}
    assert steps == set(range(3, STEPS + 1, 3) if name == "accumulation" else range(1, STEPS + 1))
