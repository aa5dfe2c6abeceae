"""The adapters in a checkpoint as modules that are put beside the layers of the task's model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from ..errors import InvalidInputs, InvalidTask
from .based import submodule
from .bottleneck import read_bottlenecks
from .branches import LowRank
from .lora import read_adapter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..parents import Parent
    from .lora import Adapter, Factors


def branches_of(
    parent: Parent, model: nn.Module, parameters: Mapping[str, Any]
) -> dict[str, nn.Module]:
    """The checkpoint's adapters by the paths of their layers, low-rank ones and bottlenecks.

    `parameters` are `adapter-fusion`'s. Raises `InvalidInputs` where there are none or the
    checkpoint holds something else too, `InvalidTask` where the model has no such layers.
    """
    read = read_adapter(parent, parameters["lora_alpha"], lone=True)
    bottlenecks, rest = read_bottlenecks(
        *(read.label, read.checkpoint, read.others),
        *(parameters["pattern"], parameters["activation"]),
    )
    found: dict[str, nn.Module] = {}
    if read.magnitudes:
        raise InvalidInputs(
            f"`{read.label}` is a DoRA adapter, which scales the base's weights beside adding to "
            "them, so that it has no output of its own to attend to. Use adapter-svd."
        )
    if rest:
        raise InvalidInputs(
            f"`{read.label}` holds `{rest[0]}`{_more(len(rest) - 1)}, which is no adapter by its name. "
            "Fusion leaves the base as it is: put what stands in the place of a tensor of the base "
            "into the task's model, or give a `pattern` for bottleneck adapters."
        )
    for module, factors in read.factors.items():
        _require_linear(submodule(model, module, read.label), read, module, factors)
        found[module] = _low_rank(factors)
    for layer, bottleneck in bottlenecks.items():
        submodule(model, layer, read.label)
        if layer in found:
            raise InvalidInputs(f"`{read.label}` has two adapters at `{layer}`. Name one a file.")
        found[layer] = bottleneck
    if not found:
        raise InvalidInputs(f"`{read.label}` holds no tensors, so there is no adapter to fuse.")
    return found


def _low_rank(factors: Factors) -> LowRank:
    dtype = factors.spec("A").dtype
    bias = factors.tensor("bias").to(dtype) if factors.has_bias else None
    return LowRank(factors.a().to(dtype), factors.b().to(dtype), factors.scaling, bias)


def _require_linear(layer: nn.Module, adapter: Adapter, module: str, factors: Factors) -> None:
    if factors.embedding or not isinstance(layer, nn.Linear):
        raise InvalidInputs(
            f"`{adapter.label}` adapts `{module}`, a {type(layer).__name__} in the task's model, and "
            "attention is learned over adapters of linear layers alone. Use adapter-svd."
        )
    inputs, outputs = factors.spec("A").shape[-1], factors.spec("B").shape[0]
    if (inputs, outputs) != (layer.in_features, layer.out_features):
        raise InvalidTask(
            f"`{adapter.label}` adapts `{module}` from {inputs} to {outputs} numbers, and in the "
            f"task's model it goes from {layer.in_features} to {layer.out_features}. Let the task's "
            "`model` make the base that the adapters were trained on."
        )


def _more(count: int) -> str:
    return f" and {count} more" if count else ""
