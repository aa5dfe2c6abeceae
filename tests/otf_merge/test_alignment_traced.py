"""What a model's graph tells of its units, confirmed by what the permuted model computes."""

from __future__ import annotations

from typing import Any, Callable

import pytest
import torch
from otf_merge.alignment import spec_for
from otf_merge.alignment.traced import confirm, traced_spec
from otf_merge.alignment.units import Part, PermutationSpec, Units
from otf_merge.errors import InvalidInputs, InvalidTask
from otf_merge.task import Task
from torch import Tensor, nn

from .alignment_models import Convolutions, Mixed, ResNet, mlp, parent_of, task_of


def spec_of(model: nn.Module, *shape: int, whole: bool = False) -> PermutationSpec:
    return traced_spec(task_of(model, *shape, whole=whole), model.state_dict())


def units_in(spec: PermutationSpec, name: str) -> list[list[tuple[str | None, int, int]]]:
    return [[tuple(part) for part in axis] for axis in spec.axes[name]]  # type: ignore[misc]


class Doing(nn.Module):
    """A model that does what a function does with two layers."""

    def __init__(
        self, function: Callable[..., Tensor], first: nn.Module, second: nn.Module
    ) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def test_a_chain_has_the_units_that_its_names_tell() -> None:
    for model, shape in ((mlp(4, 6, 5, 3, norm=True), (4,)), (Convolutions(), (3, 8, 8))):
        traced = spec_of(model, *shape)
        inferred = spec_for(parent_of(model.state_dict()))
        assert traced.axes == inferred.axes
        assert traced.units == inferred.units
        assert not traced.kept


def test_a_residual_stream_has_one_order() -> None:
    spec = spec_of(ResNet(6, 8), 3, 8, 8)
    streams = {
        part.units
        for name in ("stem.0", "layer1.0.conv2", "layer1.1.conv2")
        for part in spec.axes[f"{name}.weight"][0]
    }
    assert streams == {"stem.0"}
    assert spec.axes["layer2.0.down.0.weight"][0] == spec.axes["layer2.0.conv2.weight"][0]
    assert spec.axes["layer2.0.down.0.weight"][1] == spec.axes["layer1.0.conv1.weight"][1]
    assert set(spec.units) == {
        "stem.0",
        "layer1.0.conv1",
        "layer1.1.conv1",
        "layer2.0.conv1",
        "layer2.0.conv2",
    }
    for norm in ("layer1.0.norm2", "stem.1"):
        for own in ("weight", "bias", "running_mean", "running_var"):
            assert spec.axes[f"{norm}.{own}"] == ((Part("stem.0", 6),),)


def test_groups_of_a_group_norm_move_as_wholes() -> None:
    model = ResNet(6, 8, norm=lambda size: nn.GroupNorm(2, size))  # type: ignore[arg-type]
    spec = spec_of(model, 3, 8, 8)
    assert spec.units["stem.0"] == Units(6, 2, movable=True)
    whole = ResNet(6, 8, norm=lambda size: nn.GroupNorm(size, size))  # type: ignore[arg-type]
    assert spec_of(whole, 3, 8, 8).units["stem.0"] == Units(6)


def test_different_groups_leave_only_what_all_of_them_allow() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3), nn.GroupNorm(2, 12), nn.GroupNorm(3, 12), nn.Conv2d(12, 2, 3)
    )
    assert spec_of(model, 3, 8, 8).units == {"0": Units(12, 6, movable=False)}


def test_a_grouped_convolution_keeps_what_goes_in_and_reorders_within_groups() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3, groups=4), nn.Conv2d(12, 2, 1)
    )
    spec = spec_of(model, 3, 8, 8)
    assert spec.units == {"2": Units(12, 4, movable=False)}
    assert "grouped convolution" in spec.kept["0"]
    assert units_in(spec, "2.weight")[1] == [(None, 2, 1)]


def test_embeddings_parameters_branches_and_ties() -> None:
    spec = spec_of(Mixed(), 3, whole=True)
    stream = [("embed", 6, 1)]
    assert units_in(spec, "embed.weight") == [[(None, 11, 1)], stream]
    assert spec.axes["head.weight"] == spec.axes["embed.weight"]
    assert units_in(spec, "position") == [[(None, 3, 1)], stream]
    assert units_in(spec, "norm.weight") == [stream]
    assert units_in(spec, "out.weight")[0] == stream
    # The layer that is used twice takes in both branches once and its own output once.
    assert "again" not in spec.units
    assert "left" in spec.kept or "again" in spec.kept


def joined(model: Any, x: Tensor) -> Tensor:
    return torch.cat([model.first[0](x), model.first[1](x).relu()], 1)


def test_what_is_joined_side_by_side_keeps_its_own_units() -> None:
    model = Doing(
        lambda self, x: self.second(joined(self, x)),
        nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 5)]),
        nn.Linear(8, 2),
    )
    spec = spec_of(model, 4)
    assert units_in(spec, "second.weight") == [
        [(None, 2, 1)],
        [("first.0", 3, 1), ("first.1", 5, 1)],
    ]


FUNCTIONS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "view": lambda m, x: m.second(m.first(x).view(x.shape[0], -1)),
    "reshape": lambda m, x: m.second(m.first(x).reshape(-1, 24)),
    "flatten": lambda m, x: m.second(torch.flatten(m.first(x), 1)),
    "method flatten": lambda m, x: m.second(m.first(x).flatten(start_dim=1)),
    "permuted back": lambda m, x: m.second(
        m.first(x).permute(0, 2, 3, 1).permute(0, 3, 1, 2).flatten(1)
    ),
    "transposed twice": lambda m, x: m.second(
        m.first(x).transpose(1, 3).transpose(3, 1).flatten(1)
    ),
    "scaled": lambda m, x: m.second((m.first(x) * 2 + 1).clamp(min=0).flatten(1)),
    "gated by itself": lambda m, x: m.second((m.first(x) * m.first(x).sigmoid()).flatten(1)),
    "squeeze and excite": lambda m, x: m.second(
        (m.first(x) * m.first(x).mean((2, 3), keepdim=True).sigmoid()).flatten(1)
    ),
    "added in place": lambda m, x: m.second(m.first(x).add_(1).relu_().flatten(1)),
    "softmax over units": lambda m, x: m.second(m.first(x).softmax(1).flatten(1)),
    "normalised": lambda m, x: m.second((m.first(x) - m.first(x).mean(1, keepdim=True)).flatten(1)),
    "sliced in space": lambda m, x: m.second(m.first(x)[:, :, 0:2][..., :2].flatten(1)),
    "unsqueezed": lambda m, x: m.second(m.first(x).unsqueeze(1).squeeze(1).flatten(1)),
    "expanded": lambda m, x: m.second(
        m.first(x).amax((2, 3), keepdim=True).expand(-1, -1, 2, 2).flatten(1)
    ),
    "pooled and padded": lambda m, x: m.second(
        nn.functional.pad(nn.functional.max_pool2d(m.first(x), 2), (0, 1, 1, 0)).flatten(1)
    ),
    "interpolated": lambda m, x: m.second(
        nn.functional.interpolate(nn.functional.adaptive_avg_pool2d(m.first(x), 1), size=2).flatten(
            1
        )
    ),
}


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_operations_carry_units_through(name: str) -> None:
    model = Doing(FUNCTIONS[name], nn.Conv2d(3, 6, 1), nn.Linear(24, 2))
    spec = spec_of(model, 3, 2, 2)
    assert spec.units == {"first": Units(6)}
    assert units_in(spec, "second.weight")[1] == [("first", 6, 4)]
    assert not spec.kept


KEPT: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "sorted": lambda m, x: m.second(m.first(x).sort(1).values),
    "half of the units": lambda m, x: m.second(torch.cat([m.first(x)[:, :3]] * 2, 1)),
    "chunks": lambda m, x: m.second(torch.cat([m.first(x).chunk(2, 1)[i] for i in (0, 1)], 1)),
    "accumulated": lambda m, x: m.second(m.first(x).cumsum(1)),
    "by a fixed matrix": lambda m, x: m.second(m.first(x) @ torch.eye(6)),
    "pooled over units": lambda m, x: m.second(
        nn.functional.avg_pool1d(m.first(x).unsqueeze(1), 3, 1, 1).squeeze(1)
    ),
    "in groups": lambda m, x: m.second(m.first(x).view(-1, 2, 3).softmax(2).view(-1, 6)),
    "added to the input": lambda m, x: m.second(m.first(x) + x),
    "flipped": lambda m, x: m.second(m.first(x).flip(1)),
}


@pytest.mark.parametrize("name", list(KEPT))
def test_what_depends_on_the_order_of_units_keeps_them(name: str) -> None:
    second = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    spec = spec_of(Doing(KEPT[name], nn.Linear(6, 6), second), 6)
    assert spec.units == {"second.0": Units(5)}
    assert spec.kept["first"]
    assert "first.weight" not in spec.axes


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "transposed": (
        nn.Sequential(nn.ConvTranspose2d(3, 6, 2), nn.ConvTranspose2d(6, 2, 2)),
        (3, 4, 4),
    ),
    "transposed depthwise": (
        nn.Sequential(
            nn.Conv2d(3, 6, 1), nn.ConvTranspose2d(6, 12, 2, groups=6), nn.Conv2d(12, 2, 1)
        ),
        (3, 4, 4),
    ),
    "one dimension": (
        nn.Sequential(
            nn.Conv1d(3, 6, 2),
            nn.AvgPool1d(2),
            nn.InstanceNorm1d(6, affine=True),
            nn.Conv1d(6, 2, 1),
        ),
        (3, 9),
    ),
    "three dimensions": (
        nn.Sequential(nn.Conv3d(2, 6, 1), nn.BatchNorm3d(6), nn.Dropout3d(), nn.Conv3d(6, 2, 1)),
        (2, 3, 3, 3),
    ),
    "upsampled and padded": (
        nn.Sequential(
            nn.Conv2d(2, 6, 1),
            nn.Upsample(scale_factor=2),
            nn.ReflectionPad2d(1),
            nn.Conv2d(6, 2, 1),
        ),
        (2, 3, 3),
    ),
    "flattened": (
        nn.Sequential(nn.Conv2d(2, 6, 1), nn.PReLU(6), nn.Flatten(), nn.Linear(54, 4)),
        (2, 3, 3),
    ),
    "unflattened": (
        nn.Sequential(nn.Linear(5, 6), nn.Unflatten(1, (6, 1, 1)), nn.Conv2d(6, 2, 1)),
        (5,),
    ),
}


@pytest.mark.parametrize("name", list(LAYERS))
def test_layers_carry_units_through(name: str) -> None:
    model, shape = LAYERS[name]
    spec = spec_of(model, *shape)
    assert spec.units == {"0": Units(6)}
    assert not spec.kept


def test_parametrized_layers_keep_their_units() -> None:
    second = nn.utils.parametrizations.weight_norm(nn.Linear(6, 5))
    spec = spec_of(nn.Sequential(nn.Linear(4, 6), second, nn.Linear(5, 5), nn.Linear(5, 2)), 4)
    assert spec.units == {"2": Units(5)}
    assert "`1`" in spec.kept["0"]


def test_attention_keeps_its_stream_and_the_rest_moves() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.mlp = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.attention(x, x, x, need_weights=False)[0]
            output: Tensor = self.mlp(x)
            return output

    assert spec_of(Encoder(), 5, 8).units == {"mlp.0": Units(12)}


def test_arguments_that_are_no_tensors_are_as_the_task_gives_them() -> None:
    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = mlp(4, 6, 2)

        def forward(self, x: Tensor, mask: Tensor | None = None, double: bool = False) -> Tensor:
            if mask is not None:
                x = x * mask
            output: Tensor = self.layers(x)
            return output * 2 if double else output

    task = task_of(Optional(), 4)
    by_keyword = Task(
        model=task.model,
        validation=task.validation,
        outputs=lambda model, batch: model(batch[0], double=True),
    )
    for each in (task, by_keyword):
        assert list(traced_spec(each, Optional().state_dict()).units) == ["layers.0"]


def test_a_checkpoint_s_own_names_are_used() -> None:
    model = mlp(4, 6, 2)
    names = {f"model.{name}" for name in model.state_dict()}
    spec = traced_spec(task_of(model, 4), names)
    assert set(spec.axes) == {"model.0.weight", "model.0.bias", "model.2.weight"}


# What is refused


def test_a_model_that_cannot_be_traced_is_refused() -> None:
    model = Doing(
        lambda self, x: self.second(self.first(x)) if x.sum() > 0 else self.first(x),
        nn.Linear(4, 4),
        nn.Linear(4, 4),
    )
    with pytest.raises(InvalidInputs, match=r"cannot be traced by torch.fx.*--align FILE"):
        spec_of(model, 4)


def test_a_model_in_which_nothing_can_move_is_refused_with_the_reason() -> None:
    model = Doing(
        lambda self, x: self.second(self.first(x).sort(1).values), nn.Linear(4, 4), nn.Linear(4, 2)
    )
    with pytest.raises(
        InvalidInputs, match=r"no hidden units.*`first`: `sort` works on it.*--align"
    ):
        spec_of(model, 4)


def test_a_spec_under_which_the_model_computes_something_else_is_refused() -> None:
    model = mlp(4, 6, 5, 2)
    task = task_of(model, 4)
    right = traced_spec(task, model.state_dict())
    confirm(right, task, model.state_dict())
    wrong = PermutationSpec(
        right.units, {name: it for name, it in right.axes.items() if name != "2.bias"}
    )
    with pytest.raises(InvalidInputs, match="outputs that are off by"):
        confirm(wrong, task, model.state_dict())
    with pytest.raises(InvalidInputs, match="no such tensor"):
        confirm(right, task_of(mlp(4, 6, 2), 4), model.state_dict())


def test_a_layer_that_hides_its_order_from_the_graph_is_found_out() -> None:
    class Sneaky(nn.ReLU):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.arange(x.shape[1])

    # A subclass of a known layer is asked under its own name, and has none of the known rules.
    sneaky = Sneaky()
    Sneaky.__module__ = nn.ReLU.__module__
    with pytest.raises(InvalidInputs, match="off by"):
        spec_of(nn.Sequential(nn.Linear(4, 6), sneaky, nn.Linear(6, 2)), 4)


def test_failures_of_the_task_are_told_as_such() -> None:
    model = mlp(4, 6, 2)
    empty = Task(model=lambda: model, validation=[])
    with pytest.raises(InvalidTask, match="no batches"):
        traced_spec(empty, model.state_dict())
    wrong = task_of(model, 5)
    with pytest.raises(InvalidTask, match="failed with RuntimeError"):
        traced_spec(wrong, model.state_dict())
