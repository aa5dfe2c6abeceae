"""Methods on deltas against their papers' formulas, one number at a time in Python's arithmetic."""

from __future__ import annotations

import itertools
import math
from typing import Any, Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from otf_merge.errors import InvalidParameter
from otf_merge.methods.breadcrumbs import breadcrumbs
from otf_merge.methods.breadcrumbs_ties import breadcrumbs_ties
from otf_merge.methods.dare_linear import dare_linear
from otf_merge.methods.dare_ties import dare_ties
from otf_merge.methods.della import _chances, della
from otf_merge.methods.nearswap import nearswap
from otf_merge.methods.task_arithmetic import task_arithmetic
from otf_merge.methods.ties import ties
from otf_merge.testing import merge_tensors
from torch import Tensor

SHAPES = [(), (1,), (0,), (7,), (5, 1), (1, 5), (6, 4), (2, 3, 4)]


pytestmark = pytest.mark.usefixtures("one_thread")

Numbers = list[float]


@st.composite
def families(draw: Any) -> tuple[list[Tensor], Tensor, list[float]]:
    """Tensors, their base, and weights, as float32 is computed with."""
    shape = draw(st.sampled_from(SHAPES))
    count = draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    base, *deltas = torch.randn((count + 1, *shape), generator=generator).double()
    weights = draw(st.lists(st.floats(0.1, 10), min_size=count, max_size=count))
    return [(base + delta).float().double() for delta in deltas], base, weights


def deltas_of(tensors: list[Tensor], base: Tensor) -> list[Numbers]:
    return [(tensor - base).flatten().tolist() for tensor in tensors]


def applied(base: Tensor, delta: list[float]) -> Tensor:
    numbers = [b + d for b, d in zip(base.flatten().tolist(), delta)]
    return torch.tensor(numbers, dtype=torch.float64).reshape(base.shape)


def summed(deltas: list[Numbers], weights: list[float]) -> Numbers:
    return [math.fsum(w * d for w, d in zip(weights, column)) for column in zip(*deltas)]


def close(result: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9)


scales = st.sampled_from([1.0, 0.3, -1.0, 2.5])
sizes = st.sampled_from([3, 1 << 18])


# Task arithmetic


@given(families(), scales, st.booleans(), sizes)
def test_task_arithmetic_adds_scaled_deltas(
    family: Any, scale: float, normalize: bool, size: int
) -> None:
    tensors, base, weights = family
    divisor = math.fsum(weights) if normalize else 1.0
    total = [scale * it / divisor for it in summed(deltas_of(tensors, base), weights)]
    result = merge_tensors(
        task_arithmetic,
        tensors,
        base=base,
        weights=weights,
        size=size,
        scale=scale,
        normalize=normalize,
    )
    close(result, applied(base, total))


def test_a_negative_scale_moves_away_from_the_checkpoint() -> None:
    base, tensor = torch.tensor([1.0, 2.0]), torch.tensor([1.5, 1.0])
    assert merge_tensors(task_arithmetic, [tensor], base=base, scale=-1.0).tolist() == [0.5, 3.0]


@given(families(), scales, sizes, st.data())
def test_a_negative_weight_takes_away_what_its_checkpoint_has_learned(
    family: Any, scale: float, size: int, data: Any
) -> None:
    tensors, base, weights = family
    weights = [data.draw(st.sampled_from([it, -it])) for it in weights]
    expected = applied(base, [scale * it for it in summed(deltas_of(tensors, base), weights)])
    given = {"base": base, "weights": weights, "scale": scale}
    close(merge_tensors(task_arithmetic, tensors, size=size, **given), expected)
    close(merge_tensors(dare_linear, tensors, size=size, drop_rate=0.0, **given), expected)
    close(merge_tensors(breadcrumbs, tensors, size=size, density=1.0, **given), expected)
    close(merge_tensors(della, tensors, size=size, density=1.0, elect=False, **given), expected)


# Election


def fused(
    deltas: list[Numbers],
    weights: list[float],
    *,
    vote: str = "mass",
    draw: str = "base",
    consensus: str = "mean",
) -> Numbers:
    """TIES' second and third step, weight by weight."""
    merged = []
    for column in zip(*deltas):
        voices = [1.0] * len(weights) if consensus == "count" else weights
        ballots = [math.copysign(1, d) if d else 0 for d in column] if vote == "count" else column
        mass = math.fsum(v * b for v, b in zip(voices, ballots))
        sign = 1 if mass > 0 or (mass == 0 and draw == "positive") else -1 if mass < 0 else 0
        agreeing = [(w, d) for w, d in zip(weights, column) if d * sign > 0]
        total = math.fsum(w * d for w, d in agreeing)
        if consensus == "mean" and agreeing:
            total /= math.fsum(w for w, _ in agreeing)
        if consensus == "count" and agreeing:
            total /= len(agreeing)
        merged.append(total)
    return merged


def trimmed(deltas: list[Numbers], density: float) -> list[Numbers]:
    """TIES' first step: the greatest share of each checkpoint's deltas, and what is as great."""
    kept = []
    for delta in deltas:
        count = math.ceil(round(density * len(delta), 9))
        least = sorted((abs(d) for d in delta), reverse=True)[count - 1] if count else math.inf
        kept.append([d if abs(d) >= least else 0.0 for d in delta])
    return kept


elections = st.fixed_dictionaries(
    {
        "vote": st.sampled_from(["mass", "count"]),
        "draw": st.sampled_from(["base", "positive"]),
        "consensus": st.sampled_from(["mean", "sum", "count"]),
    }
)


@given(
    families(),
    scales,
    st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.5, 0.9, 1.0]),
    st.sampled_from(["model", "tensor"]),
    elections,
    sizes,
)
def test_ties_trims_elects_and_fuses(
    family: Any, scale: float, density: float, scope: str, election: Any, size: int
) -> None:
    tensors, base, weights = family
    kept = trimmed(deltas_of(tensors, base), density)
    merged = fused(kept, weights, **election)
    result = merge_tensors(
        ties,
        tensors,
        base=base,
        weights=weights,
        size=size,
        density=density,
        scope=scope,
        scale=scale,
        **election,
    )
    close(result, applied(base, [scale * it for it in merged]))


def test_ties_by_hand() -> None:
    # The smallest of each row is trimmed; then signs are in conflict in the third column, and in
    # the fourth 2 against -2 is a draw.
    deltas = torch.tensor([[4.0, 1.0, -3.0, 2.0], [2.0, -0.1, 5.0, -2.0], [3.0, 0.5, -1.0, 0.1]])
    base = torch.zeros(4)
    result = merge_tensors(ties, list(deltas), base=base, density=0.75)
    assert result.tolist() == [3.0, 0.5, 5.0, 0.0]
    positive = merge_tensors(ties, list(deltas), base=base, density=0.75, draw="positive")
    assert positive.tolist() == [3.0, 0.5, 5.0, 2.0]


def test_equal_deltas_at_the_cutoff_are_all_kept() -> None:
    tensor = torch.tensor([1.0, 1.0, 1.0, 0.5])
    merged = merge_tensors(ties, [tensor], base=torch.zeros(4), density=0.25)
    assert merged.tolist() == [1.0, 1.0, 1.0, 0.0]


def test_a_tensor_of_one_number_is_kept_at_any_density() -> None:
    for method in (ties, breadcrumbs, breadcrumbs_ties):
        result = merge_tensors(method, [torch.tensor(3.0)], base=torch.tensor(1.0), density=0.01)
        assert result.item() == 3.0


# DARE


def outcomes(tensors: list[Tensor], base: Tensor, rate: float, fuse: Callable[..., Any]) -> Tensor:
    """What each weight may become, over all masks: shape (masks, *shape)."""
    possible = []
    for mask in itertools.product([0.0, 1.0], repeat=len(tensors)):
        deltas = [
            [keep * d / (1 - rate) for d in delta]
            for keep, delta in zip(mask, deltas_of(tensors, base))
        ]
        possible.append(applied(base, fuse(deltas)))
    return torch.stack(possible)


def family(count: int, shape: tuple[int, ...], seed: int = 0) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    base, *deltas = torch.randn((count + 1, *shape), generator=generator).double()
    return [(base + delta).float().double() for delta in deltas], base


def among(result: Tensor, possible: Tensor) -> bool:
    return bool((result - possible).abs().amin(dim=0).max() < 1e-12)


@pytest.mark.parametrize("rate", [0.9, 0.5, 0.1])
@pytest.mark.parametrize("method", [dare_linear, dare_ties])
def test_dare_drops_and_rescales_and_nothing_else(method: Any, rate: float) -> None:
    weights = [1.0, 2.0, 0.5]
    tensors, base = family(3, (40, 25))
    fuse = summed if method is dare_linear else fused
    result = merge_tensors(method, tensors, base=base, weights=weights, drop_rate=rate, seed=3)
    assert among(result, outcomes(tensors, base, rate, lambda deltas: fuse(deltas, weights)))


@pytest.mark.parametrize("rate", [0.9, 0.5, 0.1])
def test_dare_keeps_each_weight_with_its_chance(rate: float) -> None:
    count = 200_000
    tensor = torch.ones(count, dtype=torch.float64)
    result = merge_tensors(dare_linear, [tensor], base=torch.zeros_like(tensor), drop_rate=rate)
    kept = result.count_nonzero().item() / count
    deviation = math.sqrt(rate * (1 - rate) / count)
    assert abs(kept - (1 - rate)) < 4 * deviation
    # What is left is as much as there was, on average.
    assert abs(result.mean().item() - 1) < 4 * deviation / (1 - rate)


def test_each_checkpoint_has_a_mask_of_its_own() -> None:
    ones, zeros = torch.ones(10_000, dtype=torch.float64), torch.zeros(10_000, dtype=torch.float64)
    result = merge_tensors(dare_linear, [ones, 10 * ones], base=zeros, drop_rate=0.5)
    shares = [(result == value).double().mean().item() for value in (0.0, 2.0, 20.0, 22.0)]
    assert shares == pytest.approx([0.25] * 4, abs=0.02)


def test_without_rescaling_the_deltas_stay_as_they_are() -> None:
    ones = torch.ones(1000, dtype=torch.float64)
    for method in (dare_linear, dare_ties):
        result = merge_tensors(method, [ones], base=0 * ones, rescale=False)
        assert sorted(result.unique().tolist()) == [0.0, 1.0]


def test_dare_can_average() -> None:
    ones = torch.ones(1000, dtype=torch.float64)
    result = merge_tensors(
        dare_linear, [ones, ones], base=0 * ones, weights=[3.0, 1.0], drop_rate=0.5, normalize=True
    )
    assert sorted(result.unique().tolist()) == [0.0, 0.5, 1.5, 2.0]


@pytest.mark.parametrize("method", [dare_linear, dare_ties, della])
def test_masks_come_from_the_seed(method: Any) -> None:
    tensors, base = family(2, (10, 10))
    first, again, other = (
        merge_tensors(method, tensors, base=base, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@given(families(), scales, elections)
def test_dare_without_dropping_is_the_method_it_thins_for(
    family: Any, scale: float, election: Any
) -> None:
    tensors, base, weights = family
    given = {"base": base, "weights": weights, "scale": scale}
    assert torch.equal(
        merge_tensors(dare_linear, tensors, drop_rate=0.0, **given),
        merge_tensors(task_arithmetic, tensors, **given),
    )
    assert torch.equal(
        merge_tensors(dare_ties, tensors, drop_rate=0.0, **given, **election),
        merge_tensors(ties, tensors, density=1.0, **given, **election),
    )


# DELLA


@pytest.mark.parametrize(("density", "epsilon"), [(0.5, 0.15), (0.3, 0.25), (0.9, 0.1), (0.4, 0.0)])
def test_della_keeps_each_delta_by_its_rank_in_the_row(density: float, epsilon: float) -> None:
    rows, width = 50_000, 5
    # Every row has the same sizes in another place, so that ranks are known.
    places = torch.rand(rows, width, generator=torch.Generator().manual_seed(1)).argsort(dim=1)
    delta = (places + 1.0).double() * torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0])
    result = merge_tensors(
        della, [delta], base=torch.zeros_like(delta), density=density, epsilon=epsilon
    )
    for rank in range(width):
        chance = density - epsilon + 2 * epsilon * rank / (width - 1)
        found = result[places == rank]
        kept = found[found != 0]
        deviation = math.sqrt(chance * (1 - chance) / rows)
        assert abs(len(kept) / rows - chance) <= 4 * deviation
        # Each survivor is divided by its own chance, so that nothing is lost on average.
        torch.testing.assert_close(kept.abs(), torch.full_like(kept, (rank + 1) / chance))


@pytest.mark.parametrize("rows", [1, 3, 70])
def test_della_ranks_equal_sizes_in_their_order(rows: int) -> None:
    width = 1000
    delta = torch.randint(-3, 4, (rows, width), generator=torch.Generator().manual_seed(5)).float()
    chances = _chances(delta, 0.5, 0.25)
    ramp = torch.linspace(0.25, 0.75, width)
    for sizes, found in zip(delta.abs().tolist(), chances):
        order = sorted(range(width), key=sizes.__getitem__)
        assert torch.equal(found[order], ramp)


def test_della_rows_are_first_indices_and_a_vector_is_one_row() -> None:
    # With as good as no chance for the smallest and certainty for the greatest of two.
    delta = torch.tensor([1.0, 2.0]).repeat(500).double()
    options = {"density": 0.5, "epsilon": 0.4999999}
    for shape, kept in [((500, 2), 1.0), ((500, 2, 1), 1.0), ((1000,), 0.75)]:
        tensor = delta.reshape(shape)
        result = merge_tensors(della, [tensor], base=torch.zeros_like(tensor), **options)
        greatest = (result != 0).flatten()[1::2].double().mean().item()
        assert greatest == pytest.approx(kept, abs=0.05)


@pytest.mark.parametrize("shape", [(), (1,), (3000, 1), (3000, 1, 1)])
def test_della_keeps_a_row_of_one_weight_by_the_density(shape: tuple[int, ...]) -> None:
    ones = torch.ones(shape, dtype=torch.float64)
    result = merge_tensors(della, [ones], base=0 * ones, density=0.5)
    assert set(result.flatten().tolist()) <= {0.0, 2.0}
    if result.numel() > 1:
        assert result.mean().item() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("elect", [True, False])
def test_della_fuses_what_is_left(elect: bool) -> None:
    tensors, base = family(3, (40, 1))
    weights = [1.0, 2.0, 0.5]
    fuse = fused if elect else summed
    possible = outcomes(tensors, base, 0.5, lambda deltas: fuse(deltas, weights))
    result = merge_tensors(della, tensors, base=base, weights=weights, density=0.5, elect=elect)
    assert among(result, possible)


def test_dellas_default_epsilon_fits_every_density() -> None:
    tensors, base = family(2, (5, 4))
    for density in (1e-3, 0.1, 0.5, 0.95, 1.0):
        result = merge_tensors(della, tensors, base=base, density=density)
        assert bool(torch.isfinite(result).all())


@pytest.mark.parametrize(("density", "epsilon"), [(0.1, 0.1), (0.1, 0.2), (0.95, 0.1)])
def test_della_refuses_chances_beyond_0_and_1(density: float, epsilon: float) -> None:
    tensors, base = family(2, (5, 4))
    with pytest.raises(InvalidParameter, match="Choose an epsilon below"):
        merge_tensors(della, tensors, base=base, density=density, epsilon=epsilon)


# Breadcrumbs


def between(deltas: list[Numbers], density: float, gamma: float) -> list[Numbers]:
    """The deltas without the floor(beta m) smallest and the floor(gamma m) greatest."""
    kept = []
    for delta in deltas:
        top = min(gamma, round(1 - density, 12))
        below = math.floor(round(1 - density - top, 12) * len(delta))
        above = math.floor(top * len(delta))
        order = sorted(range(len(delta)), key=lambda i: abs(delta[i]))
        inside = set(order[below : len(delta) - above])
        kept.append([d if i in inside else 0.0 for i, d in enumerate(delta)])
    return kept


@given(
    families(),
    scales,
    st.sampled_from([0.05, 0.15, 0.5, 0.9, 1.0]),
    st.sampled_from([0.0, 0.006, 0.1, 0.4]),
    st.booleans(),
    st.sampled_from(["model", "tensor"]),
    sizes,
)
def test_breadcrumbs_leave_out_both_tails(
    family: Any, scale: float, density: float, gamma: float, normalize: bool, scope: str, size: int
) -> None:
    tensors, base, weights = family
    kept = between(deltas_of(tensors, base), density, gamma)
    divisor = math.fsum(weights) if normalize else 1.0
    shared = {"base": base, "weights": weights, "density": density, "gamma": gamma, "scope": scope}
    result = merge_tensors(
        breadcrumbs, tensors, size=size, scale=scale, normalize=normalize, **shared
    )
    close(result, applied(base, [scale * it / divisor for it in summed(kept, weights)]))
    result = merge_tensors(breadcrumbs_ties, tensors, size=size, scale=scale, **shared)
    close(result, applied(base, [scale * it for it in fused(kept, weights)]))


@pytest.mark.parametrize("size", [1, 2, 5, 64, 100])
def test_small_tensors_keep_some_of_their_deltas(size: int) -> None:
    tensors, base = family(1, (size,))
    for method in (breadcrumbs, breadcrumbs_ties, ties):
        result = merge_tensors(method, tensors, base=base, density=0.05)
        assert (result != base).sum().item() >= max(1, math.floor(0.05 * size))


# NearSwap


@given(families(), st.sampled_from([1e-4, 0.3, 100.0]))
def test_nearswap_interpolates_by_nearness(family: Any, threshold: float) -> None:
    tensors, base, _ = family
    share = [min(1.0, threshold / abs(d)) if d else 1.0 for d in deltas_of(tensors, base)[0]]
    moved = [s * d for s, d in zip(share, deltas_of(tensors, base)[0])]
    result = merge_tensors(nearswap, tensors[:1], base=base, threshold=threshold)
    close(result, applied(base, moved))


# Exactness that the laws of the suite do not ask for


@pytest.mark.parametrize("method", [ties, dare_ties, breadcrumbs, dare_linear, della, nearswap])
def test_what_nobody_changed_stays_to_the_sign_of_zero(method: Any) -> None:
    base = torch.tensor([-0.0, 0.0, 1.0, -2.0], dtype=torch.float64)
    tensors = [base.clone()]
    result = merge_tensors(method, tensors, base=base)
    assert torch.signbit(result).tolist() == [True, False, False, True]


def test_copies_come_back_where_they_are_tiny_beside_the_base() -> None:
    # base + (t - base) would round most of t away.
    base, tensor = (
        torch.tensor([1e6], dtype=torch.float64),
        torch.tensor([1e-12], dtype=torch.float64),
    )
    tensors = [tensor, tensor]
    for method, parameters in [
        (task_arithmetic, {"normalize": True}),
        (dare_linear, {"normalize": True, "drop_rate": 0.0}),
        (dare_ties, {"drop_rate": 0.0}),
        (della, {"density": 1.0}),
        (breadcrumbs, {"normalize": True, "density": 1.0}),
        (breadcrumbs_ties, {"density": 1.0}),
        (ties, {"density": 1.0}),
    ]:
        result = merge_tensors(method, tensors, base=base, **parameters)
        assert result.item() == pytest.approx(1e-12, rel=1e-15), method.name
