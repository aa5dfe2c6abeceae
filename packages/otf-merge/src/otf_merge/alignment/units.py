"""Which axes of which tensors are permuted together, and tensors permuted by that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor


class Part(NamedTuple):
    """A run of an axis: `size` units of `block` elements each, permuted as `units` says.

    Without `units` it stays as it is.
    """

    units: str | None
    size: int
    block: int = 1

    @property
    def numel(self) -> int:
        """How many elements of the axis it covers."""
        return self.size * self.block


#: An axis of a tensor from its first element to its last.
Axis = tuple[Part, ...]
#: For each set of units that moves, which old unit comes to each new place.
Permutations = dict[str, "Tensor"]


class Units(NamedTuple):
    """Hidden units that may be reordered without a change of what the network computes.

    Where there is more than one of `blocks`, of equal sizes, a unit stays within its block. Where
    they are `movable`, whole blocks may change places too, as the groups of a GroupNorm may.
    """

    size: int
    blocks: int = 1
    movable: bool = True


class Place(NamedTuple):
    """One run of units in a tensor: the axis it is on and the first element there."""

    name: str
    axis: int
    start: int
    part: Part


@dataclass(frozen=True)
class PermutationSpec:
    """What can be permuted in checkpoints of one model, under the first checkpoint's names.

    `axes` has, for each tensor in which anything moves, its axes; all other tensors stay as they
    are. `assumed` says what was taken for granted, `kept` why units that a layer has are not among
    `units`.
    """

    units: Mapping[str, Units]
    axes: Mapping[str, tuple[Axis, ...]]
    assumed: str = ""
    kept: Mapping[str, str] = field(default_factory=dict)

    def places(self, units: str) -> Iterator[Place]:
        """Every run of those units."""
        for name, axes in self.axes.items():
            for number, axis in enumerate(axes):
                start = 0
                for part in axis:
                    if part.units == units:
                        yield Place(name, number, start, part)
                    start += part.numel

    def tensors(self, units: str) -> list[str]:
        """The names of the tensors that those units are an axis of, each once."""
        return list(dict.fromkeys(place.name for place in self.places(units)))

    def identity(self) -> Permutations:
        """All units in the places that they have."""
        return {name: torch.arange(units.size) for name, units in self.units.items()}

    def permuted(
        self, name: str, tensor: Tensor, permutations: Permutations, but: int | None = None
    ) -> Tensor:
        """The tensor of that name with its units in the order that the permutations say.

        The axis `but` is left as it is. Where nothing moves it is the tensor itself.
        """
        for number, axis in enumerate(self.axes.get(name, ())):
            if number != but and any(part.units is not None for part in axis):
                index = axis_index(axis, permutations).to(tensor.device)
                tensor = tensor.index_select(number, index)
        return tensor

    def random(self, generator: torch.Generator) -> Permutations:
        """Any of the allowed orders."""
        return {name: _random_order(units, generator) for name, units in self.units.items()}


def axis_index(axis: Axis, permutations: Permutations) -> Tensor:
    """For each new place along the axis, the old one: int64 of the axis's length."""
    start = 0
    pieces = []
    for part in axis:
        order = torch.arange(part.size) if part.units is None else permutations[part.units]
        within = torch.arange(part.block)
        pieces.append((order.unsqueeze(1) * part.block + within).reshape(-1) + start)
        start += part.numel
    return torch.cat(pieces)


def _random_order(units: Units, generator: torch.Generator) -> Tensor:
    size = units.size // units.blocks
    order = torch.arange(units.blocks)
    if units.movable:
        order = torch.randperm(units.blocks, generator=generator)
    return torch.cat([torch.randperm(size, generator=generator) + it * size for it in order])
