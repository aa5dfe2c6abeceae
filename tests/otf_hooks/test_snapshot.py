"""A copy of a state that no later step changes, of tensors and plain values only."""

from __future__ import annotations

import collections
import enum
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from otf_hooks import checkpoint
from otf_hooks.errors import CheckpointError
from otf_hooks.snapshot import Snapshot, is_plain
from torch import nn


def copied(value: Any) -> Any:
    return Snapshot({"it": value}).wait()["it"]


def test_no_later_step_changes_it():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)

    def step():
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()

    step()
    wanted = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    moment = optimizer.state[model.weight]["exp_avg"].clone()
    snapshot = Snapshot({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    step()
    state = snapshot.wait()
    assert all(torch.equal(state["model"][name], wanted[name]) for name in wanted)
    assert torch.equal(state["optimizer"]["state"][0]["exp_avg"], moment)
    assert not torch.equal(model.weight, wanted["weight"])


def test_containers_are_rebuilt_and_plain_values_taken_over():
    value = {
        "list": [1, 2.5, True, None, "text", b"bytes"],
        "tuple": (1, (2, [3])),
        "set": {1, 2},
        "keys": {1: "one", 2.5: "two", "three": 3, False: 4},
        "torch": [torch.float16, torch.device("cpu"), torch.Size([2, 3])],
    }
    found = copied(value)
    assert found == value
    assert found["list"] is not value["list"]
    assert type(found["tuple"]) is tuple
    value["list"].append(7)
    assert len(found["list"]) == 6


def test_what_it_holds_is_read_back_with_weights_only(tmp_path):
    class Color(str, enum.Enum):
        RED = "red"

    class Pair(NamedTuple):
        left: Any
        right: Any

    state = {
        "ordered": collections.OrderedDict(a=torch.ones(2)),
        "counter": collections.Counter("aab"),
        "enum": Color.RED,
        "pair": Pair(1, torch.zeros(2)),
        "numpy": [np.float32(0.5), np.int64(3), np.bool_(True), np.array(2.0)],
        "array": np.arange(3),
        "size": torch.Size([2, 3]),
        # torch reads the name of a type safely since 2.4.
        **({} if torch.__version__ < "2.4" else {"dtype": torch.bfloat16}),
        "parameter": nn.Parameter(torch.ones(2)),
        "random": torch.get_rng_state(),
    }
    found = checkpoint.load(checkpoint.write(tmp_path / "a.pt", Snapshot(state).wait()).path)
    assert found["counter"] == {"a": 2, "b": 1}
    assert found["enum"] == "red"
    assert found["numpy"] == [0.5, 3, True, 2.0]
    assert [type(item) for item in found["numpy"]] == [float, int, bool, float]
    assert torch.equal(found["array"], torch.arange(3))
    assert torch.equal(found["pair"][1], torch.zeros(2))
    assert not isinstance(found["parameter"], nn.Parameter)
    assert (found["size"], found.get("dtype", torch.bfloat16)) == (
        torch.Size([2, 3]),
        torch.bfloat16,
    )


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6.0).reshape(2, 3).t(),
        torch.ones(1, 3).expand(4, 3),
        torch.zeros(0, 3),
        torch.tensor(3, dtype=torch.int64),
        torch.tensor([True, False]),
        torch.tensor([1.5, 2.5], dtype=torch.bfloat16),
        torch.tensor([1 + 2j]),
        torch.eye(3).to_sparse(),
        torch.ones(2, requires_grad=True),
        torch.tensor([float("nan"), -0.0, float("inf")]),
    ],
    ids=str,
)
def test_tensors_of_every_kind_keep_their_bits(tensor):
    found = copied(tensor)
    assert (found.dtype, found.shape, found.layout) == (tensor.dtype, tensor.shape, tensor.layout)
    assert not found.requires_grad
    left, right = (t.detach().to_dense() for t in (found, tensor))
    assert torch.equal(torch.isnan(left), torch.isnan(right))
    assert torch.equal(left.nan_to_num(9.0), right.nan_to_num(9.0))
    if tensor.numel():
        assert found.layout is not torch.strided or found.data_ptr() != tensor.data_ptr()


def test_tied_weights_are_copied_once():
    tied = torch.ones(4)
    found = Snapshot({"one": tied, "two": tied.detach(), "deep": [{"three": tied}]}).wait()
    assert (
        found["one"].data_ptr() == found["two"].data_ptr() == found["deep"][0]["three"].data_ptr()
    )
    assert found["one"].data_ptr() != tied.data_ptr()


def test_tied_weights_in_a_named_tuple_are_copied_once_too():
    class Pair(NamedTuple):
        left: torch.Tensor
        right: torch.Tensor

    tied = torch.ones(4)
    found = Snapshot({"one": tied, "pair": Pair(tied, tied)}).wait()
    assert {t.data_ptr() for t in (found["one"], *found["pair"])} == {found["one"].data_ptr()}


def test_two_views_of_one_memory_keep_their_own_shapes():
    whole = torch.arange(6.0)
    found = Snapshot({"whole": whole, "part": whole[:3], "square": whole.reshape(2, 3)}).wait()
    assert torch.equal(found["part"], whole[:3])
    assert torch.equal(found["square"], whole.reshape(2, 3))


def test_a_part_of_a_large_tensor_brings_only_itself(tmp_path):
    written = checkpoint.write(
        tmp_path / "a.pt", Snapshot({"it": torch.zeros(1_000_000)[:4]}).wait()
    )
    assert written.size < 100_000


class Unknown:
    def __repr__(self):
        return "Unknown()"


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Unknown(), "The state.it.deep[1] is a Unknown"),
        (lambda: None, "The state.it.deep[1] is a function"),
        (1j, "The state.it.deep[1] is a complex"),
        (object, "The state.it.deep[1] is a type"),
    ],
)
def test_what_a_checkpoint_cannot_hold_is_named_with_its_place(value, named):
    with pytest.raises(CheckpointError) as caught:
        Snapshot({"it": {"deep": [0, value]}})
    assert str(caught.value).startswith(named)
    assert "Keep it out of the state_dict" in str(caught.value)


@pytest.mark.parametrize("key", [None, (1, 2), torch.tensor(1)])
def test_a_key_that_a_checkpoint_cannot_hold_is_named(key):
    with pytest.raises(CheckpointError, match=r"The state\.it has the key .*, a \w+"):
        Snapshot({"it": {key: 1}})


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (1, True),
        ("text", True),
        (None, True),
        (torch.ones(1), True),
        ([1, (2, {"a": torch.ones(1)})], True),
        ({1: 2}, True),
        (Unknown(), False),
        ([1, Unknown()], False),
        ({"a": {"b": Unknown()}}, False),
        ({(1, 2): 3}, False),
        (nn.Linear(1, 1), False),
    ],
    ids=str,
)
def test_whether_a_checkpoint_can_hold_a_value(value, plain):
    assert is_plain(value) is plain
    # And what is said to be plain can be held.
    if plain:
        copied(value)
