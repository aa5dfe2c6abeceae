"""Masks that are drawn at random."""

from __future__ import annotations

import math

import pytest
import torch
from otf_merge.randomness import ones_with_chance


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("chance", [1e-5, 1e-3, 0.1, 1 / 3, 0.5, 0.9, 0.99999])
def test_ones_come_with_their_chance(chance: float) -> None:
    drawn = generator(1)
    total, draws = 1 << 15, 128
    ones = sum(int(ones_with_chance(chance, (total,), drawn).sum()) for _ in range(draws))
    deviation = math.sqrt(chance * (1 - chance) * total * draws)
    # How many of 65,536 sides are ones is drawn for all numbers of one mask together.
    rest = chance * 65536 % 1
    deviation = math.hypot(deviation, math.sqrt(rest * (1 - rest) * draws) * total / 65536)
    assert abs(ones - chance * total * draws) <= 4 * deviation


def test_what_is_certain_is_certain() -> None:
    assert not ones_with_chance(0.0, (1000,), generator()).any()
    assert ones_with_chance(1.0, (1000,), generator()).all()


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (3, 5), (2, 0, 4)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    mask = ones_with_chance(0.5, shape, generator())
    assert mask.shape == shape
    assert set(mask.flatten().tolist()) <= {0, 1}


def test_each_number_is_drawn_by_itself() -> None:
    mask = ones_with_chance(0.5, (1 << 18,), generator(2)).double().sub_(0.5)
    again = ones_with_chance(0.5, (1 << 18,), generator(3)).double().sub_(0.5)
    # Four standard deviations of a product's mean, for neighbours near and far, and other seeds.
    most = 4 * 0.25 / math.sqrt(1 << 18)
    for distance in (1, 2, 3, 4, 5, 64, 1248):
        assert abs(float((mask * mask.roll(distance)).mean())) <= most
    assert abs(float((mask * again).mean())) <= most


def test_a_seed_gives_one_mask() -> None:
    first, again = (ones_with_chance(0.3, (999,), generator(5)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, ones_with_chance(0.3, (999,), generator(6)))
