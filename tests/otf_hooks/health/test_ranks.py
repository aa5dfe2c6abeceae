"""Several processes: what they say of themselves, compared; and two real ones over gloo."""

import os
import socket

import pytest
import torch
from otf_hooks.front import Probe
from otf_hooks.health import ranks
from otf_hooks.health.findings import Findings
from otf_hooks.health.ranks import RankReport
from otf_session.health import Severity
from torch import distributed as dist
from torch import multiprocessing, nn
from torch.utils.data import DataLoader, DistributedSampler

from .checked import data

SAME = {"0.weight": "a", "0.bias": "b"}


def report(rank, **change):
    given = {
        "rank": rank,
        "world": 3,
        "backend": "gloo",
        "device": "cpu",
        "parameters": SAME,
        "buffers": {"1.running_mean": "c"},
        "step_time": 0.1,
        "indices": range(100 * rank, 100 * rank + 100),
    }
    return RankReport(**{**given, **change})


def told(*reports):
    notes = Findings()
    ranks.compare(notes, reports)
    return notes, [(each.severity, each.where, each.value) for each in notes.found]


def test_processes_that_are_alike_have_no_finding():
    notes, findings = told(report(0), report(1), report(2))
    assert findings == []
    assert notes.facts == {"world": "3", "backend": "gloo", "devices": "cpu, cpu, cpu"}
    assert notes.measures["parameters that differ"] == 0


def test_a_parameter_that_differs_names_the_ranks():
    other = {**SAME, "0.bias": "x"}
    _, findings = told(report(0), report(1, parameters=other), report(2))
    assert findings == [(Severity.CRITICAL, "0.bias", "ranks 0 2 | 1")]


def test_a_buffer_that_differs_is_a_warning():
    _, findings = told(report(0), report(1, buffers={"1.running_mean": "y"}), report(2))
    assert findings == [(Severity.WARNING, "1.running_mean", "ranks 0 2 | 1")]


def test_a_straggler_is_named():
    _, findings = told(report(0), report(1), report(2, step_time=0.2))
    assert findings == [(Severity.WARNING, "rank 2", "200 ms a step, the others 100 ms")]


def test_parameters_without_a_gradient_are_told():
    _, findings = told(*(report(rank, unused=["0.bias"]) for rank in range(3)))
    assert findings == [(Severity.INFO, "0.bias", "in all processes")]
    _, findings = told(report(0), report(1, unused=["0.bias"]), report(2))
    assert findings == [(Severity.CRITICAL, "0.bias", "none on ranks 1")]


def test_samples_that_several_train_on_are_told():
    _, findings = told(report(0), report(1, indices=range(50, 150)), report(2, indices=[]))
    assert findings == []
    _, findings = told(report(0), report(1, indices=range(50, 150)), report(2))
    assert [(severity, where) for severity, where, _ in findings] == [
        (Severity.CRITICAL, "rank 0"),
        (Severity.CRITICAL, "rank 1"),
    ]
    # Padding makes a few of them double.
    _, findings = told(report(0), report(1, indices=[*range(100, 199), 0]), report(2))
    assert findings == []


def process(rank, port, folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    model(torch.randn(4, 8)).sum().backward()
    dataset = data(96)
    found = [compared(model, DistributedSampler(dataset))]
    # Faults: another weight, a gradient that is missing, and one share of the data for both.
    if rank == 1:
        with torch.no_grad():
            model[2].weight[0, 0] += 1e-6
        model[0].weight.grad = None
    found.append(compared(model, DistributedSampler(dataset, rank=0)))
    if rank == 0:
        torch.save(found, folder / "found.pt")
    dist.destroy_process_group()


def compared(model, sampler):
    loader = DataLoader(sampler.dataset, batch_size=12, sampler=sampler)
    report_ = ranks.described(Probe(model, [], loader, None, torch.device("cpu")))
    values = [None] * 2
    dist.all_gather_object(values, tuple(report_))
    notes = Findings()
    ranks.compare(notes, [RankReport(*each) for each in values])
    return notes.facts, [(each.where, each.severity.value) for each in notes.found]


@pytest.mark.skipif(not dist.is_available(), reason="this torch has no processes")
def test_two_real_processes_are_compared(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(process, (port, tmp_path), nprocs=2)
    (facts, sound), (_, planted) = torch.load(tmp_path / "found.pt", weights_only=True)
    assert facts == {"world": "2", "backend": "gloo", "devices": "cpu, cpu"}
    assert sound == []
    assert planted == [
        ("2.weight", "critical"),
        ("0.weight", "critical"),
        ("rank 0", "critical"),
        ("rank 1", "critical"),
    ]
