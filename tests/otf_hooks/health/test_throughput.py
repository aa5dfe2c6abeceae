"""The check of throughput, by a clock that only the training moves: every time is exact."""

import pytest
import torch
from otf_hooks.health import advice
from otf_hooks.health.advice import Timings, Trials
from otf_hooks.health.findings import Findings
from otf_session.health import Severity
from torch import nn
from torch.utils.data import Dataset

from .checked import checked, data, examined, found, loader, parts

STEPS = 12


class Clock:
    """Seconds that pass only where something takes its time."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def take(self, seconds):
        self.now += seconds


class Slow(Dataset):
    """Each sample takes its time to load."""

    def __init__(self, clock, seconds):
        self.inner, self.clock, self.seconds = data(24 * 40), clock, seconds

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        self.clock.take(self.seconds)
        return self.inner[index]


class _Taking(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, clock, forward, backward):
        ctx.clock, ctx.backward_seconds = clock, backward
        clock.take(forward * len(x))
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        ctx.clock.take(ctx.backward_seconds * len(gradient))
        return gradient, None, None, None


class Layer(nn.Module):
    """Takes its time for each sample, there and back, and some for each call."""

    def __init__(self, clock, forward, backward, call=0.0):
        super().__init__()
        self.given = (clock, forward, backward)
        self.call = call

    def forward(self, x):
        self.given[0].take(self.call)
        return _Taking.apply(x, *self.given)


class Optimizer(torch.optim.SGD):
    clock = None
    seconds = 0.0

    def step(self, closure=None):
        self.clock.take(self.seconds)
        return super().step(closure)


def planted(*, load=0.0, forward=0.001, backward=0.002, call=0.0, step=0.0):
    """Seconds per sample for loading, forward and backward; per call; per optimizer step."""
    clock = Clock()
    given = parts(nn.ReLU(), Layer(clock, forward, backward, call), val_loader=None)
    given["train_loader"] = loader(Slow(clock, load))
    optimizer = Optimizer(given["model"].parameters(), lr=0.01)
    optimizer.clock, optimizer.seconds = clock, step
    given["optimizer"] = optimizer
    return examined(given, "throughput", clock=clock)


def test_a_sound_run_has_no_finding_and_its_parts_are_timed():
    report = planted(load=0.0001, step=0.004)
    assert report.findings == []
    wanted = {"data ms": 2.4, "transfer ms": 0, "forward ms": 24, "backward ms": 48}
    wanted |= {"optimizer ms": 4, "other ms": 0, "step ms": 78.4}
    for name, value in wanted.items():
        assert report.measures[name] == pytest.approx(value), name
    assert report.measures["steps"] == STEPS
    assert report.measures["samples per second"] == pytest.approx(24 / 0.0784)


def test_a_loader_that_is_waited_for_is_told_with_the_workers_it_needs(monkeypatch):
    monkeypatch.setattr("otf_hooks.health.throughput._cores", lambda: 16)
    report = planted(load=0.01)
    finding = found(report, "train_loader", "waits for its data")
    assert finding.severity is Severity.CRITICAL
    assert finding.value == "240 ms of 312 ms per step (77%)"
    # 240 ms of loading for 72 ms of work.
    assert finding.remedy.startswith("num_workers=4:")


def test_a_device_with_room_is_told_from_a_batch_of_twice_the_size():
    report = planted(call=0.2, forward=0.0001, backward=0.0001)
    finding = found(report, "train_loader", "room for a larger batch")
    assert finding.severity is Severity.INFO
    assert finding.value == "210 ms for 48 samples, and 205 ms for 24"


def test_a_real_run_is_timed_and_told_how_it_was_measured():
    report = checked(parts(), "throughput", steps=4)
    assert report.refusal == ""
    assert 3 <= report.measures["steps"] <= STEPS
    assert report.measures["step ms"] > 0
    assert set(report.measures) >= {"data ms", "forward ms", "backward ms", "optimizer ms"}


# Numbers in, findings out


def timings(data=0.0, transfer=0.0, step=0.1):
    return Timings(data, transfer, 0.0, 0.0, 0.0, 0.0, step)


def told(function, *args, **options):
    notes = Findings()
    function(notes, *args, **options)
    return [(each.severity.value, each.remedy) for each in notes.found]


@pytest.mark.parametrize(
    ("seconds", "workers", "cores", "severity", "remedy"),
    [
        (0.019, 0, 8, None, ""),
        (0.03, 0, 8, "warning", "num_workers=1:"),
        (0.08, 0, 8, "critical", "num_workers=4:"),
        # Four workers load a batch in 0.4 s together; 20 ms of work ask for twenty.
        (0.08, 4, 64, "critical", "num_workers=20:"),
        (0.08, 4, 8, "critical", "num_workers=7, all that the 8 cores"),
        (0.08, 7, 8, "critical", "More workers than 7 have no core"),
    ],
)
def test_workers_are_suggested_as_far_as_there_are_cores(seconds, workers, cores, severity, remedy):
    found_ = told(advice.data, timings(data=seconds), workers=workers, cores=cores)
    assert [each for each, _ in found_] == ([] if severity is None else [severity])
    assert all(text.startswith(remedy) for _, text in found_)


def test_a_wait_below_a_millisecond_is_no_matter():
    assert told(advice.data, timings(data=0.0009, step=0.001), workers=0, cores=8) == []


def test_pinned_memory_is_suggested_only_where_it_was_faster():
    slow = timings(transfer=0.03)
    ((severity, remedy),) = told(advice.transfer, slow, Trials(pageable=0.03, pinned=0.01))
    assert severity == "warning"
    assert remedy.startswith("pin_memory=True: this batch took 10 ms")
    for trials in (
        Trials(pageable=0.03, pinned=0.03),
        Trials(),
        Trials(pageable=0.03, pinned=0.01, is_pinned=True),
    ):
        ((_, remedy),) = told(advice.transfer, slow, trials)
        assert "pin_memory" not in remedy
    assert told(advice.transfer, timings(transfer=0.01), Trials()) == []


def test_mixed_precision_is_suggested_only_where_it_was_faster():
    assert told(advice.mixed_precision, timings(), Trials(plain=0.1)) == []
    assert told(advice.mixed_precision, timings(), Trials(plain=0.1, lowered=0.09)) == []
    ((severity, remedy),) = told(advice.mixed_precision, timings(), Trials(plain=0.1, lowered=0.05))
    assert severity == "info"
    assert remedy.startswith('amp="bf16"')


def test_a_larger_batch_is_not_suggested_while_data_is_waited_for():
    trials = Trials(plain=0.1, doubled=0.1)
    assert len(told(advice.batch_size, timings(), trials, 32)) == 1
    assert told(advice.batch_size, timings(data=0.05), trials, 32) == []
    assert told(advice.batch_size, timings(), Trials(plain=0.1, doubled=0.2), 32) == []
