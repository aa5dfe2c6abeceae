"""Weight matching: the permutations that bring one model's weights nearest to another's.

Ainsworth, Hayase and Srinivasa 2022, "Git Re-Basin", arXiv:2209.04836, algorithm 1: maximise
`sum <A, P B>` over all tensors by coordinate descent, each step a linear assignment problem.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, NamedTuple

import torch

from .assignment import constrained_assignment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from .units import Permutations, PermutationSpec, Place

#: The whole tensor of that name in float64, which is only looked at.
Read = Callable[[str], "Tensor"]

# Rounding moves a sum by less than this share of the lengths of what it is a product of.
_ROUNDING = 1e-11
# The share of units that must find a nearest one of their own by sorted weights for that to be a
# start; in models that have little in common, many share one.
_OWN = 0.9


class Match(NamedTuple):
    """Permutations of a model, and how they were found: rounds of the descent from that start."""

    permutations: Permutations
    similarity: float
    rounds: int
    start: str


@dataclass(frozen=True)
class Matcher:
    """Finds the permutations that match a model's weights to a target's.

    `counted` are the tensors of the spec that count; others only follow. `rounds` is the most that
    a descent takes.
    """

    spec: PermutationSpec
    counted: Sequence[str]
    seed: int = 0
    rounds: int = 100

    def matched(self, target: Read, model: Read, restarts: int = 0) -> Match:
        """The best of descents from several starts.

        These are the order that the model has, as in the paper; the order by which each unit's
        sorted weights are nearest, which finds any permuted copy at once; and `restarts` random
        orders.
        """
        nearest = self._nearest(target, model)
        if nearest is not None and self._is_copy(target, model, nearest):
            return Match(nearest, self.similarity(target, model, nearest), 0, "sorted weights")
        starts = {"as it is": self.spec.identity()}
        if nearest is not None:
            starts["sorted weights"] = nearest
        generator = torch.Generator().manual_seed(self.seed)
        for number in range(restarts):
            starts[f"random {number + 1}"] = self.spec.random(generator)
        found = [self.descended(target, model, it, name) for name, it in starts.items()]
        return max(found, key=lambda match: match.similarity)

    def descended(
        self, target: Read, model: Read, start: Permutations, name: str = "given"
    ) -> Match:
        """The coordinate descent from a start until nothing improves, in a seeded random order."""
        generator = torch.Generator().manual_seed(self.seed)
        current = dict(start)
        units = list(self.spec.units)
        waiting = set(units)
        rounds = 0
        while waiting and rounds < self.rounds:
            rounds += 1
            for place in torch.randperm(len(units), generator=generator).tolist():
                one = units[place]
                if one not in waiting:
                    continue
                waiting.discard(one)
                better = self._improved(target, model, current, one)
                if better is not None:
                    current[one] = better
                    waiting |= self._neighbours(one)
        return Match(current, self.similarity(target, model, current), rounds, name)

    def similarity(self, target: Read, model: Read, permutations: Permutations) -> float:
        """`sum <A, P B>` over the tensors that count."""
        return sum(self._product(target, model, it, permutations) for it in self.counted)

    # One step

    def _improved(
        self, target: Read, model: Read, current: Permutations, units: str
    ) -> Tensor | None:
        """The best order of some units while all others stay, or None where it is no better.

        A tensor that has the units on two axes, as where a residual stream goes in and out, makes
        the problem quadratic. As in the paper it is taken axis by axis; what comes of that is kept
        only where the true similarity grows.
        """
        size = self.spec.units[units].size
        benefit = torch.zeros(size, size, dtype=torch.float64)
        for place in self.spec.places(units):
            if place.name in self.counted:
                theirs = self.spec.permuted(place.name, model(place.name), current)
                benefit += _rows(target(place.name), place) @ _rows(theirs, place).T
        # Relative to the order that the units have now.
        change = constrained_assignment(benefit, self.spec.units[units])
        trial = {**current, units: current[units][change]}
        names = [it for it in self.spec.tensors(units) if it in self.counted]
        gain = sum(
            self._product(target, model, it, trial) - self._product(target, model, it, current)
            for it in names
        )
        scale = sum(float(target(it).norm() * model(it).norm()) for it in names)
        return trial[units] if gain > _ROUNDING * scale else None

    def _product(self, target: Read, model: Read, name: str, permutations: Permutations) -> float:
        theirs = self.spec.permuted(name, model(name), permutations)
        return float((target(name) * theirs).sum())

    def _neighbours(self, units: str) -> set[str]:
        """The units whose best order depends on that of these, themselves perhaps included."""
        found: set[str] = set()
        for name in self.spec.tensors(units):
            parts = [part.units for axis in self.spec.axes[name] for part in axis]
            parts.remove(units)
            found |= {it for it in parts if it is not None}
        return found

    # A start that finds copies

    def _nearest(self, target: Read, model: Read) -> Permutations | None:
        """The order by which sorted weights are nearest.

        None where they are not like a copy's: where many units have the same nearest one, and that
        is not because several are equal to it.
        """
        found = {}
        for name, units in self.spec.units.items():
            distance = torch.zeros(units.size, units.size, dtype=torch.float64)
            length = torch.zeros(units.size, dtype=torch.float64)
            for place in self.spec.places(name):
                ours, theirs = (
                    _rows(self._sorted(place, read(place.name)), place) for read in (target, model)
                )
                distance += ours.square().sum(1, keepdim=True) + theirs.square().sum(1)
                distance -= 2 * ours @ theirs.T
                length += ours.square().sum(1)
            least, place_of = distance.min(1)
            equal = bool((least <= _ROUNDING * length).all())
            if not equal and len(place_of.unique()) < _OWN * units.size:
                return None
            found[name] = constrained_assignment(-distance, units)
        return found

    def _sorted(self, place: Place, tensor: Tensor) -> Tensor:
        """The tensor without the order of any units but those of one run."""
        for number, axis in enumerate(self.spec.axes[place.name]):
            pieces = []
            start = 0
            for part in axis:
                run = tensor.narrow(number, start, part.numel)
                start += part.numel
                here = (number, start - part.numel) == (place.axis, place.start)
                if part.units is not None and not here:
                    run = run.unflatten(number, (part.size, part.block)).sort(number).values
                    run = run.flatten(number, number + 1)
                pieces.append(run)
            tensor = torch.cat(pieces, number) if len(pieces) > 1 else pieces[0]
        return tensor

    def _is_copy(self, target: Read, model: Read, permutations: Permutations) -> bool:
        return all(
            torch.equal(target(it), self.spec.permuted(it, model(it), permutations))
            for it in self.spec.axes
        )


def _rows(tensor: Tensor, place: Place) -> Tensor:
    """One run of units of a tensor, a row for each unit: `(units, all other elements)`."""
    run = tensor.narrow(place.axis, place.start, place.part.numel).movedim(place.axis, 0)
    return run.reshape(place.part.size, -1)
