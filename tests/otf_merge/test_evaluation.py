"""Evaluation leaves no trace and says a plain mean; models take what fits them and nothing else."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from otf_merge.errors import InvalidTask
from otf_merge.evaluation import Scores, evaluate, load_into, model_with, names_between, names_in
from otf_merge.randomness import seeded
from otf_merge.task import Task
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


def noisy() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


def uneven(sizes: tuple[int, ...] = (5, 2, 1)) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(n, 3, generator=generator), torch.randint(2, (n,), generator=generator))
        for n in sizes
    ]


def test_scores_are_means_over_all_samples() -> None:
    torch.manual_seed(0)
    model, batches = noisy(), uneven()
    scores = evaluate(model, Task(noisy, batches))
    model.eval()
    x, y = (torch.cat(parts) for parts in zip(*batches))
    outputs = model(x).detach()
    assert scores.samples == 8
    assert scores.loss == pytest.approx(float(nn.functional.cross_entropy(outputs, y)), rel=1e-6)
    assert scores.metric == pytest.approx(float((outputs.argmax(1) == y).double().mean()))
    other = evaluate(model, Task(noisy, batches), uneven((4,)))
    assert other.samples == 4


def states() -> list[Any]:
    return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]


class Shifted(nn.Module):
    """Draws random numbers, also in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        shift = random.random() + float(np.random.rand()) + torch.rand(())
        return self.layer(x + shift)  # type: ignore[no-any-return]


def test_evaluation_leaves_no_trace_and_is_the_same_every_time() -> None:
    generator = torch.Generator().manual_seed(3)
    x, y = (torch.cat(parts) for parts in zip(*uneven((40,))))
    data = TensorDataset(x, y)
    loader = DataLoader(data, batch_size=7, shuffle=True, generator=generator)
    model = nn.Sequential(Shifted(), nn.Dropout(0.5))
    model[1].eval()
    task = Task(lambda: model, loader)
    before, own = states(), generator.get_state().tolist()
    first = evaluate(model, task)
    assert states() == before
    assert generator.get_state().tolist() == own
    assert [part.training for part in model] == [True, False]
    assert all(parameter.grad is None for parameter in model.parameters())
    torch.manual_seed(99)
    torch.rand(3, generator=generator)
    assert evaluate(model, task) == first


def test_generators_are_put_back_when_something_fails() -> None:
    before = states()

    def draw_and_fail() -> None:
        with seeded(1):
            torch.rand(1)
            raise KeyError

    with pytest.raises(KeyError):
        draw_and_fail()
    assert states() == before


def test_without_batches_or_with_a_failing_task_it_says_so() -> None:
    model = nn.Linear(3, 2)
    once: Iterator[Any] = iter(uneven())
    task = Task(lambda: model, once)
    evaluate(model, task)
    with pytest.raises(InvalidTask, match="no batches, or none the second time"):
        evaluate(model, task)

    def broken(outputs: Tensor, targets: Tensor) -> Tensor:
        raise ValueError("no such loss")

    with pytest.raises(InvalidTask, match=r"ValueError: no such loss \(test_evaluation.py, line"):
        evaluate(model, Task(lambda: model, uneven(), loss=broken))


def test_a_score_that_is_no_number_is_the_worst() -> None:
    good, bad = Scores(1.0, 0.1, 1), Scores(0.0, math.nan, 1)
    assert good.rank > bad.rank
    assert Scores(0.5, 0.1, 1).rank > good.rank
    assert Scores(math.nan, 0.1, 1).rank < good.rank


# Putting tensors into a model


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight


@pytest.mark.parametrize("prefix", ["", "module.", "net.", "module._orig_mod.", "task.net."])
def test_prefixes_are_reconciled(prefix: str) -> None:
    source, model = noisy(), noisy()
    load_into(model, {prefix + name: tensor for name, tensor in source.state_dict().items()})
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]), name


def test_of_tied_tensors_one_is_enough() -> None:
    model = Tied()
    weight = torch.randn(5, 3)
    for name in ("embedding.weight", "head.weight"):
        load_into(model, {name: weight + len(name)})
        assert torch.equal(model.embedding.weight, weight + len(name))
        assert names_in(model, [name]) == {"embedding.weight": name, "head.weight": name}
    load_into(model, {"embedding.weight": weight, "head.weight": weight})


def test_narrower_tensors_are_widened_and_random_numbers_left_alone() -> None:
    source = noisy().to(torch.bfloat16)
    before = states()
    task = Task(noisy, [])
    model = model_with(task, source.state_dict())
    assert states() == before
    assert not model.training
    assert model.state_dict()["0.weight"].dtype == torch.float32
    assert torch.equal(model.state_dict()["0.weight"], source.state_dict()["0.weight"].float())


def test_what_does_not_fit_is_listed() -> None:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(6)))
    state = dict(model.state_dict())
    del state["0.weight"]
    state["extra"] = torch.zeros(1)
    state["1.bias"] = torch.zeros(3)
    with pytest.raises(InvalidTask) as raised:
        load_into(model, state)
    message = str(raised.value)
    assert "`0.weight`: not in the checkpoint" in message
    assert "`extra`: not in the model" in message
    assert "`1.bias`: [2] in the model, [3] in the checkpoint" in message
    with pytest.raises(InvalidTask, match=r"(?s)\n  and 2 more\n"):
        load_into(model, {})
    with pytest.raises(InvalidTask, match="made a int"):
        model_with(Task(lambda: 3, []), {})  # type: ignore[arg-type, return-value]
    with pytest.raises(InvalidTask, match="The task's `model` failed with ZeroDivisionError"):
        model_with(Task(lambda: 1 / 0, []), {})  # type: ignore[arg-type, return-value]


def test_a_prefix_is_set_aside_only_where_more_names_meet() -> None:
    assert names_between(["a.w", "b.w"], ["net.a.w", "net.b.w", "net.c.w"]) == {
        "a.w": "net.a.w",
        "b.w": "net.b.w",
    }
    assert names_between(["net.w"], ["net.w", "net.v"]) == {"net.w": "net.w"}
    assert names_between(["w"], []) == {}
