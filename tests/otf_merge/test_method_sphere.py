"""`slerp`, `multislerp`, `karcher` and `model-stock` against vector formulas in the whole space."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from otf_merge.methods.karcher import karcher
from otf_merge.methods.model_stock import model_stock
from otf_merge.methods.multislerp import multislerp
from otf_merge.methods.slerp import slerp
from otf_merge.testing import merge_tensors
from torch import Tensor

SHAPES = [(2,), (7,), (5, 1), (1, 5), (2, 3, 4)]


pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(count: int, shape: tuple[int, ...], seed: int, spread: float = 1.0) -> list[Tensor]:
    """Random tensors around a common direction, of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    center, *others = torch.randn((count + 1, *shape), generator=generator, dtype=torch.float64)
    return [(center + spread * it) * (1 + 0.3 * i) for i, it in enumerate(others)]


def unit(tensor: Tensor) -> Tensor:
    return tensor / tensor.pow(2).sum().sqrt()


def between(a: Tensor, b: Tensor) -> float:
    return math.acos(max(-1.0, min(1.0, float((unit(a) * unit(b)).sum()))))


def log(point: Tensor, other: Tensor) -> Tensor:
    """The vector from a point on the unit sphere along the arc to another, as long as the arc."""
    angle = between(point, other)
    flat = unit(other) - math.cos(angle) * point
    return torch.zeros_like(point) if angle < 1e-12 else angle / math.sin(angle) * flat


def exp(point: Tensor, step: Tensor) -> Tensor:
    angle = float(step.pow(2).sum().sqrt())
    return point if angle == 0 else math.cos(angle) * point + math.sin(angle) / angle * step


def mean_step(point: Tensor, tensors: list[Tensor], shares: list[float]) -> Tensor:
    return sum(
        (share * log(point, tensor) for share, tensor in zip(shares, tensors)),
        torch.zeros_like(point),
    )


def naive_mean(tensors: list[Tensor], weights: list[float], steps: int) -> Tensor:
    shares = [weight / math.fsum(weights) for weight in weights]
    start = sum(
        (share * unit(it) for share, it in zip(shares, tensors)), torch.zeros_like(tensors[0])
    )
    point = unit(start)
    for _ in range(steps):
        point = unit(exp(point, mean_step(point, tensors, shares)))
    return point * math.fsum(s * float(it.pow(2).sum().sqrt()) for s, it in zip(shares, tensors))


def naive_slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    angle = between(a, b)
    return (math.sin((1 - t) * angle) * a + math.sin(t * angle) * b) / math.sin(angle)


def close(result: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)


cases = given(
    count=st.integers(2, 5),
    shape=st.sampled_from(SHAPES),
    seed=st.integers(0, 10**6),
    size=st.sampled_from([3, 1 << 18]),
    data=st.data(),
)


def shares_for(data: st.DataObject, count: int) -> list[float]:
    return data.draw(st.lists(st.floats(0.1, 10), min_size=count, max_size=count))


@given(
    shape=st.sampled_from(SHAPES),
    seed=st.integers(0, 10**6),
    t=st.floats(0, 1),
    size=st.sampled_from([3, 1 << 18]),
)
def test_slerp_is_shoemakes_formula(shape: Any, seed: int, t: float, size: int) -> None:
    a, b = drawn(2, shape, seed)
    if abs(math.cos(between(a, b))) <= 0.999:
        close(merge_tensors(slerp, [a, b], t=t, size=size), naive_slerp(a, b, t))
    base = drawn(1, shape, seed + 1)[0]
    if abs(math.cos(between(a - base, b - base))) <= 0.999:
        result = merge_tensors(slerp, [a, b], base=base, t=t, size=size)
        close(result, base + naive_slerp(a - base, b - base, t))


@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0, -3.0, 0.0])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_slerp_of_parallel_opposite_and_zero_tensors_is_the_line(factor: float, t: float) -> None:
    (a,) = drawn(1, (4, 3), 0)
    close(merge_tensors(slerp, [a, factor * a], t=t), (1 - t) * a + t * factor * a)


def test_slerp_ends_at_its_two_checkpoints_exactly() -> None:
    a, b = drawn(2, (5, 4), 3)
    base = drawn(1, (5, 4), 4)[0]
    for given_base in (None, base):
        assert torch.equal(merge_tensors(slerp, [a, b], base=given_base, t=0.0), a)
        assert torch.equal(merge_tensors(slerp, [a, b], base=given_base, t=1.0), b)


def test_slerp_shows_a_base_that_is_not_finite() -> None:
    a, b = drawn(2, (3,), 0)
    base = torch.tensor([0.0, math.nan, 0.0], dtype=torch.float64)
    result = merge_tensors(slerp, [a, b], base=base)
    assert torch.isfinite(result).tolist() == [True, False, True]


@cases
def test_multislerp_is_one_step_from_the_average_direction(
    count: int, shape: Any, seed: int, size: int, data: st.DataObject
) -> None:
    tensors = drawn(count, shape, seed, spread=0.5)
    weights = shares_for(data, count)
    if any(between(naive_mean(tensors, weights, 0), it) > 2.5 for it in tensors):
        return
    result = merge_tensors(multislerp, tensors, weights=weights, size=size)
    close(result, naive_mean(tensors, weights, 1), 1e-8)
    base = drawn(1, shape, seed + 1)[0]
    moved = [base + it for it in tensors]
    result = merge_tensors(multislerp, moved, weights=weights, base=base, size=size)
    close(result, base + naive_mean(tensors, weights, 1), 1e-8)


@pytest.mark.parametrize("weights", [[1.0, 1.0], [1.0, 3.0], [5.0, 1.0]])
def test_of_two_tensors_all_means_have_the_direction_of_slerp(weights: list[float]) -> None:
    a, b = drawn(2, (6, 3), 1)
    expected = naive_slerp(unit(a), unit(b), weights[1] / sum(weights))
    for method in (multislerp, karcher):
        close(unit(merge_tensors(method, [a, b], weights=weights)), expected)


@cases
def test_karcher_is_where_all_logarithms_cancel_out(
    count: int, shape: Any, seed: int, size: int, data: st.DataObject
) -> None:
    tensors = drawn(count, shape, seed, spread=0.4)
    weights = shares_for(data, count)
    if any(between(a, b) > 1.2 for a in tensors for b in tensors):
        return
    result = merge_tensors(karcher, tensors, weights=weights, size=size, max_iter=200, tol=0.0)
    shares = [weight / math.fsum(weights) for weight in weights]
    left = mean_step(unit(result), tensors, shares)
    assert float(left.pow(2).sum().sqrt()) < 1e-7
    length = math.fsum(s * float(it.pow(2).sum().sqrt()) for s, it in zip(shares, tensors))
    assert float(result.pow(2).sum().sqrt()) == pytest.approx(length)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_karcher_takes_no_more_steps_than_it_may(steps: int) -> None:
    tensors = drawn(4, (3, 4), 2)
    weights = [1.0, 2.0, 3.0, 4.0]
    result = merge_tensors(karcher, tensors, weights=weights, max_iter=steps, tol=0.0)
    close(result, naive_mean(tensors, weights, steps))
    assert not torch.allclose(result, naive_mean(tensors, weights, steps - 1), rtol=1e-7)


def test_karcher_stops_at_a_step_below_its_tolerance() -> None:
    tensors = drawn(3, (3, 4), 2)
    coarse = merge_tensors(karcher, tensors, tol=3.0)
    close(coarse, naive_mean(tensors, [1.0] * 3, 0))
    fine = merge_tensors(karcher, tensors)
    assert between(fine, naive_mean(tensors, [1.0] * 3, 100)) < 1e-4


@pytest.mark.parametrize("method", [multislerp, karcher])
def test_tensors_of_zeros_have_a_length_but_no_direction(method: Any) -> None:
    a, b = drawn(2, (3, 4), 5)
    zero = torch.zeros_like(a)
    result = merge_tensors(method, [a, zero, b], weights=[1.0, 2.0, 1.0])
    close(result, naive_mean([a, b], [1.0, 1.0], 1) / 2)
    assert torch.equal(merge_tensors(method, [zero, zero]), zero)


@pytest.mark.parametrize("method", [multislerp, karcher])
def test_directions_that_cancel_out_leave_the_straight_average(method: Any) -> None:
    a, b = drawn(2, (3, 4), 6)
    assert torch.equal(merge_tensors(method, [a, -a]), torch.zeros_like(a))
    close(merge_tensors(method, [a, -2 * a]), -a / 2)
    close(merge_tensors(method, [a, -a, b], weights=[1.0, 1.0, 0.0]), torch.zeros_like(a))


@pytest.mark.parametrize("method", [multislerp, karcher])
def test_what_is_opposite_to_the_average_direction_does_not_pull(method: Any) -> None:
    a, _ = drawn(2, (3, 4), 6)
    close(merge_tensors(method, [a, a, -a]), a)


@pytest.mark.parametrize("method", [multislerp, karcher])
def test_a_tensor_without_weight_may_hold_anything(method: Any) -> None:
    a, b, spoilt = drawn(3, (3, 4), 7)
    expected = merge_tensors(method, [a, b])
    spoilt[0, 0] = math.nan
    result = merge_tensors(method, [a, spoilt, b], weights=[1.0, 0.0, 1.0])
    close(result, expected)


def test_projections_leave_just_the_average_direction() -> None:
    tensors = drawn(3, (3, 4), 8)
    result = merge_tensors(multislerp, tensors, tangent="projection")
    close(result, naive_mean(tensors, [1.0] * 3, 0))


def naive_model_stock(tensors: list[Tensor], base: Tensor) -> tuple[Tensor, float]:
    """Equation by equation; and the mean cosine."""
    count = len(tensors)
    deltas = [it - base for it in tensors]
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    cosine = math.fsum(float((unit(deltas[i]) * unit(deltas[j])).sum()) for i, j in pairs) / len(
        pairs
    )
    ratio = count * cosine / (1 + (count - 1) * cosine)
    average = sum(tensors, torch.zeros_like(base)) / count
    return ratio * average + (1 - ratio) * base, cosine


@given(
    count=st.integers(2, 5),
    shape=st.sampled_from(SHAPES),
    seed=st.integers(0, 10**6),
    size=st.sampled_from([3, 1 << 18]),
)
def test_model_stock_is_its_formula(count: int, shape: Any, seed: int, size: int) -> None:
    base, *tensors = drawn(count + 1, shape, seed)
    expected, cosine = naive_model_stock(tensors, base)
    if 1 + (count - 1) * cosine < 1e-3:
        return
    result = merge_tensors(model_stock, tensors, base=base, size=size, extrapolate=True)
    close(result, expected, 1e-7)
    clipped = merge_tensors(model_stock, tensors, base=base, size=size)
    close(clipped, expected if cosine > 0 else base, 1e-7)


def test_model_stock_keeps_the_base_where_checkpoints_cancel_out() -> None:
    base, delta = drawn(2, (4, 3), 9)
    for extrapolate in (False, True):
        tensors = [base + delta, base - delta]
        result = merge_tensors(model_stock, tensors, base=base, extrapolate=extrapolate)
        close(result, base)


def test_model_stock_keeps_the_base_where_one_checkpoint_of_two_never_left_it() -> None:
    base, other = drawn(2, (4, 3), 9)
    assert torch.equal(merge_tensors(model_stock, [base, other], base=base), base)
