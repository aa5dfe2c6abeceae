"""Whether two samples come from the same distribution: of classes, and of numbers.

A difference is told where it is both significant and large. Classes are compared by Pearson's
chi-square test of homogeneity, and measured by the population stability index

    PSI = sum over classes of (p - q) * ln(p / q)

whose customary marks are 0.1 (a shift) and 0.25 (a great one).
"""

from __future__ import annotations

import math
from typing import Dict, List, Mapping, NamedTuple, Tuple

import torch

#: A p-value below which a difference is significant: checks are made often, and rarely cry wolf.
SIGNIFICANT = 1e-3
SHIFT, GREAT_SHIFT = 0.1, 0.25
#: Expected samples of a class below which the test's approximation does not hold.
_FEWEST = 5.0
#: Samples added to each class, so that one that is missing has a share to take the logarithm of.
_SMOOTHING = 0.5

Counts = Mapping[int, int]


class Drift(NamedTuple):
    """How different two class distributions are, and how likely that is by chance."""

    psi: float
    p_value: float
    most: int

    @property
    def is_shift(self) -> bool:
        """Whether it is large enough, and no accident."""
        return self.psi >= SHIFT and self.p_value < SIGNIFICANT


def of_classes(one: Counts, other: Counts) -> Drift:
    """How the class distributions of two samples differ; `most` is the class that differs most."""
    classes = sorted({*one, *other})
    total, total_other = sum(one.values()), sum(other.values())
    parts: List[Tuple[float, int]] = []
    for each in classes:
        share = (one.get(each, 0) + _SMOOTHING) / (total + _SMOOTHING * len(classes))
        against = (other.get(each, 0) + _SMOOTHING) / (total_other + _SMOOTHING * len(classes))
        parts.append(((share - against) * math.log(share / against), each))
    psi = sum(part for part, _ in parts)
    most = max(parts)[1] if parts else 0
    return Drift(psi, _chi_square(one, other), most)


def _chi_square(one: Counts, other: Counts) -> float:
    """The p-value of the homogeneity of two samples; rare classes are taken together."""
    total, total_other = sum(one.values()), sum(other.values())
    whole = total + total_other
    if not total or not total_other:
        return 1.0
    cells: List[Tuple[int, int]] = []
    rare = [0, 0]
    for each in {*one, *other}:
        mine, theirs = one.get(each, 0), other.get(each, 0)
        if (mine + theirs) * min(total, total_other) / whole < _FEWEST:
            rare = [rare[0] + mine, rare[1] + theirs]
        else:
            cells.append((mine, theirs))
    if sum(rare) * min(total, total_other) / whole >= _FEWEST:
        cells.append((rare[0], rare[1]))
    if len(cells) < 2:  # noqa: PLR2004 - nothing to compare
        return 1.0
    statistic = 0.0
    for mine, theirs in cells:
        for found, size in ((mine, total), (theirs, total_other)):
            expected = (mine + theirs) * size / whole
            statistic += (found - expected) ** 2 / expected
    # The upper tail of the chi-square distribution, by the incomplete gamma function.
    half = torch.tensor([(len(cells) - 1) / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))


class Moments(NamedTuple):
    """Mean and standard deviation of the numbers of so many samples."""

    samples: int
    mean: float
    std: float


def of_numbers(one: Moments, other: Moments) -> float:
    """How far two means are apart in standard deviations, 0 where that may be chance (p > 0.001)."""
    pooled = math.sqrt((one.std**2 + other.std**2) / 2)
    error = math.sqrt(one.std**2 / max(1, one.samples) + other.std**2 / max(1, other.samples))
    apart = abs(one.mean - other.mean)
    if not pooled:
        return math.inf if apart else 0.0
    return apart / pooled if apart > _Z * error else 0.0


#: Standard errors beyond which a difference of means is significant (two-sided, 0.001).
_Z = 3.29


def shares(counts: Counts) -> Dict[int, float]:
    """Each class's share of the samples."""
    total = sum(counts.values())
    return {each: count / total for each, count in sorted(counts.items())}
