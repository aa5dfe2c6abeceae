"""What layers in a model's graph do to dimensions, and which dimensions their tensors have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.modules import (
    activation,
    batchnorm,
    conv,
    dropout,
    instancenorm,
    padding,
    pooling,
    upsampling,
)

from .dims import Dim, Run, UnitSets, fixed
from .operations import Dims, Marked, Operations, marked_in

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOT_POINTWISE = (nn.MultiheadAttention, nn.GLU, nn.PReLU)
_DIMENSIONS = re.compile(r"([123])d$")
_BATCH_AND_CHANNELS = 2


class Rules(Operations):
    """The rules for layers, and what `Operations` has for functions.

    `parameters` has the dimensions of each parameter and buffer that has been seen, by its id.
    """

    def __init__(self, units: UnitSets) -> None:
        super().__init__(units)
        self.parameters: dict[int, Dims] = {}

    def module(
        self, name: str, layer: nn.Module, args: list[Any], kwargs: Mapping[str, Any], result: Any
    ) -> Any:
        """The result of a layer with its dimensions marked."""
        tensors = marked_in([args, kwargs])
        dims = None
        if len(tensors) == 1 and isinstance(result, Tensor) and _has_own_tensors(layer):
            dims = self._layer_dims(name, layer, tensors[0], result)
        return self._unknown(name, tensors, result) if dims is None else Marked(result, dims)

    def parameter(self, tensor: Tensor, name: str) -> Marked:
        """A parameter or buffer that the model uses by itself: each dimension has units of its own."""
        if id(tensor) not in self.parameters:
            self.parameters[id(tensor)] = tuple(
                self.units.new(f"{name}:{number}", size) for number, size in enumerate(tensor.shape)
            )
        return Marked(tensor, self.parameters[id(tensor)])

    def _layer_dims(
        self, name: str, layer: nn.Module, given: Marked, result: Tensor
    ) -> Dims | None:
        if isinstance(layer, nn.Linear):
            return self._linear(name, layer, given)
        if isinstance(layer, conv._ConvNd):  # noqa: SLF001 - the only common name of convolutions
            return self._convolution(name, layer, given, result)
        if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
            return self._embedding(name, layer, result)
        if isinstance(layer, (batchnorm._BatchNorm, instancenorm._InstanceNorm)):  # noqa: SLF001
            return self._batch_norm(name, layer, given)
        if isinstance(layer, nn.GroupNorm):
            return self._group_norm(name, layer, given)
        if isinstance(layer, nn.LayerNorm) or type(layer).__name__ == "RMSNorm":
            return self._layer_norm(name, layer, given)
        if isinstance(layer, nn.PReLU):
            if layer.num_parameters > 1:
                self._own(name, layer.weight, given.dims[1])
            return given.dims
        return self._without_tensors(name, layer, given, result)

    def _without_tensors(
        self, name: str, layer: nn.Module, given: Marked, result: Tensor
    ) -> Dims | None:
        kind = type(layer).__module__
        if isinstance(layer, (nn.Flatten, nn.Unflatten)):
            return self.reshaped(given, tuple(result.shape))
        if kind == pooling.__name__:
            found = _DIMENSIONS.search(type(layer).__name__)
            return self.pooled(name, given, int(found[1]), result) if found else None
        if kind in (padding.__name__, upsampling.__name__):
            return self.resized(name, given, result)
        pointwise = kind in (activation.__name__, dropout.__name__) or isinstance(
            layer, nn.Identity
        )
        if pointwise and not isinstance(layer, _NOT_POINTWISE):
            return self.pointwise(name, [given], result)
        return None

    def _linear(self, name: str, layer: nn.Linear, given: Marked) -> Dims:
        out = self._leaving(name, layer.weight, 0, layer.out_features)
        self._own(name, layer.weight, out, given.dims[-1])
        self._own(name, layer.bias, out)
        return (*given.dims[:-1], out)

    def _convolution(
        self, name: str, layer: conv._ConvNd, given: Marked, result: Tensor
    ) -> Dims | None:
        kernel = [fixed(size) for size in layer.kernel_size]
        channel = given.value.dim() - len(kernel) - 1
        self.units.keep(given.dims[channel + 1 :], f"`{name}` runs over it")
        into = given.dims[channel]
        transposed = layer.transposed
        if layer.groups == 1:
            out = self._leaving(name, layer.weight, int(transposed), layer.out_channels)
            sides = (into, out) if transposed else (out, into)
        elif layer.groups == layer.in_channels:
            # Depthwise: every channel gives rise to some of its own.
            times = layer.out_channels // layer.in_channels
            out = tuple(_repeated(run, times) for run in into)
            sides = (into, fixed(times)) if transposed else (out, fixed(1))
        else:
            self.units.keep([into], f"it goes into `{name}`, a grouped convolution")
            if transposed:
                return None
            out = self._leaving(name, layer.weight, 0, layer.out_channels)
            self.units.divide(out, layer.groups, f"`{name}` is grouped otherwise", movable=False)
            sides = (out, fixed(layer.in_channels // layer.groups))
        self._own(name, layer.weight, *sides, *kernel)
        self._own(name, layer.bias, out)
        spatial = (fixed(size) for size in result.shape[channel + 1 :])
        return (*given.dims[:channel], out, *spatial)

    def _embedding(self, name: str, layer: nn.Embedding | nn.EmbeddingBag, result: Tensor) -> Dims:
        out = self._leaving(name, layer.weight, 1, layer.embedding_dim)
        self._own(name, layer.weight, fixed(layer.num_embeddings), out)
        return (*(fixed(size) for size in result.shape[:-1]), out)

    def _batch_norm(self, name: str, layer: Any, given: Marked) -> Dims | None:
        channel = 1
        if isinstance(layer, instancenorm._InstanceNorm):  # noqa: SLF001
            found = _DIMENSIONS.search(type(layer).__name__)
            if found is None:
                return None
            channel = given.value.dim() - int(found[1]) - 1
            self.units.keep(given.dims[channel + 1 :], f"`{name}` runs over it")
        for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
            self._own(name, tensor, given.dims[channel])
        return given.dims

    def _group_norm(self, name: str, layer: nn.GroupNorm, given: Marked) -> Dims:
        reason = f"the groups of `{name}` cut across its units"
        self.units.divide(given.dims[1], layer.num_groups, reason, movable=True)
        self._own(name, layer.weight, given.dims[1])
        self._own(name, layer.bias, given.dims[1])
        return given.dims

    def _layer_norm(self, name: str, layer: Any, given: Marked) -> Dims:
        normalized = given.dims[-len(layer.normalized_shape) :]
        self._own(name, layer.weight, *normalized)
        self._own(name, getattr(layer, "bias", None), *normalized)
        return given.dims

    def _leaving(self, name: str, weight: Tensor, axis: int, size: int) -> Dim:
        """The units that leave a layer: those of its weight, where that has been seen before."""
        known = self.parameters.get(id(weight))
        return known[axis] if known else self.units.new(name, size)

    def _own(self, name: str, tensor: Tensor | None, *dims: Dim) -> None:
        if tensor is None:
            return
        known = self.parameters.get(id(tensor))
        if known:
            reason = f"`{name}` shares weights with a layer in another order"
            dims = tuple(self.units.join(pair, reason) for pair in zip(known, dims))
        self.parameters[id(tensor)] = dims


def _repeated(run: Run, times: int) -> Run:
    if run.units is None:
        return Run(None, run.numel * times)
    return run._replace(block=run.block * times)


def _has_own_tensors(layer: nn.Module) -> bool:
    """Whether what the layer computes with is what it stores: not where that is parametrized."""
    return not hasattr(layer, "parametrizations") and not layer._forward_pre_hooks  # noqa: SLF001
