"""The linear assignment, against SciPy's and by its own laws."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from otf_merge.alignment.assignment import assignment, constrained_assignment
from otf_merge.alignment.units import Units


def summed(similarity: torch.Tensor, columns: torch.Tensor) -> float:
    return float(similarity[torch.arange(len(similarity)), columns].sum())


def best_by_scipy(similarity: torch.Tensor) -> float:
    optimize = pytest.importorskip("scipy.optimize")
    rows, columns = optimize.linear_sum_assignment(similarity.numpy(), maximize=True)
    return float(similarity.numpy()[rows, columns].sum())


@given(size=st.integers(0, 5), seed=st.integers(0, 10_000), whole=st.booleans())
def test_the_sum_is_the_greatest_of_all_orders(size: int, seed: int, whole: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    similarity = torch.randn(size, size, generator=generator, dtype=torch.float64)
    if whole:
        similarity = similarity.round()
    found = assignment(similarity)
    assert sorted(found.tolist()) == list(range(size))
    best = max(
        summed(similarity, torch.tensor(it, dtype=torch.int64))
        for it in itertools.permutations(range(size))
    )
    assert summed(similarity, found) == pytest.approx(best, abs=1e-12)


def hard_cases() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    dead = normal(120, 120)
    dead[:50] = 0
    dead[:, 30:90] = 0
    products = torch.outer(torch.arange(1.0, 81.0), torch.arange(1.0, 81.0)).double()
    order = torch.randperm(200, generator=generator)
    weights = normal(200, 30)
    return {
        "noise": normal(150, 150),
        "two dimensions": normal(120, 2) @ normal(2, 120),
        "one dimension": normal(100, 1) @ normal(1, 100),
        "a permuted copy": weights @ weights[order].T,
        "dead units": dead,
        "products": products,
        "products, the other way": -products,
        "many alike": torch.randint(0, 3, (100, 100), generator=generator).double(),
        "all alike": torch.full((60, 60), 2.5, dtype=torch.float64),
        "far apart": normal(80, 80) * 10.0 ** torch.randint(-8, 8, (80, 80), generator=generator),
        "large": normal(90, 90) * 1e200,
    }


@pytest.mark.parametrize("name", list(hard_cases()))
def test_hard_cases_are_as_good_as_by_scipy(name: str) -> None:
    similarity = hard_cases()[name]
    found = assignment(similarity)
    assert sorted(found.tolist()) == list(range(len(similarity)))
    best = best_by_scipy(similarity)
    scale = float(similarity.abs().max())
    assert summed(similarity, found) == pytest.approx(best, rel=1e-12, abs=1e-9 * scale)


def test_a_permuted_identity_is_found_and_repeats() -> None:
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    similarity = torch.eye(64, dtype=torch.float64)[order]
    assert torch.equal(assignment(similarity), order)
    noise = torch.randn(50, 50, generator=torch.Generator().manual_seed(2))
    assert torch.equal(assignment(noise), assignment(noise))


def all_orders(units: Units) -> list[list[int]]:
    size = units.size // units.blocks

    def allowed(order: tuple[int, ...]) -> bool:
        blocks = [{it // size for it in order[i : i + size]} for i in range(0, units.size, size)]
        whole = all(len(it) == 1 for it in blocks)
        return whole and (units.movable or blocks == [{i} for i in range(units.blocks)])

    return [list(it) for it in itertools.permutations(range(units.size)) if allowed(it)]


@pytest.mark.parametrize("movable", [True, False])
@pytest.mark.parametrize(("size", "blocks"), [(6, 2), (6, 3), (4, 4), (4, 1)])
def test_units_stay_within_their_blocks(size: int, blocks: int, movable: bool) -> None:
    units = Units(size, blocks, movable)
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        similarity = torch.randn(size, size, generator=generator, dtype=torch.float64)
        found = constrained_assignment(similarity, units)
        orders = (
            all_orders(units)
            if blocks > 1
            else [list(it) for it in itertools.permutations(range(size))]
        )
        assert found.tolist() in orders
        best = max(summed(similarity, torch.tensor(it)) for it in orders)
        assert summed(similarity, found) == pytest.approx(best)
