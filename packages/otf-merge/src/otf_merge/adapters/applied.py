"""The task's model with a low-rank adapter in it: its deltas added to the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..errors import InvalidTask
from .based import base_model, submodule
from .lora import read_adapter, read_finite
from .names import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from ..parents import Parent
    from ..task import Task
    from .lora import Adapter, Factors


def applied(
    task: Task, adapter: Parent, base: Parent | None, parameters: Mapping[str, Any]
) -> nn.Module:
    """The task's model, which has the base's weights, with the adapter's deltas added to them.

    DoRA's magnitudes scale the sum's rows, `m * (W + D) / |W + D|`; what stands in the place of a
    tensor of the base is put there. Raises `InvalidTask` where the model has no such modules.
    """
    model = base_model(task, base)
    read = read_adapter(adapter, parameters.get("lora_alpha"), lone=True)
    with torch.no_grad():
        for module, factors in read.factors.items():
            _add(submodule(model, module, read.label), read, module, factors)
        own: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        for name in read.others:
            place = canonical(name).replace(".base_layer.", ".")
            if place not in own or own[place].shape != adapter.checkpoint.specs[name].shape:
                raise InvalidTask(
                    f"`{read.label}` holds `{name}`, for which the task's model has no tensor "
                    f"`{place}` of that shape. Let the task's `model` make the adapters' base."
                )
            own[place].copy_(read_finite(read.checkpoint, name))
    return model


def _add(layer: nn.Module, adapter: Adapter, module: str, factors: Factors) -> None:
    weight: Tensor = getattr(layer, "weight", torch.empty(0))
    delta = (factors.scaling * factors.b() @ factors.a()).to(weight.device)
    inputs_first = factors.embedding or _inputs_first(layer, adapter)
    if inputs_first:
        delta = delta.T
    if delta.numel() != weight.numel() or len(delta) != len(weight):
        raise InvalidTask(
            f"The adapter `{adapter.label}` changes `{module}` by a matrix of "
            f"{list(delta.shape)}, and the task's model has {list(weight.shape)} there. Let the "
            "task's `model` make the adapters' base."
        )
    changed = weight.to(torch.float64) + delta.reshape(weight.shape)
    if module in adapter.magnitudes:
        changed = _scaled(changed, adapter, module, inputs_first)
    weight.copy_(changed)
    if factors.has_bias:
        bias: Tensor = layer.bias  # type: ignore[assignment]
        bias.copy_(bias + (factors.scaling * factors.tensor("bias")).to(bias.device))


def _scaled(weight: Tensor, adapter: Adapter, module: str, inputs_first: bool) -> Tensor:
    """The weight with each output's row as long as the adapter's magnitude says."""
    rows = weight.T if inputs_first else weight
    magnitudes = read_finite(adapter.checkpoint, adapter.magnitudes[module]).to(weight.device)
    if magnitudes.numel() != len(rows):
        raise InvalidTask(
            f"The adapter `{adapter.label}` has {magnitudes.numel()} magnitudes for `{module}`, which "
            f"has {len(rows)} outputs. Such an adapter cannot be tried here; leave the task out."
        )
    flat = rows.flatten(1)
    scaled = (flat * (magnitudes.reshape(-1) / flat.norm(dim=1))[:, None]).reshape(rows.shape)
    found: Tensor = scaled.T if inputs_first else scaled
    return found


def _inputs_first(layer: nn.Module, adapter: Adapter) -> bool:
    """Whether the layer's matrix has its inputs first, as Transformers' Conv1D has."""
    if adapter.config is not None and adapter.config.transposes:
        return True
    return type(layer).__name__ == "Conv1D"
