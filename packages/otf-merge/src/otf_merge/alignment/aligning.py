"""Checkpoints aligned to the first of them, or to the base, and what that changed."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputsDiffer, InvalidInputs
from ..family import is_averaged
from ..parents import Parent
from ..progress import unwatched
from .aligned import AlignedCheckpoint
from .matching import Match, Matcher
from .mutual import matched_together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ..progress import Progress
    from .matching import Read
    from .units import Permutations, PermutationSpec

# Tensors that are looked at again and again are kept in memory as float64, up to this many bytes
# for each checkpoint.
_HELD = 1 << 28
_STATISTICS = ("running_mean", "running_var")


def align(
    parents: Sequence[Parent],
    spec: PermutationSpec,
    *,
    reference: Parent | None = None,
    seed: int = 0,
    rounds: int = 100,
    restarts: int = 0,
    mutual: bool = False,
    progress: Progress = unwatched,
) -> tuple[list[Parent], dict[str, Any]]:
    """The parents with their hidden units in the order of the reference's, and a report.

    The reference is the first parent unless another is given, such as the base; it stays as it is.
    All parents are matched to it one by one. With `mutual` they are then matched to the average of
    all others in turn, until no match improves (MergeMany, algorithm 3 of arXiv:2209.04836), and
    brought back as they are into the order of the reference; the reference must be a parent then.

    What comes back reads like what went in, a tensor at a time (`AlignedCheckpoint`). Running
    statistics of normalisation move with their layer and count for nothing in the matching. The
    report says, in plain values, for each parent how many rounds the descent took from which start,
    and how similar it was before and after: cosines, of all weights and layer by layer, and the
    Euclidean distance. `rounds` is at most that many; `restarts` adds descents from random orders.
    Raises `InputsDiffer` where the parents do not have the tensors of the spec.
    """
    reference = reference or parents[0]
    for parent in [reference, *parents]:
        _require_tensors(parent, spec)
    counted = [it for it in spec.axes if _counts(it, reference)]
    matcher = Matcher(spec, counted, seed, rounds)
    target = _Held(reference)
    matches: list[Match] = []
    for number, parent in enumerate(parents):
        progress(number, len(parents), "steps")
        same = parent is reference
        matches.append(
            Match(spec.identity(), 0, 0, "reference")
            if same
            else matcher.matched(target.read, _Held(parent).read, restarts)
        )
    if mutual:
        place = next((i for i, parent in enumerate(parents) if parent is reference), None)
        if place is None:
            raise InvalidInputs(
                "Parents that are aligned to each other keep the order of one of them, and the "
                "reference is none of them. Align them to the first one, or without `mutual`."
            )
        matches = matched_together(matcher, [_Held(it).read for it in parents], matches, place)
    progress(len(parents), len(parents), "steps")
    aligned = [
        parent
        if match.start == "reference"
        else Parent(AlignedCheckpoint(parent, spec, match.permutations), parent.names)
        for parent, match in zip(parents, matches)
    ]
    report = {
        "reference": reference.label,
        "assumed": spec.assumed,
        "kept": dict(spec.kept),
        "units": {name: units.size for name, units in spec.units.items()},
        "parents": [
            _told(parent, match, Comparison(spec, counted, target.read, _Held(parent).read))
            for parent, match in zip(parents, matches)
            if match.start != "reference"
        ],
    }
    return aligned, report


class _Held:
    """A parent's tensors in float64, the last used ones kept in memory."""

    def __init__(self, parent: Parent) -> None:
        self._parent = parent
        self._kept: OrderedDict[str, Tensor] = OrderedDict()
        self._size = 0

    def read(self, name: str) -> Tensor:
        found = self._kept.pop(name, None)
        if found is None:
            stored = self._parent.tensor(name)
            # A complex number counts as two.
            real = torch.view_as_real(stored) if stored.is_complex() else stored
            found = real.to(torch.float64, copy=True)
            self._size += found.nbytes
        self._kept[name] = found
        while self._size > _HELD and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._size -= dropped.nbytes
        return found


@dataclass(frozen=True)
class Comparison:
    """How near a model is to another, by the tensors in which units move."""

    spec: PermutationSpec
    counted: Sequence[str]
    target: Read
    model: Read

    def told(self, permutations: Permutations) -> dict[str, Any]:
        """The cosine of all weights, that of each layer's, and the distance, in that order."""
        products = dict.fromkeys(self.spec.units, 0.0)
        ours, theirs = dict(products), dict(products)
        all_products = all_ours = all_theirs = distance = 0.0
        for name in self.counted:
            first, second = (
                self.target(name),
                self.spec.permuted(name, self.model(name), permutations),
            )
            product, a, b = (
                float((x * y).sum()) for x, y in ((first, second), (first, first), (second, second))
            )
            all_products, all_ours, all_theirs = (
                all_products + product,
                all_ours + a,
                all_theirs + b,
            )
            distance += float((first - second).square().sum())
            for units in {part.units for axis in self.spec.axes[name] for part in axis} - {None}:
                assert units is not None
                products[units] += product
                ours[units] += a
                theirs[units] += b
        return {
            "similarity": _cosine(all_products, all_ours, all_theirs),
            "distance": math.sqrt(distance),
            "layers": {it: _cosine(products[it], ours[it], theirs[it]) for it in self.spec.units},
        }


def _told(parent: Parent, match: Match, comparison: Comparison) -> dict[str, Any]:
    identity = comparison.spec.identity()
    before, after = comparison.told(identity), comparison.told(match.permutations)
    return {
        "parent": parent.label,
        "start": match.start,
        "rounds": match.rounds,
        "similarity": {"before": before["similarity"], "after": after["similarity"]},
        "distance": {"before": before["distance"], "after": after["distance"]},
        "layers": {
            name: {
                "before": before["layers"][name],
                "after": after["layers"][name],
                "moved": int((match.permutations[name] != identity[name]).sum()),
            }
            for name in comparison.spec.units
        },
    }


def _cosine(product: float, ours: float, theirs: float) -> float:
    length = math.sqrt(ours) * math.sqrt(theirs)
    return product / length if length else 1.0


def _counts(name: str, reference: Parent) -> bool:
    return is_averaged(reference.specs[name].dtype) and name.rpartition(".")[2] not in _STATISTICS


def _require_tensors(parent: Parent, spec: PermutationSpec) -> None:
    for name, axes in spec.axes.items():
        shape = tuple(sum(part.numel for part in axis) for axis in axes)
        found = parent.specs.get(name)
        if found is None or found.shape != shape:
            there = f"there it is {list(found.shape)}" if found else "it has none"
            raise InputsDiffer(
                f"`{parent.label}` cannot be aligned: it should have `{name}` of shape "
                f"{list(shape)}, and {there}. Align checkpoints of one architecture only."
            )
