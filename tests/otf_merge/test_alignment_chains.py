"""What names, order and shapes tell of a chain of layers, and what they do not."""

from __future__ import annotations

import pytest
import torch
from otf_merge.alignment.chains import chain_spec
from otf_merge.alignment.units import Part, PermutationSpec
from otf_merge.checkpoints.checkpoint import TensorSpec
from otf_merge.errors import InvalidInputs
from torch import Tensor, nn

from .alignment_models import Convolutions, ResNet, mlp, permuted_state, randomized


def specs_of(shapes: dict[str, tuple[int, ...]], *, ordered: bool = False) -> dict[str, TensorSpec]:
    names = sorted(shapes) if ordered else list(shapes)
    return {name: TensorSpec(torch.float32, shapes[name]) for name in names}


def told(spec: PermutationSpec) -> dict[str, list[str | None]]:
    return {
        name: [axis[0].units and f"{axis[0].units}*{axis[0].block}" for axis in axes]
        for name, axes in spec.axes.items()
    }


def assert_same_function(model: nn.Module, spec: PermutationSpec, inputs: Tensor) -> None:
    model = randomized(model, 1)
    with torch.no_grad():
        expected = model(inputs)
        order = spec.random(torch.Generator().manual_seed(2))
        model.load_state_dict(permuted_state(model.state_dict(), spec, order))
        assert torch.allclose(model(inputs), expected, atol=1e-5 * float(expected.abs().max()))


def shapes_of(model: nn.Module, *, ordered: bool = False) -> dict[str, TensorSpec]:
    state = model.state_dict()
    names = sorted(state) if ordered else list(state)
    return {name: TensorSpec(state[name].dtype, tuple(state[name].shape)) for name in names}


def test_each_tensor_of_an_mlp_has_its_axes() -> None:
    spec = chain_spec(shapes_of(mlp(4, 6, 5, 3, norm=True)))
    norm = ("weight", "bias", "running_mean", "running_var")
    assert told(spec) == {
        "0.weight": ["0*1", None],
        "0.bias": ["0*1"],
        **{f"1.{own}": ["0*1"] for own in norm},
        "3.weight": ["3*1", "0*1"],
        "3.bias": ["3*1"],
        **{f"4.{own}": ["3*1"] for own in norm},
        "6.weight": [None, "3*1"],
    }
    assert spec.axes["6.weight"][0] == (Part(None, 3),)
    assert_same_function(mlp(4, 6, 5, 3, norm=True), spec, torch.randn(7, 4))


def test_channels_are_blocks_once_they_are_flattened() -> None:
    model = Convolutions(6, 5, 7)
    spec = chain_spec(shapes_of(model))
    axes = told(spec)
    assert axes["conv2.weight"] == ["conv1*2", None, None, None]
    assert axes["conv3.weight"] == ["conv3*1", "conv1*2", None, None]
    assert axes["fc1.weight"] == ["fc1*1", "conv3*9"]
    assert "fc2.bias" not in axes
    assert "bn1.num_batches_tracked" not in axes
    assert_same_function(model, spec, torch.randn(3, 3, 8, 8))


def test_layer_norms_slopes_and_the_like_go_with_their_layer() -> None:
    model = nn.Sequential(
        nn.LayerNorm(4),
        nn.Linear(4, 6),
        nn.LayerNorm(6),
        nn.PReLU(6),
        nn.Linear(6, 5, bias=False),
        nn.PReLU(),
        nn.Linear(5, 3),
        nn.LayerNorm(3),
    )
    spec = chain_spec(shapes_of(model))
    assert set(spec.axes) == {
        "1.weight",
        "1.bias",
        "2.weight",
        "2.bias",
        "3.weight",
        "4.weight",
        "6.weight",
    }
    assert_same_function(model, spec, torch.randn(7, 4))


# Alphabetical names, as safetensors files have them


def test_numbers_order_what_the_alphabet_does_not() -> None:
    model = mlp(4, 8, 8, 8, 8, 8, 8, 3)
    spec = chain_spec(shapes_of(model, ordered=True))
    assert list(spec.units) == ["0", "2", "4", "6", "8", "10"]
    assert told(spec) == told(chain_spec(shapes_of(model)))


def test_norms_stand_behind_the_layer_of_their_number() -> None:
    layers = {"conv1": (4, 3, 3, 3), "bn1": (4,), "conv2": (4, 4, 3, 3), "bn2": (4,), "fc": (2, 36)}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
        if name.startswith("bn"):
            shapes |= {f"{name}.running_mean": shape, f"{name}.running_var": shape}
    spec = chain_spec(specs_of(shapes, ordered=True))
    assert told(spec) == told(chain_spec(specs_of(shapes)))
    assert "conv1 - bn1 - conv2 - bn2 - fc" in spec.assumed


def test_shapes_tell_which_kind_of_layers_comes_first() -> None:
    shapes = {
        "classifier.0.weight": (5, 8),
        "classifier.2.weight": (3, 5),
        "features.0.weight": (8, 3, 3, 3),
        "features.3.weight": (8, 8, 3, 3),
    }
    assert list(chain_spec(specs_of(shapes, ordered=True)).units) == [
        "features.0",
        "features.3",
        "classifier.0",
    ]


def test_an_order_that_cannot_be_told_is_refused() -> None:
    # Either half of this autoencoder could be the first.
    shapes = {
        "decoder.0.weight": (8, 2),
        "decoder.1.weight": (9, 8),
        "encoder.0.weight": (8, 9),
        "encoder.1.weight": (2, 8),
    }
    with pytest.raises(InvalidInputs, match=r"may be decoder.0 .* or encoder.0 .*--task.*--align"):
        chain_spec(specs_of(shapes, ordered=True))
    # The order of the file, where it has one, settles it.
    names = ["encoder.0.weight", "encoder.1.weight", "decoder.0.weight", "decoder.1.weight"]
    spec = chain_spec(specs_of({name: shapes[name] for name in names}))
    assert list(spec.units) == ["encoder.0", "encoder.1", "decoder.0"]


def test_a_norm_that_may_belong_to_several_layers_is_refused() -> None:
    shapes = {
        "conv1.weight": (4, 3, 3, 3),
        "conv2.weight": (4, 4, 3, 3),
        "fc1.weight": (4, 4),
        "fc2.weight": (2, 4),
        "bn1.running_mean": (4,),
        "bn1.running_var": (4,),
    }
    with pytest.raises(InvalidInputs, match="cannot be told"):
        chain_spec(specs_of(shapes, ordered=True))


# What is refused

REFUSED = {
    "residual blocks": (ResNet(), "layer within a block"),
    "attention": (nn.TransformerEncoderLayer(8, 2, 16), "something else than a plain chain"),
    "recurrent": (nn.LSTM(3, 4), "cannot be told"),
    "one layer": (nn.Sequential(nn.Linear(3, 2)), "one layer only"),
    "no layer": (nn.Sequential(nn.BatchNorm1d(3)), "no weight matrix"),
    "two heads": (
        nn.ModuleDict(
            {"body": nn.Linear(3, 8), "first": nn.Linear(8, 2), "second": nn.Linear(8, 3)}
        ),
        "`first` has 2 units and `second` takes in 8",
    ),
    "a group norm": (
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 2, 3)),
        "`1` may be a GroupNorm",
    ),
    "a grouped convolution": (
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 2, 3)),
        "`1` is a grouped convolution",
    ),
    "a norm of another size": (
        nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(4), nn.Linear(8, 2)),
        "`1` has 4 values behind the 8 units of `0`",
    ),
    "a convolution behind a linear layer": (
        nn.Sequential(nn.Linear(3, 8), nn.Conv2d(8, 8, 3), nn.Linear(8, 2)),
        "`1` is a convolution behind the linear `0`",
    ),
    "a parameter of its own": (
        nn.ParameterDict({"scale": nn.Parameter(torch.ones(3))}),
        "what `scale` of shape",
    ),
}


@pytest.mark.parametrize("kind", list(REFUSED))
def test_what_is_no_chain_is_refused_with_what_to_do(kind: str) -> None:
    model, reason = REFUSED[kind]
    with pytest.raises(InvalidInputs) as caught:
        chain_spec(shapes_of(model))
    message = str(caught.value)
    assert reason in message
    assert "--task" in message
    assert "--align FILE" in message


def test_the_first_layer_and_the_last_stay_where_data_comes_in_and_goes_out() -> None:
    spec = chain_spec(specs_of({"a.weight": (5, 4), "b.weight": (3, 5), "b.bias": (3,)}))
    assert told(spec) == {"a.weight": ["a*1", None], "b.weight": [None, "a*1"]}
