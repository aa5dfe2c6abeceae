"""scikit-learn's digits: 1,797 images of 8 by 8 points, and four domains made of them."""

from __future__ import annotations

import functools
from typing import Callable, Dict, Iterator, List, NamedTuple, Tuple

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

#: How far the random numbers of two seeds lie apart; below it, each purpose has its own.
PURPOSES = 1000

CLASSES = 10
PIXELS = 64

Batch = Tuple[Tensor, Tensor]


class Samples(NamedTuple):
    """Images `x` of 64 numbers from 0 to 1, one a row, and their classes `y`."""

    x: Tensor
    y: Tensor

    def part(self, start: int, count: int) -> Samples:
        return Samples(self.x[start : start + count], self.y[start : start + count])

    def batches(self, size: int = 64) -> List[Batch]:
        """All of them, in order, as a task's data."""
        return list(zip(self.x.split(size), self.y.split(size)))

    def shuffled(self) -> Shuffled:
        """All of them in an order of each time's own, as data to train on."""
        return Shuffled(self)

    def whole(self) -> List[Batch]:
        """All of them as one batch."""
        return [(self.x, self.y)]


class Shuffled:
    """Batches of 64 in random order, as a loader gives them that shuffles."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self._samples.y))
        return iter(Samples(self._samples.x[order], self._samples.y[order]).batches())


class Split(NamedTuple):
    train: Samples
    validation: Samples
    test: Samples


@functools.cache
def _all() -> Tuple[Tensor, Tensor]:
    found = load_digits()
    return torch.tensor(found.data / 16, dtype=torch.float32), torch.tensor(found.target)


def digits(seed: int) -> Split:
    """897 images to train on, 300 to decide by, 600 to report, each class in its share."""
    x, y = _all()
    rest, test = train_test_split(range(len(y)), test_size=600, stratify=y, random_state=seed)
    train, validation = train_test_split(
        rest, test_size=300, stratify=y[rest], random_state=seed + PURPOSES
    )
    return Split(*(Samples(x[places], y[places]) for places in (train, validation, test)))


def _square(x: Tensor) -> Tensor:
    return x.reshape(-1, 8, 8)


DOMAINS: Dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda x: x,
    "inverted": lambda x: 1 - x,
    "rotated": lambda x: torch.rot90(_square(x), 1, (1, 2)).reshape(-1, 64),
    "mirrored": lambda x: _square(x).flip(2).reshape(-1, 64),
}


def seen_as(samples: Samples, domain: str) -> Samples:
    """The same digits as that domain shows them."""
    return Samples(DOMAINS[domain](samples.x).contiguous(), samples.y)


def in_domains(samples: Samples) -> List[Samples]:
    """The same digits in each of the domains."""
    return [seen_as(samples, domain) for domain in DOMAINS]


def together(parts: List[Samples]) -> Samples:
    return Samples(torch.cat([it.x for it in parts]), torch.cat([it.y for it in parts]))


def dice(seed: int, purpose: int) -> torch.Generator:
    """Random numbers for one purpose of one seed."""
    return torch.Generator().manual_seed(seed * PURPOSES + purpose)
