"""What can be permuted in a plain chain of layers, told from names, order and shapes alone.

An MLP, or convolutions in a row with or without linear layers after them: each layer feeds the next
one and nothing else. Tensors do not say whether that is so, which is why it is stated as assumed,
and why whatever looks like anything else is refused.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import InvalidInputs
from ..family import is_averaged
from .units import Axis, Part, PermutationSpec, Units

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..checkpoints.checkpoint import TensorSpec

_OTHERWISE = (
    "Give the model with --task, whose graph tells it, or a file that says which axes are permuted "
    "together, with --align FILE (the documentation has an example)."
)
#: Of a layer of one value for each unit: gains and offsets, and running statistics.
_VECTORS = ("weight", "bias", "running_mean", "running_var")
_RUNNING = ("running_mean", "running_var")
# Words in names that stand for layers which do not feed the next one alone.
_BRANCHES = re.compile(
    r"attn|attention|downsample|shortcut|residual|skip|block|bottleneck|lstm|gru|rnn|embed|lora_"
    r"|in_proj|(?:^|\.)[qkv]_?proj|transpose|deconv|gate",
    re.IGNORECASE,
)
_NUMBERS = re.compile(r"(\d+)")
_MATRIX = 2
#: So many kinds of layers can be put in all orders to see which fit.
_MOST_KINDS = 5


@dataclass
class _Layer:
    """Tensors under one prefix: a weight matrix or kernel, or values for each unit."""

    prefix: str
    specs: dict[str, TensorSpec] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        found = self.specs.get("weight") or self.specs.get("running_mean")
        return found.shape if found else ()

    @property
    def is_weight(self) -> bool:
        return len(self.shape) >= _MATRIX

    @property
    def is_kernel(self) -> bool:
        return len(self.shape) > _MATRIX


def chain_spec(specs: Mapping[str, TensorSpec]) -> PermutationSpec:
    """What can be permuted in a chain with those tensors.

    Their order is that of the layers, unless it is alphabetical, which says nothing: then numbers
    in the names tell the order, and shapes. Raises `InvalidInputs`, with the reason and what to do
    instead, where the tensors are not those of a chain or could be those of several.
    """
    layers = _layers(specs)
    orders = _orders(layers, specs)
    chains = []
    reasons = []
    for order in orders:
        try:
            chains.append(_Chain(order))
        except _NoChain as error:
            reasons.append(str(error))
    if not chains:
        raise _refusal(reasons[0])
    if len(chains) > 1:
        told = "; or ".join(chain.told for chain in chains[:2])
        raise _refusal(
            f"the order of the layers cannot be told from the names and shapes. It may be {told}"
        )
    return chains[0].spec()


def _layers(specs: Mapping[str, TensorSpec]) -> list[_Layer]:
    found: dict[str, _Layer] = {}
    for name, spec in specs.items():
        prefix, _, own = name.rpartition(".")
        # Scalars, counters among them, have no units.
        if (spec.numel == 1 and len(spec.shape) < _MATRIX) or not is_averaged(spec.dtype):
            continue
        if _BRANCHES.search(name):
            raise _refusal(f"`{name}` looks like a part of something else than a plain chain")
        if len(re.findall(r"(?:^|\.)(?:layer|stage)?\d+\.\d+(?=\.)", name)):
            raise _refusal(f"`{name}` looks like a layer within a block, as residual networks have")
        layer = found.setdefault(prefix, _Layer(prefix))
        layer.specs[own] = spec
    for layer in found.values():
        _require_known(layer)
    if not any(layer.is_weight for layer in found.values()):
        raise _refusal("there is no weight matrix or kernel among the tensors")
    return list(found.values())


def _require_known(layer: _Layer) -> None:
    for own, spec in layer.specs.items():
        units = layer.shape[0] if layer.shape else 0
        known = own == "weight" or (own in _VECTORS and spec.shape == (units,))
        if not known:
            name = f"{layer.prefix}.{own}" if layer.prefix else own
            raise _refusal(f"what `{name}` of shape {list(spec.shape)} is cannot be told")
    if layer.is_weight and any(own in _RUNNING for own in layer.specs):
        raise _refusal(f"`{layer.prefix}` has both a matrix and running statistics")


# In which order the layers are


def _orders(layers: list[_Layer], specs: Mapping[str, TensorSpec]) -> list[list[_Layer]]:
    """The orders that may be meant: the file's, or what numbers in alphabetical names allow."""
    names = list(specs)
    by_size = sorted(names, key=lambda it: (-specs[it].dtype.itemsize, it))
    if names not in (sorted(names), by_size):
        return [layers]
    kinds: dict[tuple[str, ...], list[_Layer]] = {}
    for layer in layers:
        kinds.setdefault(_words(layer.prefix), []).append(layer)
    groups = [sorted(same, key=lambda layer: _numbers(layer.prefix)) for same in kinds.values()]
    if len(groups) > _MOST_KINDS:
        raise _refusal("the names are in alphabetical order, which says nothing of the layers'")
    norms = [same for same in groups if not any(layer.is_weight for layer in same)]
    weights = [same for same in groups if same not in norms]
    orders = [
        _with_norms([layer for same in order for layer in same], norms)
        for order in itertools.permutations(weights)
    ]
    if norms and None in orders:
        orders = [[it for same in order for it in same] for order in itertools.permutations(groups)]
    return [order for order in orders if order is not None]


def _with_norms(weights: list[_Layer], norms: list[list[_Layer]]) -> list[_Layer] | None:
    """The layers, each norm right behind the one with its number: conv1, bn1, conv2, bn2.

    None where some norm has no such layer or several.
    """
    order = {layer.prefix: [layer] for layer in weights}
    for norm in (it for same in norms for it in same):
        numbers = _numbers(norm.prefix)
        behind = [
            it for it in weights if _numbers(it.prefix) == numbers and it.shape[0] == norm.shape[0]
        ]
        if not numbers or len(behind) != 1:
            return None
        order[behind[0].prefix].append(norm)
    return [layer for together in order.values() for layer in together]


def _words(prefix: str) -> tuple[str, ...]:
    return tuple(_NUMBERS.split(prefix)[::2])


def _numbers(prefix: str) -> tuple[int, ...]:
    return tuple(int(it) for it in _NUMBERS.split(prefix)[1::2])


# Whether an order is a chain


class _NoChain(Exception):
    """Layers in this order do not feed each other."""


class _Chain:
    """Layers in an order in which each can feed the next one.

    Raises `_NoChain`, with the reason, where one cannot.
    """

    def __init__(self, layers: list[_Layer]) -> None:
        self.layers = layers
        self.units: dict[str, Units] = {}
        self.axes: dict[str, tuple[Axis, ...]] = {}
        self._last = max(i for i, layer in enumerate(layers) if layer.is_weight)
        self._before: _Layer | None = None
        self._axis: Axis = ()
        for number, layer in enumerate(layers):
            if layer.is_weight:
                self._add_weight(layer, is_last=number == self._last)
            else:
                self._add_vectors(layer)
        if not self.units:
            raise _NoChain("there is one layer only, which has no hidden units")

    @property
    def told(self) -> str:
        """The layers in their order, in words."""
        return " - ".join(layer.prefix or "the only layer" for layer in self.layers)

    def spec(self) -> PermutationSpec:
        assumed = (
            "Each layer feeds the next one and nothing else, and what is between them treats all "
            f"units alike. Their order is {self.told}. With --task this is read from the model "
            "instead of being assumed."
        )
        return PermutationSpec(self.units, self.axes, assumed)

    def _add_weight(self, layer: _Layer, *, is_last: bool) -> None:
        out, into, *kernel = layer.shape
        entering = self._entering(layer, into, out)
        leaving = () if is_last else self._leaving(layer, entering, into, out)
        if any(part.units for part in (*entering, *leaving)):
            self.axes[f"{layer.prefix}.weight"] = (
                leaving or _fixed(out),
                _fixed(into) if _is_depthwise(entering, into) else entering,
                *(_fixed(size) for size in kernel),
            )
        self._before, self._axis = layer, leaving
        self._give("bias", layer)

    def _entering(self, layer: _Layer, into: int, out: int) -> Axis:
        """The axis along which what the layer before gives comes in; of a depthwise one its units."""
        before = self._before
        if before is None:
            return _fixed(into)
        (part,) = self._axis
        given = part.numel
        if layer.is_kernel and not before.is_kernel:
            raise _NoChain(f"`{layer.prefix}` is a convolution behind the linear `{before.prefix}`")
        if into == given:
            return self._axis
        if before.is_kernel and not layer.is_kernel and into % given == 0:
            # What is flattened has the positions of one channel side by side.
            return (part._replace(block=part.block * (into // given)),)
        if layer.is_kernel and into == 1 and out % given == 0:
            return self._axis
        if layer.is_kernel and given % into == 0:
            raise _NoChain(
                f"`{layer.prefix}` is a grouped convolution, whose groups tie its channels"
            )
        raise _NoChain(f"`{before.prefix}` has {given} units and `{layer.prefix}` takes in {into}")

    def _leaving(self, layer: _Layer, entering: Axis, into: int, out: int) -> Axis:
        if _is_depthwise(entering, into):
            (part,) = entering
            return (part._replace(block=part.block * (out // part.numel)),)
        self.units[layer.prefix] = Units(out)
        return (Part(layer.prefix, out),)

    def _add_vectors(self, layer: _Layer) -> None:
        before = self._before
        if before is None or not self._axis:
            return
        (size,) = layer.shape
        if size != self._axis[0].numel:
            raise _NoChain(
                f"`{layer.prefix}` has {size} values behind the {self._axis[0].numel} units of "
                f"`{before.prefix}`"
            )
        if before.is_kernel and "bias" in layer.specs and "running_mean" not in layer.specs:
            raise _NoChain(
                f"`{layer.prefix}` may be a GroupNorm, whose groups the tensors do not tell"
            )
        for own in layer.specs:
            self._give(own, layer)

    def _give(self, own: str, layer: _Layer) -> None:
        if own in layer.specs and self._axis:
            self.axes[f"{layer.prefix}.{own}"] = (self._axis,)


def _is_depthwise(entering: Axis, into: int) -> bool:
    return sum(part.numel for part in entering) != into


def _fixed(size: int) -> Axis:
    return (Part(None, size),)


def _refusal(reason: str) -> InvalidInputs:
    return InvalidInputs(
        f"The checkpoints cannot be aligned by names and shapes: {reason}. {_OTHERWISE}"
    )
