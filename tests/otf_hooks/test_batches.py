from collections import OrderedDict, namedtuple

import pytest
import torch
from otf_hooks.batches import part, sample_count, to_device
from otf_hooks.errors import LoaderError

X, Z, Y = torch.zeros(4, 2), torch.ones(4, 3), torch.arange(4)
Pair = namedtuple("Pair", ["first", "second"])


@pytest.mark.parametrize(
    ("batch", "args", "kwargs"),
    [
        ((X, Y), (X,), {}),
        ([X, Y], (X,), {}),
        ((X, Z, Y), (X, Z), {}),
        (((X, Z), Y), (X, Z), {}),
        (({"a": X, "b": Z}, Y), (), {"a": X, "b": Z}),
        ({"a": X, "b": Z, "labels": Y}, (), {"a": X, "b": Z}),
        (OrderedDict(x=X, target=Y), (), {"x": X}),
    ],
)
def test_inputs_and_target_are_told_apart(batch, args, kwargs):
    parts = part(batch)
    assert parts.target is Y
    assert len(parts.args) == len(args)
    assert all(found is expected for found, expected in zip(parts.args, args))
    assert parts.kwargs.keys() == kwargs.keys()
    assert all(parts.kwargs[name] is kwargs[name] for name in kwargs)


@pytest.mark.parametrize("batch", [X, (X,), {"a": X, "b": Z}, 3])
def test_a_batch_without_a_target_says_what_to_do(batch):
    with pytest.raises(LoaderError, match="@trainer.training_step"):
        part(batch)


def test_every_tensor_is_moved_and_containers_keep_their_types():
    batch = {"a": [X, (Z, "text")], "b": Pair(X, 3), "c": OrderedDict(y=Y)}
    moved = to_device(batch, torch.device("meta"))
    assert moved["a"][0].device.type == "meta"
    assert moved["a"][1][0].device.type == "meta"
    assert moved["a"][1][1] == "text"
    assert isinstance(moved["b"], Pair)
    assert moved["b"].first.device.type == "meta"
    assert isinstance(moved["c"], OrderedDict)
    assert moved["c"]["y"].device.type == "meta"


@pytest.mark.parametrize(
    ("batch", "count"),
    [((X, Y), 4), ({"n": [torch.zeros(7, 2)]}, 7), (torch.tensor(1.0), 1), ("a", 1)],
)
def test_samples_are_counted_by_the_first_tensor(batch, count):
    assert sample_count(batch) == count
