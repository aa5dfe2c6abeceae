"""A permutation spec as a person writes it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Callable

import pytest
import torch
from otf_merge.alignment import align, spec_file, spec_for
from otf_merge.alignment.spec_file import read_spec
from otf_merge.alignment.units import Part, Units
from otf_merge.checkpoints.checkpoint import TensorSpec
from otf_merge.errors import InvalidInputs
from torch import Tensor, nn

from .alignment_models import mlp, parent_of, permuted_state, randomized, task_of

MLP = """
tensors:
  0.weight: [hidden, ~]
  0.bias: [hidden]
  2.weight: [~, hidden]
  2.bias: ~
"""


class Attention(nn.Module):
    """An encoder layer, whose heads and stream only a file can tell."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(3, 8)
        self.attention = nn.MultiheadAttention(8, 4, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x)
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        output: Tensor = self.head(x.mean(1))
        return output


ATTENTION = """
tensors:
  into.weight: [stream, ~]
  into.bias: [stream]
  attention.in_proj_weight:
    - [{units: heads, block: 2, size: 4}, {units: heads, block: 2}, {units: heads, block: 2}]
    - stream
  attention.in_proj_bias:
    - [{units: heads, block: 2}, {units: heads, block: 2}, {units: heads, block: 2}]
  attention.out_proj.weight: [stream, {units: heads, block: 2}]
  attention.out_proj.bias: [stream]
  norm.weight: [stream]
  norm.bias: [stream]
  head.weight: [~, stream]
  head.bias: ~
"""


def written(text: str) -> Path:
    path = Path("axes.yaml")
    path.write_text(text)
    return path


def test_the_file_says_which_axes_move_together() -> None:
    spec = read_spec(written(MLP), parent_of(mlp(4, 6, 3).state_dict()).specs)
    assert spec.units == {"hidden": Units(6)}
    assert spec.axes == {
        "0.weight": ((Part("hidden", 6),), (Part(None, 4),)),
        "0.bias": ((Part("hidden", 6),),),
        "2.weight": ((Part(None, 3),), (Part("hidden", 6),)),
    }


def test_runs_blocks_and_heads() -> None:
    model = randomized(Attention(), 0)
    state = model.state_dict()
    spec = spec_for(parent_of(state), str(written(ATTENTION)), task_of(model, 5, 3))
    assert spec.units == {"stream": Units(8), "heads": Units(4)}
    order = spec.random(torch.Generator().manual_seed(1))
    parents = [parent_of(state), parent_of(permuted_state(state, spec, order))]
    inputs = torch.randn(3, 5, 3)
    other = copy.deepcopy(model)
    other.load_state_dict(parents[1].state())
    with torch.no_grad():
        assert torch.allclose(other(inputs), model(inputs), atol=1e-5)
    assert not torch.equal(state["into.weight"], other.into.weight)
    (_, aligned), _ = align(parents, spec)
    for name, tensor in state.items():
        assert torch.equal(aligned.tensor(name), tensor), name


def test_units_may_stay_within_blocks() -> None:
    text = MLP + "blocks:\n  hidden: {count: 3, movable: true}\n"
    specs = parent_of(mlp(4, 6, 3).state_dict()).specs
    assert read_spec(written(text), specs).units == {"hidden": Units(6, 3, movable=True)}
    fixed = MLP + "blocks:\n  hidden: {count: 2}\n"
    assert read_spec(written(fixed), specs).units == {"hidden": Units(6, 2, movable=False)}


def test_the_example_in_the_docstring_is_read() -> None:
    text = (spec_file.__doc__ or "").split("\n\n")[1]
    shapes = {
        "conv1.weight": (8, 3, 3, 3),
        "conv1.bias": (8,),
        "norm1.weight": (8,),
        "norm1.bias": (8,),
        "fc.weight": (32, 8 * 49),
        "fc.bias": (32,),
        "attention.in_proj_weight": (96, 32),
        "attention.out_proj.weight": (32, 32),
        "head.weight": (4, 32),
        "head.bias": (4,),
        "positions": (9, 32),
    }
    specs = {name: TensorSpec(torch.float32, shape) for name, shape in shapes.items()}
    spec = read_spec(written(text), specs)
    assert spec.units == {
        "filters": Units(8, 4, movable=True),
        "hidden": Units(32),
        "heads": Units(2),
    }
    assert spec.axes["fc.weight"][1] == (Part("filters", 8, 49),)


def test_a_wrong_file_is_found_out_where_there_is_a_task() -> None:
    model = randomized(mlp(4, 6, 3), 0)
    parent = parent_of(model.state_dict())
    path = str(written(MLP.replace("0.bias: [hidden]", "0.bias: ~")))
    assert spec_for(parent, path).units == {"hidden": Units(6)}
    with pytest.raises(InvalidInputs, match="off by"):
        spec_for(parent, path, task_of(model, 4))


WRONG = {
    "no YAML": ("tensors: [", "it is no YAML"),
    "no mapping": ("- 1", "it must have `tensors`"),
    "other keys": (MLP + "axes: {}\n", "it must have `tensors`, and may have `blocks`"),
    "a tensor too many": (MLP + "  3.weight: ~\n", "the first checkpoint has no `3.weight`"),
    "a tensor too few": (MLP.replace("  2.bias: ~\n", ""), "it says nothing of `2.bias`"),
    "axes too few": (
        MLP.replace("0.weight: [hidden, ~]", "0.weight: [hidden]"),
        "`0.weight` must be a list of 2 axes",
    ),
    "other sizes": (
        MLP.replace("[~, hidden]", "[hidden, ~]"),
        "`2.weight` has 3 of `hidden` where 6 are expected",
    ),
    "a number": (
        MLP.replace("0.bias: [hidden]", "0.bias: [7]"),
        "`0.bias` has 7, which is no axis",
    ),
    "a strange key": (
        MLP.replace("0.bias: [hidden]", "0.bias: [{unit: hidden}]"),
        "which is no axis",
    ),
    "a strange block": (
        MLP.replace("0.bias: [hidden]", "0.bias: [{units: hidden, block: -1}]"),
        "blocks and sizes are counts",
    ),
    "a block that leaves a rest": (
        MLP.replace("0.bias: [hidden]", "0.bias: [{units: hidden, block: 4}]"),
        "`0.bias` has",
    ),
    "no size": (MLP.replace("0.bias: [hidden]", "0.bias: [{block: 2}]"), "without {size: NUMBER}"),
    "a sum that is none": (
        MLP.replace("0.bias: [hidden]", "0.bias: [[{size: 2}, {size: 3}]]"),
        "has an axis of 6, and 5 are accounted for",
    ),
    "an unknown size": (
        MLP.replace("0.weight: [hidden, ~]", "0.weight: [[{units: a}, {units: b}], ~]"),
        "the size of `a` is not known",
    ),
    "nothing named": (MLP.replace("hidden", "~"), "nothing is permuted"),
    "blocks of nothing": (MLP + "blocks: {other: {count: 2}}\n", "`blocks` has `other`"),
    "blocks that do not divide": (MLP + "blocks: {hidden: {count: 4}}\n", "divides its 6 units"),
    "blocks that are none": (
        MLP + "blocks: {hidden: 3}\n",
        "must be like {count: 4, movable: true}",
    ),
    "blocks without a count": (MLP + "blocks: {hidden: {movable: true}}\n", "divides its 6 units"),
}


@pytest.mark.parametrize("kind", list(WRONG))
def test_what_has_no_meaning_is_refused(kind: str) -> None:
    text, reason = WRONG[kind]
    with pytest.raises(InvalidInputs) as caught:
        read_spec(written(text), parent_of(mlp(4, 6, 3).state_dict()).specs)
    assert reason in str(caught.value)
    assert str(caught.value).startswith("`axes.yaml` does not say how to align: ")


def test_a_file_that_is_not_there_is_refused(save: Callable[..., Path]) -> None:
    with pytest.raises(InvalidInputs, match="`none.yaml`.*cannot be read"):
        spec_for(parent_of(mlp(4, 6, 3).state_dict()), "none.yaml")
