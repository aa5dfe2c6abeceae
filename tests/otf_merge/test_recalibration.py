"""Normalisation statistics, taken anew: against the means of batches' means by hand."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from otf_merge.errors import InvalidTask
from otf_merge.evaluation import evaluate
from otf_merge.recalibration import Recalibrated, has_running_statistics, recalibrate
from otf_merge.task import Task
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn


def batches(count: int, size: int = 8, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    x = 3 * torch.randn(count, size, 5, generator=generator) + 2
    return [(it, torch.zeros(size, dtype=torch.long)) for it in x]


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.BatchNorm1d(4))


def task_of(data: Any, **more: Any) -> Task:
    return Task(plain, data, train=data, **more)


def test_statistics_are_the_means_of_the_batches() -> None:
    torch.manual_seed(0)
    model, data = plain(), batches(12)
    model[1].momentum = 0.3
    model[0].eval()
    outputs = [model[0](x).detach() for x, _ in data]
    done = recalibrate(model, task_of(data))
    assert done == Recalibrated(layers=2, batches=12, samples=96)
    means = torch.stack([it.mean(0) for it in outputs]).mean(0)
    variances = torch.stack([it.var(0, unbiased=True) for it in outputs]).mean(0)
    torch.testing.assert_close(model[1].running_mean, means)
    torch.testing.assert_close(model[1].running_var, variances)
    assert int(model[1].num_batches_tracked) == 12
    assert model[1].momentum == 0.3
    assert [it.training for it in model] == [False, True, True, True]


def test_it_is_what_torch_does() -> None:
    torch.manual_seed(0)
    model, data = plain(), batches(10)
    other = plain()
    other.load_state_dict(model.state_dict())
    recalibrate(model, task_of(data))
    update_bn([x for x, _ in data], other)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], msg=name)


def test_dropout_does_not_act_and_generators_are_left_alone() -> None:
    model = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(5))
    data = batches(10)
    state = torch.get_rng_state()
    python = random.getstate()
    recalibrate(model, task_of(data))
    expected = torch.stack([x.mean(0) for x, _ in data]).mean(0)
    torch.testing.assert_close(model[1].running_mean, expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == python
    assert model[0].training


@pytest.mark.parametrize(
    ("count", "most", "seen"),
    [(4, 100, 12), (30, 100, 30), (30, 15, 15), (30, 1, 10), (1, 100, 10)],
)
def test_one_pass_but_ten_batches_at_least(count: int, most: int, seen: int) -> None:
    model = nn.BatchNorm1d(5)
    done = recalibrate(model, task_of(batches(count)), batches=most)
    assert done.batches == seen
    assert int(model.num_batches_tracked or 0) == seen


def test_domains_take_turns_without_training_data() -> None:
    model = nn.BatchNorm1d(5)
    near, far = batches(20), [(x + 100, y) for x, y in batches(20)]
    recalibrate(model, Task(plain, [], domains=[near, far]), batches=10)
    x = torch.stack([*(x for x, _ in near[:5]), *(x for x, _ in far[:5])])
    torch.testing.assert_close(model.running_mean, x.mean(dim=(0, 1)))


def test_batches_of_one_sample_are_left_out() -> None:
    model = nn.BatchNorm1d(5)
    data = [*batches(10), *batches(1, size=1)]
    assert recalibrate(model, task_of(data)).batches == 10
    with pytest.raises(InvalidTask, match="more than one sample"):
        recalibrate(model, task_of(batches(3, size=1)))
    with pytest.raises(InvalidTask, match="no training data"):
        recalibrate(model, Task(plain, []))


def test_only_layers_with_running_statistics_count() -> None:
    without = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, track_running_stats=False))
    assert not has_running_statistics(without)
    assert recalibrate(without, Task(plain, [])) == Recalibrated(0, 0, 0)
    assert has_running_statistics(nn.InstanceNorm1d(4, track_running_stats=True))
    assert has_running_statistics(plain())


def test_a_failing_task_leaves_momenta_and_modes_as_they_were() -> None:
    model = plain()
    task = Task(plain, [], train=[(torch.zeros(3, 2), torch.zeros(3))])
    with pytest.raises(InvalidTask, match="The task's `outputs` failed with RuntimeError"):
        recalibrate(model, task)
    assert [it.training for it in model] == [True] * 4
    assert model[1].momentum == 0.1


def test_a_layer_of_another_scale_is_the_same_once_recalibrated() -> None:
    # Averaging distant layers makes their outputs smaller, which statistics must follow.
    torch.manual_seed(0)
    data = batches(12)
    model = plain()
    task = task_of([(x, torch.randint(4, (8,))) for x, _ in data])
    recalibrate(model, task)
    before = evaluate(model, task).loss
    with torch.no_grad():
        model[0].weight.mul_(0.2)
        model[0].bias.mul_(0.2)
    assert abs(evaluate(model, task).loss - before) > 0.01
    recalibrate(model, task)
    assert evaluate(model, task).loss == pytest.approx(before, abs=1e-3)
