"""Which units each axis of a tensor in a model's graph stands for, and units found to be the same."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from .units import Axis, Part, Units

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Run(NamedTuple):
    """`size` units of a set, each `block` elements long; without a set, elements in fixed order."""

    units: int | None
    size: int
    block: int = 1

    @property
    def numel(self) -> int:
        """How many elements it covers."""
        return self.size * self.block


#: One dimension of a value: the runs that it consists of.
Dim = tuple[Run, ...]

_MOST_REPEATS = 16


def fixed(size: int) -> Dim:
    """A dimension in which nothing moves."""
    return (Run(None, size),)


def length(dim: Dim) -> int:
    """How many elements a dimension has."""
    return sum(run.numel for run in dim)


class UnitSets:
    """Sets of units, joined where a model's graph shows that they are permuted together."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._names: list[str] = []
        self._units: list[Units] = []
        self._kept: dict[int, str] = {}

    def new(self, name: str, size: int) -> Dim:
        """A dimension of new units, which are named after the layer that they leave."""
        self._parent.append(len(self._parent))
        self._names.append(name)
        self._units.append(Units(size))
        return (Run(len(self._parent) - 1, size),)

    def is_fixed(self, dim: Dim) -> bool:
        """Whether nothing moves in that dimension."""
        return all(run.units is None or self._root(run.units) in self._kept for run in dim)

    def keep(self, dims: Iterable[Dim], reason: str) -> None:
        """Let the units of all these dimensions stay where they are."""
        for dim in dims:
            for run in dim:
                if run.units is not None:
                    self._kept.setdefault(self._root(run.units), reason)

    def join(self, dims: Sequence[Dim], reason: str) -> Dim:
        """Dimensions that are worked on element by element: their units become the same.

        Where they are cut into other runs, all of them are kept for that reason.
        """
        long = [dim for dim in dims if length(dim) != 1] or list(dims)
        first = long[0]
        for other in long[1:]:
            if [run[1:] for run in first] != [run[1:] for run in other]:
                if not (self.is_fixed(first) and self.is_fixed(other)):
                    self.keep(long, reason)
                return first
            for ours, theirs in zip(first, other):
                self._unite(ours, theirs, reason)
        return first

    def divide(self, dim: Dim, blocks: int, reason: str, *, movable: bool) -> None:
        """Let units move only within equal blocks of that dimension, and blocks only if `movable`."""
        if self.is_fixed(dim) or blocks == 1 or (movable and blocks == length(dim)):
            return
        if len(dim) > 1 or dim[0].size % blocks:
            self.keep([dim], reason)
            return
        assert dim[0].units is not None
        root = self._root(dim[0].units)
        self._units[root] = _narrowed(self._units[root], blocks, movable=movable)

    def axis(self, dim: Dim) -> Axis:
        """The dimension as an axis of a tensor, by the names of its units."""
        found = []
        for run in dim:
            root = None if run.units is None else self._root(run.units)
            if root is None or root in self._kept:
                found.append(Part(None, run.numel))
            else:
                found.append(Part(self._names[root], run.size, run.block))
        return tuple(found)

    def moving(self) -> dict[str, Units]:
        """The sets of units that may move, by name."""
        roots = dict.fromkeys(self._root(it) for it in range(len(self._parent)))
        return {self._names[it]: self._units[it] for it in roots if it not in self._kept}

    def kept(self) -> dict[str, str]:
        """Layers whose units stay where they are although they are hidden ones, and why."""
        return {
            name: self._kept[self._root(number)]
            for number, name in enumerate(self._names)
            if self._root(number) in self._kept and self._kept[self._root(number)]
        }

    def _root(self, number: int) -> int:
        while self._parent[number] != number:
            number = self._parent[number]
        return number

    def _unite(self, ours: Run, theirs: Run, reason: str) -> None:
        if ours.units is None or theirs.units is None:
            self.keep([(ours,), (theirs,)], reason)
            return
        first, second = sorted((self._root(ours.units), self._root(theirs.units)))
        if first == second:
            return
        self._parent[second] = first
        ours_, theirs_ = self._units[first], self._units[second]
        if theirs_.blocks > 1:
            self._units[first] = _narrowed(ours_, theirs_.blocks, movable=theirs_.movable)
        if second in self._kept:
            self._kept.setdefault(first, self._kept.pop(second))


def merged(dims: Sequence[Dim]) -> Dim | None:
    """Adjacent dimensions as one, or None where that has no simple description."""
    moving = [
        number for number, dim in enumerate(dims) if any(run.units is not None for run in dim)
    ]
    if not moving:
        return fixed(math.prod(length(dim) for dim in dims))
    if len(moving) > 1:
        return None
    place = moving[0]
    before = math.prod(length(dim) for dim in dims[:place])
    after = math.prod(length(dim) for dim in dims[place + 1 :])
    if before > _MOST_REPEATS:
        return None
    inner = tuple(
        run._replace(block=run.block * after)
        if run.units is not None
        else Run(None, run.numel * after)
        for run in dims[place]
    )
    return inner * before


def _narrowed(units: Units, blocks: int, *, movable: bool) -> Units:
    """Units that also stay within other blocks: at worst within the smallest common ones."""
    if units.blocks in (1, blocks):
        return Units(units.size, blocks, movable and (units.movable or units.blocks == 1))
    smallest = math.gcd(units.size // units.blocks, units.size // blocks)
    return Units(units.size, units.size // smallest, movable=False)
