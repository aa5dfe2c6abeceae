"""The numbers: against a naive reference, torch's own averaging, and laws that must hold."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from otf_merge.methods.linear import linear
from otf_merge.methods.swa import swa
from torch.optim.swa_utils import AveragedModel

SHAPES = [(), (1,), (7,), (0,), (3, 0), (5, 1), (1, 5), (2, 3, 4)]


def naive(tensors: list[torch.Tensor], weights: list[float]) -> torch.Tensor:
    """The definition, one number at a time, in Python's own arithmetic."""
    columns = zip(*(tensor.flatten().tolist() for tensor in tensors))
    numbers = [
        math.fsum(w * x for w, x in zip(weights, column)) / math.fsum(weights) for column in columns
    ]
    return torch.tensor(numbers, dtype=torch.float64).reshape(tensors[0].shape)


@st.composite
def models(draw: Any, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    shape = draw(st.sampled_from(SHAPES))
    count = draw(st.integers(2, 5))
    seed = draw(st.integers(0, 2**31))
    scale = draw(st.sampled_from([1e-30, 1e-3, 1.0, 1e20]))
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).mul(scale).to(dtype) for _ in range(count)]


def weights_for(count: int) -> st.SearchStrategy[list[float]]:
    one = st.floats(0, 1e6, allow_subnormal=False)
    return st.lists(one, min_size=count, max_size=count).filter(any)


@given(st.data())
def test_linear_is_the_weighted_average(data: st.DataObject) -> None:
    tensors = data.draw(models())
    weights = data.draw(weights_for(len(tensors)))
    result = linear([tensor.double() for tensor in tensors], weights=weights)
    largest = max((float(t.abs().max()) for t in tensors if t.numel()), default=0.0)
    assert result.shape == tensors[0].shape
    torch.testing.assert_close(result, naive(tensors, weights), rtol=1e-12, atol=1e-12 * largest)


@given(st.data(), st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
def test_copies_of_a_model_merge_to_it_exactly(data: st.DataObject, dtype: torch.dtype) -> None:
    tensor = data.draw(models(dtype))[0].nan_to_num(posinf=0, neginf=0)
    wider = torch.float64 if dtype == torch.float32 else torch.float32
    copies = [tensor.to(wider)] * data.draw(st.integers(2, 9))
    weights = data.draw(weights_for(len(copies)))
    assert torch.equal(linear(copies, weights=weights).to(dtype), tensor)
    assert torch.equal(swa(copies).to(dtype), tensor)


@pytest.mark.parametrize("weights", [[0.0, 2.2e-308], [5e-324, 5e-324], [1e308, 1e308]])
def test_weights_near_the_ends_of_the_range_are_weights_too(weights: list[float]) -> None:
    tensor = torch.tensor([1.541e-30, -3.0e30, 2.0])
    assert torch.equal(linear([tensor, tensor], weights=weights).float(), tensor)


@given(models(torch.float64), st.integers(2, 9))
def test_copies_in_double_precision_merge_to_it_within_rounding(
    tensors: list[torch.Tensor], count: int
) -> None:
    torch.testing.assert_close(swa([tensors[0]] * count), tensors[0], rtol=4e-16, atol=0)


@given(st.data(), st.sampled_from([torch.float32, torch.float64]))
def test_all_weight_on_one_model_gives_it_exactly(data: st.DataObject, dtype: torch.dtype) -> None:
    tensors = data.draw(models(dtype))
    chosen = data.draw(st.integers(0, len(tensors) - 1))
    weights = [float(index == chosen) for index in range(len(tensors))]
    assert torch.equal(linear(tensors, weights=weights).to(dtype), tensors[chosen])


@given(st.data())
def test_order_does_not_matter_to_an_equal_average(data: st.DataObject) -> None:
    number = st.floats(-1024, 1024, width=32).map(lambda x: x if abs(x) > 2**-12 else 0.0)
    columns = data.draw(st.lists(st.lists(number, min_size=3, max_size=3), min_size=2, max_size=6))
    shuffled = data.draw(st.permutations(columns))
    results = [
        swa([torch.tensor(column, dtype=torch.float64) for column in order]).float()
        for order in (columns, shuffled)
    ]
    assert torch.equal(results[0], results[1])


def test_the_sign_of_zero_survives() -> None:
    result = linear([torch.tensor([-0.0, 0.0]), torch.ones(2)], weights=[1.0, 0.0])
    assert torch.signbit(result).tolist() == [True, False]


def test_a_weight_of_zero_leaves_the_tensor_out_even_where_it_is_not_finite() -> None:
    spoilt = torch.tensor([math.inf, math.nan])
    assert linear([torch.ones(2), spoilt], weights=[1.0, 0.0]).tolist() == [1.0, 1.0]


def test_complex_tensors_are_averaged() -> None:
    result = linear([torch.tensor([1 + 2j]), torch.tensor([3 - 4j])], weights=[1.0, 1.0])
    assert result.tolist() == [2 - 1j]


def test_methods_leave_their_inputs_alone() -> None:
    tensors = [torch.ones(3), torch.zeros(3)]
    linear(tensors, weights=[3.0, 1.0])
    assert [tensor.tolist() for tensor in tensors] == [[1.0] * 3, [0.0] * 3]


@settings(max_examples=10)
@given(st.integers(0, 1000), st.integers(2, 8))
def test_swa_is_what_torch_averages(seed: int, count: int) -> None:
    torch.manual_seed(seed)
    snapshots = [torch.nn.Linear(4, 3) for _ in range(count)]
    averaged = AveragedModel(snapshots[0])
    for snapshot in snapshots:
        averaged.update_parameters(snapshot)
    for name, expected in averaged.module.state_dict().items():
        result = swa([snapshot.state_dict()[name] for snapshot in snapshots])
        torch.testing.assert_close(result.float(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [8, 32])
def test_narrow_tensors_are_rounded_once(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(1000, generator=generator).bfloat16() for _ in range(count)]
    expected = naive(tensors, [1.0] * count).bfloat16()
    assert torch.equal(swa([tensor.float() for tensor in tensors]).bfloat16(), expected)
