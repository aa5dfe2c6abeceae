"""The Fisher diagonal from data against a plain loop over samples and classes."""

from __future__ import annotations

import random
from typing import Any, Callable

import pytest
import torch
from otf_merge.errors import InvalidTask
from otf_merge.fisher import exact, exact_fisher
from otf_merge.fisher.exact import Kind
from otf_merge.task import Task
from torch import Tensor, nn

Build = Callable[[], nn.Module]


def dense() -> nn.Module:
    layers = [nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3)]
    return nn.Sequential(*layers)


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)),
        nn.Conv2d(1, 3, 2, padding=1),
        nn.BatchNorm2d(3),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(27, 3),
    )


class Recurrent(nn.Module):
    """What torch.func cannot follow: its kernels write into tensors of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(1, 5, batch_first=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.cell(x.unsqueeze(-1))
        return self.head(states[:, -1])  # type: ignore[no-any-return]


class Deciding(nn.Module):
    """Goes another way for some samples."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.low(x) if float(x.sum()) < 0 else self.high(x)  # type: ignore[no-any-return]


def data(count: int = 11, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(count, 4, dtype=torch.float64, generator=generator)
    return x, torch.randint(classes, (count,), generator=generator)


def made(build: Build) -> nn.Module:
    torch.manual_seed(1)
    model = build().double()
    for part in model.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            part.running_mean = torch.randn(part.num_features).double()
            part.running_var = torch.rand(part.num_features).double() + 0.5
    return model


def squared(model: nn.Module, number: Tensor) -> list[Tensor]:
    parameters = list(model.parameters())
    found = torch.autograd.grad(number, parameters, retain_graph=True, allow_unused=True)
    return [
        torch.zeros_like(parameter) if it is None else it.square()
        for parameter, it in zip(parameters, found)
    ]


def naive(model: nn.Module, x: Tensor, y: Tensor, kind: str) -> dict[str, Tensor]:
    """Each sample and class by itself."""
    model.eval()
    totals = [torch.zeros_like(it) for it in model.parameters()]
    for sample, label in zip(x, y):
        logs = model(sample.unsqueeze(0))[0].log_softmax(0)
        classes = range(len(logs)) if kind == "true" else [int(label)]
        for c in classes:
            weight = float(logs[c].detach().exp()) if kind == "true" else 1.0
            for total, square in zip(totals, squared(model, logs[c])):
                total.add_(square, alpha=weight)
    names = [name for name, _ in model.named_parameters()]
    model.train()
    return {name: total / len(x) for name, total in zip(names, totals)}


def batches(x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(4), y.split(4)))


def assert_same(found: Any, expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-9, atol=1e-14, msg=name)


@pytest.mark.parametrize("kind", ["true", "empirical"])
@pytest.mark.parametrize("build", [dense, convolutional, Recurrent, Deciding])
def test_it_is_the_loop_over_samples_and_classes(build: Build, kind: Kind) -> None:
    model, (x, y) = made(build), data()
    found = exact_fisher(model, batches(x, y), Task(build, []), kind=kind)
    assert found.samples == 11
    assert_same(found.diagonal, naive(model, x, y, kind))
    # Only what torch.func cannot follow is taken one by one, and that is said.
    assert bool(found.one_by_one) == (build in (Recurrent, Deciding))
    assert "\n" not in found.one_by_one


@pytest.mark.parametrize(("held", "together"), [(1, 64), (200, 64), (1 << 26, 2)])
def test_portions_make_no_difference(
    held: int, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (x, y) = made(dense), data()
    monkeypatch.setattr(exact, "_HELD", held)
    monkeypatch.setattr(exact, "_TOGETHER", together)
    found = exact_fisher(model, batches(x, y), Task(dense, []))
    assert not found.one_by_one
    assert_same(found.diagonal, naive(model, x, y, "true"))


def test_only_so_many_samples_are_looked_at() -> None:
    model, (x, y) = made(dense), data()
    told: list[tuple[float, float, str]] = []
    found = exact_fisher(
        model, batches(x, y), Task(dense, []), samples=6, progress=lambda *it: told.append(it)
    )
    assert found.samples == 6
    assert_same(found.diagonal, naive(model, x[:6], y[:6], "true"))
    assert told == [(4, 6, "samples"), (6, 6, "samples")]


def test_a_class_drawn_from_the_model_is_as_good_on_average() -> None:
    model = made(lambda: nn.Linear(4, 3))
    x = data(1)[0].repeat(4000, 1)
    y = torch.zeros(4000, dtype=torch.long)
    task = Task(dense, [])
    found = exact_fisher(model, [(x, y)], task, 4000, "sampled", seed=3)
    expected = naive(model, x[:1], y[:1], "true")
    for name, tensor in expected.items():
        torch.testing.assert_close(found.diagonal[name], tensor, rtol=0.1, atol=0.0)
    again = exact_fisher(model, [(x, y)], task, 4000, "sampled", seed=3)
    assert torch.equal(found.diagonal["weight"], again.diagonal["weight"])
    other = exact_fisher(model, [(x, y)], task, 4000, "sampled", seed=4)
    assert not torch.equal(found.diagonal["weight"], other.diagonal["weight"])


def test_sampled_squares_the_gradient_of_one_class() -> None:
    # Where one class is all but certain, it is the one that is drawn.
    model = made(lambda: nn.Linear(4, 3))
    with torch.no_grad():
        model.bias.copy_(torch.tensor([0.0, 40.0, 0.0]))  # type: ignore[operator, union-attr]
    x, _ = data()
    found = exact_fisher(model, [(x, torch.zeros(11).long())], Task(dense, []), kind="sampled")
    assert_same(found.diagonal, naive(model, x, torch.ones(11).long(), "empirical"))


class Tagger(nn.Module):
    """Classifies each of four numbers, in the light of all."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.head = nn.Linear(4, 4), nn.Linear(1, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.mix(x)).unsqueeze(-1))  # type: ignore[no-any-return]


def test_each_place_of_a_sequence_is_a_prediction_of_its_own() -> None:
    model, (x, _) = made(Tagger), data(5)
    y = torch.zeros(5, 4, dtype=torch.long)
    found = exact_fisher(model, [{"x": x, "labels": y}], Task(Tagger, []))
    totals = [torch.zeros_like(it) for it in model.parameters()]
    for sample in x:
        for row in model(sample.unsqueeze(0))[0].log_softmax(-1):
            for log in row:
                for total, square in zip(totals, squared(model, log)):
                    total.add_(square, alpha=float(log.detach().exp()))
    names = [name for name, _ in model.named_parameters()]
    assert_same(found.diagonal, {name: it / 5 for name, it in zip(names, totals)})


def test_any_loss_has_an_empirical_diagonal() -> None:
    model, (x, _) = made(lambda: nn.Linear(4, 1)), data(6)
    y = x.sum(1, keepdim=True)
    task = Task(dense, [], loss=nn.functional.mse_loss)
    found = exact_fisher(model, [(x, y)], task, kind="empirical")
    error = (model(x) - y).detach()
    torch.testing.assert_close(found.diagonal["weight"], (2 * error * x).square().mean(0)[None])
    with pytest.raises(InvalidTask, match="not logits and classes.*kind=empirical"):
        exact_fisher(model, [(x, y)], task)


def test_narrow_parameters_have_a_wider_diagonal() -> None:
    model = made(dense).to(torch.bfloat16)
    x, y = data()
    found = exact_fisher(model, [(x.to(torch.bfloat16), y)], Task(dense, []))
    assert {it.dtype for it in found.diagonal.values()} == {torch.float32}
    assert not found.one_by_one


def test_it_leaves_no_trace() -> None:
    model, (x, y) = made(dense), data()
    model[0].weight.requires_grad_(False)  # type: ignore[index, union-attr, operator]
    model[3].eval()  # type: ignore[index, union-attr, operator]
    before = {name: it.clone() for name, it in model.state_dict().items()}
    states = torch.get_rng_state(), random.getstate()
    found = exact_fisher(model, batches(x, y), Task(dense, []))
    assert "0.weight" not in found.diagonal
    assert set(found.diagonal) == {n for n, _ in model.named_parameters()} - {"0.weight"}
    assert all(torch.equal(it, before[name]) for name, it in model.state_dict().items())
    assert all(it.grad is None for it in model.parameters())
    assert [it.training for it in model] == [True, True, True, False, True]  # type: ignore[attr-defined]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


def test_what_cannot_be_done_is_told() -> None:
    x, y = data()
    with pytest.raises(InvalidTask, match="no batches"):
        exact_fisher(made(dense), [], Task(dense, []))
    without = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False))
    with pytest.raises(InvalidTask, match="`1` takes its statistics from the batch"):
        exact_fisher(without.double(), batches(x, y), Task(dense, []))

    def broken(outputs: Tensor, targets: Tensor) -> Tensor:
        raise ValueError("no such loss")

    with pytest.raises(InvalidTask, match="ValueError: no such loss"):
        exact_fisher(made(dense), batches(x, y), Task(dense, [], loss=broken), kind="empirical")
    with pytest.raises(InvalidTask, match="not logits and classes"):
        exact_fisher(made(lambda: nn.Linear(4, 1)), batches(x, y), Task(dense, []))
