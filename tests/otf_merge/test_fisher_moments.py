"""The Fisher diagonal from optimizers' states, and whose state is whose."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from otf_merge.checkpoints.formats import open_checkpoint
from otf_merge.errors import InvalidInputs
from otf_merge.fisher import second_moments
from otf_merge.fisher.positions import assigned
from otf_merge.parents import Parent
from sklearn.datasets import load_digits
from torch import Tensor, nn

Save = Callable[[str, Any], Path]


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))


def trained(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 5
) -> dict[str, list[Tensor]]:
    """Train on digits; the gradients of every step by parameter name."""
    digits = load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32) / 16
    y = torch.tensor(digits.target)
    gradients: dict[str, list[Tensor]] = {}
    for step in range(steps):
        batch = slice(32 * step, 32 * (step + 1))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                gradients.setdefault(name, []).append(parameter.grad.double())
        optimizer.step()
    return gradients


def running_mean(gradients: Sequence[Tensor], decay: float) -> Tensor:
    """The mean of squares with weights that decay, which add up to 1."""
    weights = [decay ** (len(gradients) - 1 - place) for place in range(len(gradients))]
    return torch.stack([w * it.square() for w, it in zip(weights, gradients)]).sum(0) / sum(weights)


def plain_mean(gradients: Sequence[Tensor], _: float) -> Tensor:
    return torch.stack([it.square() for it in gradients]).mean(0)


def read(path: Path, names: dict[str, str] | None = None) -> dict[str, Tensor]:
    """The second moments in a file, whole and piece by piece alike."""
    with opened(path, names) as parent:
        found = second_moments(parent)
        assert found is not None
        diagonal = found.diagonal
        result = {}
        for name, spec in diagonal.specs.items():
            whole = diagonal.read(name)
            half = spec.numel // 2
            pieces = [diagonal.read(name, 0, half), diagonal.read(name, half, spec.numel)]
            assert torch.equal(torch.cat(pieces), whole)
            result[name] = whole.reshape(spec.shape)
        return result


class opened:  # noqa: N801 - a context manager
    def __init__(self, path: Path, names: dict[str, str] | None = None) -> None:
        self.file = open_checkpoint(path, None)
        self.parent = Parent(self.file, names or {name: name for name in self.file.specs})

    def __enter__(self) -> Parent:
        return self.parent

    def __exit__(self, *_: object) -> None:
        self.file.close()


KEPT: list[tuple[str, dict[str, Any], Any, float]] = [
    ("Adam", {"betas": (0.9, 0.95)}, running_mean, 0.95),
    ("Adam", {"amsgrad": True}, running_mean, 0.999),
    ("AdamW", {"betas": (0.5, 0.9)}, running_mean, 0.9),
    ("NAdam", {}, running_mean, 0.999),
    ("RAdam", {}, running_mean, 0.999),
    ("RMSprop", {"alpha": 0.9}, running_mean, 0.9),
    ("RMSprop", {"alpha": 0.9, "centered": True, "momentum": 0.5}, running_mean, 0.9),
    ("Adadelta", {"rho": 0.8}, running_mean, 0.8),
    ("Adagrad", {"initial_accumulator_value": 0.5}, plain_mean, 0.0),
]


@pytest.mark.parametrize(("name", "options", "mean", "decay"), KEPT)
def test_it_is_the_mean_of_squared_gradients(
    save: Save, name: str, options: dict[str, Any], mean: Any, decay: float
) -> None:
    torch.manual_seed(0)
    model = net()
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=1e-3, **options)
    gradients = trained(model, optimizer)
    path = save("a.pt", {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    found = read(path)
    assert sorted(found) == sorted(gradients)
    for parameter, tensor in found.items():
        expected = mean(gradients[parameter], decay).float()
        # The sums were taken in float32, and Adagrad's starts from a number of its own.
        torch.testing.assert_close(tensor, expected, rtol=1e-4, atol=1e-7, msg=parameter)


REFUSED = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("Adamax", {}),
    ("Rprop", {}),
    ("Adafactor", {}),
]


@pytest.mark.parametrize(("name", "options"), REFUSED)
def test_an_optimizer_without_second_moments_is_refused(
    save: Save, name: str, options: dict[str, Any]
) -> None:
    if not hasattr(torch.optim, name):
        pytest.skip(f"this torch has no {name}")
    model = net()
    optimizer = getattr(torch.optim, name)(model.parameters(), **options)
    trained(model, optimizer, 2)
    path = save("a.pt", {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    with opened(path) as parent, pytest.raises(InvalidInputs) as raised:
        second_moments(parent)
    assert "no second moments of each weight: it keeps" in str(raised.value)
    assert "--fisher" in str(raised.value)
    assert "--task" in str(raised.value)


def test_states_of_other_libraries_that_look_alike_are_refused(save: Save) -> None:
    weight = torch.zeros(2, 2)
    # Eight bits a number; and a factored moment, which is whole for vectors alone.
    eight_bits = {"step": 3, "state1": torch.zeros(4, dtype=torch.uint8), "qmap1": torch.zeros(2)}
    factored = {"step": 3, "exp_avg_sq_row": torch.ones(2), "exp_avg_sq_col": torch.ones(2)}
    vector = {"step": 3, "exp_avg_sq": torch.ones(2, 2)}
    packed = {"step": 3, "exp_avg_sq": torch.ones(2, 2, dtype=torch.uint8)}
    for group, state in [
        ({"betas": (0.9, 0.999)}, eight_bits),
        ({"betas": (0.9, 0.999)}, packed),
        ({"decay_rate": -0.8}, factored),
        ({"decay_rate": -0.8}, vector),
        ({"betas": (0.9, 0.99, 0.999)}, vector),
    ]:
        saved = {"state": {0: state}, "param_groups": [{"params": [0], **group}]}
        path = save("a.pt", {"model": {"w": weight}, "optimizer": saved})
        with opened(path) as parent, pytest.raises(InvalidInputs, match="no second moments"):
            second_moments(parent)


# Where states are kept


def adam(steps: int = 3, **more: Any) -> tuple[nn.Module, torch.optim.Optimizer, dict[str, Tensor]]:
    """A trained model, its optimizer, and what is to be found of it."""
    torch.manual_seed(0)
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), **more)
    gradients = trained(model, optimizer, steps)
    return model, optimizer, {name: running_mean(it, 0.999) for name, it in gradients.items()}


def assert_found(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert sorted(found) == sorted(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name].double(), tensor, rtol=1e-4, atol=1e-12, msg=name)


@pytest.mark.parametrize(
    "key", ["optimizer", "optimizer_state_dict", "optim", "optimizer_state", "optimizers"]
)
def test_usual_places(save: Save, key: str) -> None:
    model, optimizer, expected = adam()
    state: Any = optimizer.state_dict()
    if key == "optimizers":
        state = {"main": state}
    assert_found(read(save("a.pt", {"state_dict": model.state_dict(), key: state})), expected)


def test_a_checkpoint_as_lightning_writes_it(save: Save) -> None:
    model, optimizer, expected = adam()
    weights = {f"net.{name}": it for name, it in model.state_dict().items()}
    path = save(
        "a.ckpt",
        {
            "epoch": 1,
            "global_step": 3,
            "pytorch-lightning_version": "2.4.0",
            "state_dict": weights,
            "loops": {},
            "optimizer_states": [optimizer.state_dict()],
            "lr_schedulers": [],
        },
    )
    assert_found(read(path), {f"net.{name}": it for name, it in expected.items()})
    # The first checkpoint's names count.
    names = {name.replace("net.", "module."): name for name in weights}
    assert_found(read(path, names), {f"module.{name}": it for name, it in expected.items()})


def test_several_optimizers_complete_each_other(save: Save) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 10))
    # The second one has a bias in the place of either, until the first has taken its own.
    halves = [[*model[0].parameters()], [*model[2].parameters(), *model[3].parameters()]]
    optimizers = [torch.optim.Adam(it) for it in halves]

    class Both:
        def zero_grad(self) -> None:
            model.zero_grad()

        def step(self) -> None:
            for it in optimizers:
                it.step()

    gradients = trained(model, Both(), 3)  # type: ignore[arg-type]
    path = save(
        "a.ckpt",
        {
            "state_dict": model.state_dict(),
            "optimizer_states": [it.state_dict() for it in optimizers],
        },
    )
    assert_found(read(path), {name: running_mean(it, 0.999) for name, it in gradients.items()})


def test_without_a_state_there_is_nothing(save: Save) -> None:
    for saved in (net().state_dict(), {"model": net().state_dict(), "optimizer": None}):
        with opened(save("a.pt", saved)) as parent:
            assert second_moments(parent) is None


# Which state is whose


def test_names_that_the_state_keeps_are_used(save: Save) -> None:
    torch.manual_seed(0)
    model = net()
    named = list(model.named_parameters())[::-1]
    optimizer = torch.optim.Adam([parameter for _, parameter in named])
    gradients = trained(model, optimizer, 3)
    state = optimizer.state_dict()
    state["param_groups"][0]["param_names"] = [name for name, _ in named]
    path = save("a.pt", {"model": model.state_dict(), "optimizer": state})
    assert_found(read(path), {name: running_mean(it, 0.999) for name, it in gradients.items()})
    # In the place of numbers, as sharded training gathers them.
    by_name = {
        "state": {name: state["state"][place] for place, (name, _) in enumerate(named)},
        "param_groups": [{**state["param_groups"][0], "params": [name for name, _ in named]}],
    }
    del by_name["param_groups"][0]["param_names"]  # type: ignore[index]
    path = save("b.pt", {"model": model.state_dict(), "optimizer": by_name})
    assert_found(read(path), {name: running_mean(it, 0.999) for name, it in gradients.items()})


def deep() -> nn.Module:
    layers = [[nn.Linear(8, 8), nn.LayerNorm(8), nn.ReLU()] for _ in range(3)]
    flat = [part for layer in layers for part in layer]
    return nn.Sequential(nn.Linear(64, 8), *flat, nn.Linear(8, 10))


def test_groups_by_decay_are_told_apart(save: Save) -> None:
    torch.manual_seed(0)
    model = deep()
    parameters = list(model.parameters())
    groups = [
        {"params": [it for it in parameters if it.dim() > 1], "weight_decay": 0.1},
        {"params": [it for it in parameters if it.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups)
    gradients = trained(model, optimizer, 3)
    path = save("a.pt", {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    assert_found(read(path), {name: running_mean(it, 0.999) for name, it in gradients.items()})


def test_what_may_be_one_of_several_is_refused(save: Save) -> None:
    torch.manual_seed(0)
    model = deep()
    parameters = list(model.parameters())
    # The last layers first: by shape alone nobody could tell.
    optimizer = torch.optim.Adam([{"params": parameters[6:]}, {"params": parameters[:6]}])
    trained(model, optimizer, 2)
    path = save("a.pt", {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    with opened(path) as parent, pytest.raises(InvalidInputs) as raised:
        second_moments(parent)
    assert "may be one of several tensors" in str(raised.value)
    assert "model.named_parameters()" in str(raised.value)


def test_a_state_of_another_model_is_refused(save: Save) -> None:
    _, optimizer, _ = adam()
    other = nn.Sequential(nn.Linear(64, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 10))
    path = save("a.pt", {"model": other.state_dict(), "optimizer": optimizer.state_dict()})
    with opened(path) as parent, pytest.raises(InvalidInputs, match="does not fit the weights"):
        second_moments(parent)
    named = optimizer.state_dict()
    names = [name for name, _ in net().named_parameters()]
    named["param_groups"][0]["param_names"] = [names[0] + "x", *names[1:]]
    path = save("b.pt", {"model": net().state_dict(), "optimizer": named})
    with opened(path) as parent, pytest.raises(InvalidInputs, match="does not fit the weights"):
        second_moments(parent)


def test_frozen_parameters_have_none(save: Save) -> None:
    torch.manual_seed(0)
    model = deep()
    frozen = [name for name, _ in model.named_parameters()][2:6]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    for place, trainable in enumerate(
        [list(model.parameters()), [it for it in model.parameters() if it.requires_grad]]
    ):
        optimizer = torch.optim.Adam(trainable)
        gradients = trained(model, optimizer, 2)
        saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        expected = {name: running_mean(it, 0.999) for name, it in gradients.items()}
        assert not set(frozen) & set(expected)
        # As this project's checkpoints tell of them.
        assert_found(read(save(f"{place}.pt", {**saved, "frozen": frozen})), expected)


def test_tied_weights_and_buffers_are_no_parameters_of_their_own(save: Save) -> None:
    torch.manual_seed(0)

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(64, 64)
            self.norm = nn.BatchNorm1d(64)
            self.again = nn.Linear(64, 64, bias=False)
            self.again.weight = self.inner.weight
            self.head = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.again(self.norm(self.inner(x))))  # type: ignore[no-any-return]

    model = Tied()
    optimizer = torch.optim.Adam(model.parameters())
    gradients = trained(model, optimizer, 2)
    path = save("a.pt", {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    assert "again.weight" not in gradients
    assert_found(read(path), {name: running_mean(it, 0.999) for name, it in gradients.items()})


def test_a_folder_says_nothing_of_the_order(save: Save) -> None:
    model, optimizer, expected = adam()
    save("run/pytorch_model.bin", model.state_dict())
    save("run/optimizer.pt", optimizer.state_dict())
    with (
        opened(Path("run")) as parent,
        pytest.raises(InvalidInputs, match="nothing of their order"),
    ):
        second_moments(parent)
    named = optimizer.state_dict()
    named["param_groups"][0]["param_names"] = [name for name, _ in model.named_parameters()]
    save("run/optimizer.pt", named)
    assert_found(read(Path("run")), expected)


# The assignment against all that are possible

SHAPES = [(2,), (3,)]


@st.composite
def puzzles(draw: Any) -> tuple[list[list[int]], dict[int, Any], dict[str, tuple[int, ...]]]:
    names = {f"t{i}": draw(st.sampled_from(SHAPES)) for i in range(draw(st.integers(0, 5)))}
    count = draw(st.integers(0, 5))
    shapes = {i: draw(st.sampled_from([*SHAPES, SHAPES[0], None])) for i in range(count)}
    split = draw(st.integers(0, count))
    return [list(range(split)), list(range(split, count))], shapes, names


def placements(
    groups: list[list[int]], shapes: dict[int, Any], names: dict[str, tuple[int, ...]]
) -> Iterator[dict[int, str]]:
    """Every way to give each group's parameters names in order, none of them twice."""
    ways = [itertools.combinations(names, len(group)) for group in groups]
    for chosen in itertools.product(*ways):
        flat = [name for way in chosen for name in way]
        if len(set(flat)) < len(flat):
            continue
        placed = dict(zip((index for group in groups for index in group), flat))
        if all(shapes[it] in (None, names[name]) for it, name in placed.items()):
            yield placed


@settings(max_examples=300)
@given(puzzles())
def test_a_name_is_given_only_where_no_other_is_possible(puzzle: Any) -> None:
    groups, shapes, names = puzzle
    possible = list(placements(groups, shapes, names))
    found = assigned(groups, shapes, names)
    if found is None:
        assert not possible
        return
    for way in possible:
        assert {index: way[index] for index in found} == found
    if len([group for group in groups if group]) == 1:
        # Within one group, whatever can be told is told.
        told = {
            index for index in shapes if possible and len({way[index] for way in possible}) == 1
        }
        assert set(found) >= told
